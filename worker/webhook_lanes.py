"""How many events go to one receiver at once, and how many of one tenant, so that a receiver which does not
answer holds up nobody else."""

import threading
import time
from collections import defaultdict
from urllib.parse import urlsplit

_OF_A_HOST = 8  # deliveries to one host
_SHORTEST_WAIT_S = 0.25


class Lanes:
    """Places for calls, a few for each host, and for each tenant no more than are left for the others."""

    def __init__(self, places: int) -> None:
        """All ``places`` are free."""
        self._lock = threading.Lock()
        self._free = places
        self._of_hosts: defaultdict[str, list[float]] = defaultdict(list)
        self._of_tenants: defaultdict[str, list[float]] = defaultdict(list)

    def enter(self, tenant: str, url: str) -> float:
        """0 if there is a place, which is taken now; else the seconds after which to ask again.

        Who waits for calls that are done soon is told to ask soon, who waits for some that hang is not. A
        tenant that is alone has half of the places at most, so the next one finds some whatever hangs.
        """
        with self._lock:
            now, host = time.monotonic(), _host(url)
            for began, most in ((self._of_hosts[host], _OF_A_HOST), (self._of_tenants[tenant], self._free)):
                if len(began) >= most:
                    return max([_SHORTEST_WAIT_S, *(now - first for first in began[:1])])
            self._free -= 1
            self._of_hosts[host].append(now)
            self._of_tenants[tenant].append(now)
            return 0.0

    def leave(self, tenant: str, url: str) -> None:
        """Give a place back."""
        with self._lock:
            self._free += 1
            _end_first(self._of_hosts, _host(url))
            _end_first(self._of_tenants, tenant)


def _end_first(began: dict[str, list[float]], whose: str) -> None:
    began[whose].pop(0)
    if not began[whose]:
        del began[whose]


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or url
    except ValueError:  # it is no URL, as will be found when it is called
        return url
