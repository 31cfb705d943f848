"""Keeping house: jobs whose worker fell silent, jobs that no message stands for, jobs whose time is over.

Every worker has a sweeper, and a lock in Redis lets one of them work at a time.
"""

import secrets
import time
from collections.abc import Callable
from datetime import timedelta

import structlog

from maskline.artifact_operations import remove_artifacts, remove_embeddings
from maskline.jobs import KEEP_EXPIRED_S
from maskline.ports import ArtifactStore, HousekeepingStore, TaskQueue
from worker.bucket_shelf import today_utc

logger = structlog.get_logger(module=__name__)

_LIMIT = 500  # jobs looked at in one call
_LEADS_FOR_INTERVALS = 3
_NOTE_AGAIN_S = 10.0  # after an end whose note may still be on its way
_EMBEDDINGS_S = 3600.0  # between two looks for embeddings whose days are over
_MOST_WAITS = 5
_QUEUE_PER_WAIT = 100  # jobs in the queue for which the wait before a new message doubles


class Sweeper:
    """One look at everything that may have been left behind."""

    def __init__(
        self,
        *,
        holder: str,
        store: HousekeepingStore,
        note_end: Callable[[str], bool],
        artifacts: ArtifactStore,
        queue: TaskQueue,
        interval_s: float,
        republish_after_s: float,
        max_attempts: int,
    ) -> None:
        """``holder``: this worker's name; ``note_end``: keeps the end of a job in the bucket, if that takes
        it; ``interval_s``: between two looks."""
        self._holder = holder
        self._store = store
        self._note_end = note_end
        self._artifacts = artifacts
        self._queue = queue
        self._interval_s = interval_s
        self._republish_after_s = republish_after_s
        self._max_attempts = max_attempts

    def sweep(self) -> None:
        """Look once, if no other worker does."""
        if not self._store.lead("sweep", self._holder, self._interval_s * _LEADS_FOR_INTERVALS):
            return
        until = time.monotonic() + self._interval_s
        reaped = self._store.reap(self._max_attempts, _LIMIT)
        for hint in reaped.returned:
            logger.warning("lease lapsed", job=hint.job_id)
            self._queue.publish_job(hint)
        for job_id in reaped.failed:
            logger.error("job lost too many workers", job=job_id)
            self._note_end(job_id)
        self._publish_again()
        self._note_again(until)
        self._remove_old_embeddings()
        for job_id in self._store.expire(KEEP_EXPIRED_S, _LIMIT):
            remove_artifacts(self._artifacts, job_id)
            self._store.forget(job_id)
            logger.info("job removed", job=job_id)
            if time.monotonic() > until:  # the rest can wait, lapsed jobs should not
                return

    def _note_again(self, until: float) -> None:
        # Whoever ended these has tried before; most are there, and need only be seen.
        for job_id in self._store.unnoted(_NOTE_AGAIN_S, _LIMIT):
            if not self._note_end(job_id):
                return
            self._store.noted(job_id)
            if time.monotonic() > until:
                return

    def _remove_old_embeddings(self) -> None:
        # Whoever asked last is nobody's holder, so the lock tells the time since then.
        if self._store.lead("embeddings", secrets.token_hex(8), _EMBEDDINGS_S):
            remove_embeddings(self._artifacts, before=today_utc() - timedelta(days=1))

    def _publish_again(self) -> None:
        # A long queue makes every message old; new ones would only make it longer.
        depth = self._store.queue_depth()
        patience = 1 + min(depth / _QUEUE_PER_WAIT, _MOST_WAITS)
        for hint in self._store.unpublished(self._republish_after_s * patience, _LIMIT):
            if self._queue.backlog(hint) < depth:  # else nobody takes them: no worker has the model
                self._queue.publish_job(hint)
