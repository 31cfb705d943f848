"""What was made of images, kept for the next request on the same image."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class SizedCache(Generic[T]):
    """A store bounded in bytes; what was used least recently leaves first. Safe to use from many threads."""

    def __init__(self, max_bytes: int, size_of: Callable[[T], int]) -> None:
        """``size_of``: bytes of an entry. What is larger than ``max_bytes`` is never kept."""
        self._max_bytes = max_bytes
        self._size_of = size_of
        self._lock = threading.Lock()
        self._bytes = 0
        self._kept: OrderedDict[Hashable, T] = OrderedDict()

    def find(self, key: Hashable) -> T | None:
        """The entry of this key, if it is there."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def keep(self, key: Hashable, made: T) -> None:
        """Put an entry in, unless it is there."""
        size = self._size_of(made)
        with self._lock:
            if size > self._max_bytes or key in self._kept:
                return
            self._kept[key] = made
            self._bytes += size
            while self._bytes > self._max_bytes:
                _, oldest = self._kept.popitem(last=False)
                self._bytes -= self._size_of(oldest)

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The entry of this key, made if it is not there."""
        found = self.find(key)
        if found is None:
            found = make()
            self.keep(key, found)
        return found
