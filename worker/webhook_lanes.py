"""How many events go to one receiver at once, so that one which does not answer holds up nobody else."""

import threading
import time
from collections import defaultdict
from urllib.parse import urlsplit

_AT_ONCE = 8  # deliveries to one host
_SHORTEST_WAIT_S = 0.25


class Lanes:
    """A few places for each host that is called."""

    def __init__(self) -> None:
        """All are free."""
        self._lock = threading.Lock()
        self._began: defaultdict[str, list[float]] = defaultdict(list)

    def enter(self, url: str) -> float:
        """0 if there is a place, which is taken now; else the seconds after which to ask again.

        A host whose calls are done soon is asked for soon, one that hangs is not.
        """
        with self._lock:
            began = self._began[_host(url)]
            if len(began) < _AT_ONCE:
                began.append(time.monotonic())
                return 0.0
            return max(_SHORTEST_WAIT_S, time.monotonic() - began[0])

    def leave(self, url: str) -> None:
        """Give a place back."""
        with self._lock:
            host = _host(url)
            self._began[host].pop(0)
            if not self._began[host]:
                del self._began[host]


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or url
    except ValueError:  # it is no URL, as will be found when it is called
        return url
