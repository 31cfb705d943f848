"""What was computed of images, kept for the next request on the same image."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class EmbeddingCache(Generic[T]):
    """A store bounded in bytes; what was used least recently leaves first. For one thread."""

    def __init__(self, max_bytes: int, size_of: Callable[[T], int]) -> None:
        """``size_of``: bytes of an entry. What is larger than ``max_bytes`` is never kept."""
        self._max_bytes = max_bytes
        self._size_of = size_of
        self._bytes = 0
        self._kept: OrderedDict[Hashable, T] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The entry of this key, made if it is not there."""
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        made = make()
        size = self._size_of(made)
        if size <= self._max_bytes:
            self._kept[key] = made
            self._bytes += size
            while self._bytes > self._max_bytes:
                _, oldest = self._kept.popitem(last=False)
                self._bytes -= self._size_of(oldest)
        return made
