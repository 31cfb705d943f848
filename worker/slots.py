"""The jobs that a worker runs at once; bulk ones leave room, so that an interactive one need not wait."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from maskline.requests import Priority

_FOR_INTERACTIVE = 2
_BULK_WAITING = 8


class Slots:
    """Room for jobs. Safe to use from many threads.

    While bulk jobs have all the room that they may have, the broker is asked about them only now and then, so
    a few more messages about them are taken than run. Those wait here, with a thread each but without a job.
    """

    def __init__(self, bulk: int) -> None:
        """``bulk``: most bulk jobs at once."""
        self.threads = bulk + _FOR_INTERACTIVE + _BULK_WAITING
        """That it takes to use all the room."""
        self._all = threading.BoundedSemaphore(bulk + _FOR_INTERACTIVE)
        self._bulk = threading.BoundedSemaphore(bulk)
        self._most_taken = bulk + _BULK_WAITING
        self._taken = 0
        self._lock = threading.Lock()
        self.is_closing = False
        """Whether no more jobs are to begin."""

    def takes_bulk(self) -> bool:
        """Whether one more message about a bulk job may be taken."""
        return self._taken < self._most_taken

    def note_bulk_taken(self) -> None:
        """One more message about a bulk job was taken."""
        with self._lock:
            self._taken += 1

    def note_bulk_done(self) -> None:
        """One was done with."""
        with self._lock:
            self._taken -= 1

    @contextmanager
    def one(self, priority: Priority) -> Iterator[None]:
        """Room for a job, once there is some."""
        with ExitStack() as held:
            if priority is Priority.BULK:
                held.enter_context(self._bulk)
            held.enter_context(self._all)
            yield
