"""Holding chunks: one thread renews the leases of all that this worker runs, and watches them move on."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import structlog

from maskline.batches import ChunkKey
from maskline.ports import ChunkStore
from worker.leases import LeaseLost
from worker.periodic import Periodic

logger = structlog.get_logger(module=__name__)

_RENEWALS_PER_LEASE = 4


@dataclass(kw_only=True, eq=False)
class ChunkLease:
    """A chunk that this worker holds."""

    chunk: ChunkKey
    moved: float = field(default_factory=time.monotonic)
    is_running: bool = False
    lost: threading.Event = field(default_factory=threading.Event)

    def check(self) -> None:
        """Return if the chunk is still ours; it moves on.

        Raises:
            LeaseLost: it is not.
        """
        self.moved = time.monotonic()
        if self.lost.is_set():
            raise LeaseLost


class ChunkKeeper:
    """Keeps the leases of the chunks in this worker's hands."""

    def __init__(
        self, store: ChunkStore, *, lease_s: float, deadline_s: float, on_wedged: Callable[[], None]
    ) -> None:
        """``on_wedged`` is called where no item of a chunk has ended for ``deadline_s``: its threads can't be
        stopped, so the process has to end, and the lease lapses."""
        self._store = store
        self._lease_s = lease_s
        self._deadline_s = deadline_s
        self._on_wedged = on_wedged
        self._lock = threading.Lock()
        self._held: list[ChunkLease] = []
        self._renewal = Periodic("chunk leases", lease_s / _RENEWALS_PER_LEASE, self.renew)

    def start(self) -> None:
        """Begin to renew."""
        self._renewal.start()

    def stop(self) -> None:
        """Stop renewing."""
        self._renewal.stop()

    @contextmanager
    def holding(self, chunk: ChunkKey) -> Iterator[ChunkLease]:
        """Renew the chunk's lease until the block ends."""
        lease = ChunkLease(chunk=chunk)
        with self._lock:
            self._held.append(lease)
        try:
            yield lease
        finally:
            with self._lock:
                self._held.remove(lease)

    def renew(self) -> None:
        """Renew every lease once, and note the lost ones."""
        with self._lock:
            held = list(self._held)
        now = time.monotonic()
        wedged = [one for one in held if one.is_running and now - one.moved > self._deadline_s]
        if wedged:
            logger.error("chunk does not move on", chunks=[one.chunk for one in wedged])
            self._on_wedged()
            return
        lost = self._store.renew((one.chunk for one in held), self._lease_s)
        for lease in held:
            if lease.chunk in lost:
                lease.lost.set()

    def release_all(self) -> None:
        """Give every chunk back, for other workers to run."""
        with self._lock:
            held = list(self._held)
        for lease in held:
            self._store.release(lease.chunk)
