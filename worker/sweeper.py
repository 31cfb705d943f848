"""Keeping house: jobs whose worker fell silent, jobs that no message stands for, jobs whose time is over.

Every worker has a sweeper, and a lock in Redis lets one of them work at a time.
"""

from collections.abc import Iterable

import structlog

from maskline.artifacts import job_prefixes
from maskline.errors import QueueUnavailable
from maskline.ports import ArtifactStore, HousekeepingStore, TaskQueue
from maskline.requests import Priority

logger = structlog.get_logger(module=__name__)

_LIMIT = 500  # jobs looked at in one call
_LEADS_FOR_INTERVALS = 5
_KEEP_EXPIRED_S = 24 * 3600.0  # so that a client can still learn why there is no result
_QUEUE_PER_WAIT = 100  # jobs in the queue for which the wait before a new message doubles


class Sweeper:
    """One look at everything that may have been left behind."""

    def __init__(
        self,
        *,
        holder: str,
        store: HousekeepingStore,
        artifacts: ArtifactStore,
        queue: TaskQueue,
        interval_s: float,
        republish_after_s: float,
        max_attempts: int,
    ) -> None:
        """``holder``: this worker's name; ``interval_s``: between two looks."""
        self._holder = holder
        self._store = store
        self._artifacts = artifacts
        self._queue = queue
        self._interval_s = interval_s
        self._republish_after_s = republish_after_s
        self._max_attempts = max_attempts

    def sweep(self) -> None:
        """Look once, if no other worker does."""
        if not self._store.lead("sweep", self._holder, self._interval_s * _LEADS_FOR_INTERVALS):
            return
        lapsed = self._store.reap(self._max_attempts, _LIMIT)
        for job_id, _ in lapsed:
            logger.warning("lease lapsed", job=job_id)
        self._publish(lapsed)
        # A long queue makes every message old; new ones would only make it longer.
        patience = 1 + self._store.queue_depth() / _QUEUE_PER_WAIT
        self._publish(self._store.unpublished(self._republish_after_s * patience, _LIMIT))
        for job_id in self._store.expire(_KEEP_EXPIRED_S, _LIMIT):
            for prefix in job_prefixes(job_id):
                self._artifacts.delete(self._artifacts.keys(prefix))
            logger.info("job expired", job=job_id)

    def _publish(self, jobs: Iterable[tuple[str, Priority]]) -> None:
        for job_id, priority in jobs:
            try:
                self._queue.publish_job(job_id, priority)
            except QueueUnavailable:
                return  # the next look publishes what is left
