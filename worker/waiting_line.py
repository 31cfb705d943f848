"""What waits for a model."""

import queue
import threading
import time
from collections import deque
from typing import Generic, TypeVar

from maskline.jobs import INTERACTIVE_PER_BULK
from maskline.requests import Priority

T = TypeVar("T")


class WaitingLine(Generic[T]):
    """Interactive ones first, yet a bulk one's turn comes too. Safe to use from many threads."""

    def __init__(self) -> None:
        self._lanes: dict[Priority, deque[T]] = {priority: deque() for priority in Priority}
        self._since_bulk = 0
        self._is_closed = False
        self._changed = threading.Condition()

    def put(self, item: T, priority: Priority) -> None:
        """Let it wait."""
        with self._changed:
            self._lanes[priority].append(item)
            self._changed.notify()

    def close(self) -> None:
        """Let ``get`` give None once nothing waits any more."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def get(self, timeout_s: float | None = None) -> T | None:
        """What is next; None: the line is closed, and nothing waits.

        Raises:
            queue.Empty: nothing came within the time.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        with self._changed:
            while not any(self._lanes.values()):
                left = None if deadline is None else deadline - time.monotonic()
                if self._is_closed:
                    return None
                if left is not None and left <= 0:
                    raise queue.Empty
                self._changed.wait(left)
            return self._lanes[self._next_lane()].popleft()

    def _next_lane(self) -> Priority:
        interactive, bulk = (self._lanes[priority] for priority in (Priority.INTERACTIVE, Priority.BULK))
        if interactive and (not bulk or self._since_bulk < INTERACTIVE_PER_BULK):
            self._since_bulk += 1 if bulk else 0
            return Priority.INTERACTIVE
        self._since_bulk = 0
        return Priority.BULK
