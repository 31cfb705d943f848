"""Holding jobs: one thread renews the leases of all that this worker runs, and watches their deadlines."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import structlog

from maskline.errors import DeadlineExceeded
from maskline.jobs import Failure, Job, Outcome
from maskline.ports import LeaseStore
from worker.periodic import Periodic

logger = structlog.get_logger(module=__name__)

_RENEWALS_PER_LEASE = 4


class LeaseLost(Exception):
    """The job was cancelled or deleted, or another worker has it; what this one does is in vain."""


@dataclass(kw_only=True, eq=False)
class Lease:
    """A job that this worker holds."""

    job: Job
    began: float = field(default_factory=time.monotonic)
    lost: threading.Event = field(default_factory=threading.Event)

    def check(self) -> None:
        """Return if the job is still ours.

        Raises:
            LeaseLost: it is not.
        """
        if self.lost.is_set():
            raise LeaseLost


class LeaseKeeper:
    """Keeps the leases of the jobs in this worker's hands."""

    def __init__(
        self,
        store: LeaseStore,
        *,
        lease_s: float,
        deadline_s: float,
        on_failed: Callable[[str], object],
        on_wedged: Callable[[], None],
    ) -> None:
        """``on_failed`` is called with the id of a job that was failed because it ran longer than
        ``deadline_s``, and ``on_wedged`` after it: its thread can't be stopped, so the process has to end."""
        self._store = store
        self._lease_s = lease_s
        self._deadline_s = deadline_s
        self._on_failed = on_failed
        self._on_wedged = on_wedged
        self._lock = threading.Lock()
        self._held: dict[str, Lease] = {}
        self._renewal = Periodic("leases", lease_s / _RENEWALS_PER_LEASE, self.renew)

    def start(self) -> None:
        """Begin to renew."""
        self._renewal.start()

    def stop(self) -> None:
        """Stop renewing."""
        self._renewal.stop()

    @contextmanager
    def holding(self, job: Job) -> Iterator[Lease]:
        """Renew the job's lease until the block ends."""
        lease = Lease(job=job)
        with self._lock:
            self._held[job.id] = lease
        try:
            yield lease
        finally:
            with self._lock:
                if self._held.get(job.id) is lease:
                    del self._held[job.id]

    def held(self) -> list[Job]:
        """The jobs in hand."""
        with self._lock:
            return [lease.job for lease in self._held.values()]

    def renew(self) -> None:
        """Renew every lease once, note the lost ones, and fail what is over its deadline."""
        with self._lock:
            leases = list(self._held.values())
        overdue = [lease for lease in leases if time.monotonic() - lease.began > self._deadline_s]
        for lease in overdue:
            self._fail(lease)
        lost = self._store.renew(((lease.job.id, lease.job.attempt) for lease in leases), self._lease_s)
        for lease in leases:
            if lease.job.id in lost:
                lease.lost.set()
        if overdue:
            self._on_wedged()

    def release_all(self) -> None:
        """Give every job back to the queue, for other workers to run."""
        for job in self.held():
            self._store.release(job.id, job.attempt)

    def _fail(self, lease: Lease) -> None:
        logger.error("job over its deadline", **lease.job.log_context())
        failure = Failure(
            code=DeadlineExceeded.code, message=f"the job ran longer than {self._deadline_s:g} s"
        )
        if self._store.finish(lease.job.id, lease.job.attempt, Outcome(failure=failure), is_noted=False):
            self._on_failed(lease.job.id)
