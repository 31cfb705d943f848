"""Texts that are worth keeping for a moment."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable


class KeptTexts:
    """The texts made last, each for a limited time. Safe to use from many threads."""

    def __init__(self, most: int, for_s: float) -> None:
        """``most``: texts at once; ``for_s``: how long one is good."""
        self._most = most
        self._for_s = for_s
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, tuple[float, str]] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], str]) -> str:
        """The text of this key; made now, if it is not there or too old."""
        now = time.monotonic()
        known = self._kept.get(key)
        if known is not None and known[0] > now:
            return known[1]
        text = make()
        with self._lock:
            self._kept[key] = (now + self._for_s, text)
            self._kept.move_to_end(key)
            if len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return text
