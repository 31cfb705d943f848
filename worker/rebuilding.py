"""Filling a Redis again that lost its memory, from what the bucket holds.

Each accepted job is in the bucket, and so is what came of it: the files of an attempt that ended it, or a
note of its end. Where an attempt had stored its result and could not say so any more, the job counts as ended
by it. The others wait again, with attempt numbers above all given before, which fences off whoever held them.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby, islice

import structlog
from pydantic import ValidationError

from maskline.artifacts import EPOCHS, RESULTS, SUBMISSIONS, Artifact, end_key, epoch_key, job_of, result_key
from maskline.clock import time_ms
from maskline.codec import EndDocument, NotASubmission, SubmissionDocument, split_submission
from maskline.errors import ArtifactNotFound, DependencyError, RebuildOvertaken
from maskline.jobs import KEEP_EXPIRED_S, PER_EPOCH, Job, JobState
from maskline.ports import ArtifactStore, RebuildingStore, StoredObject
from worker.periodic import Periodic

logger = structlog.get_logger(module=__name__)

_LEAD_S = 10.0
_TOGETHER = 64  # jobs handed to the threads at once; a bucket may hold millions
_AT_ONCE = 16  # reads of the bucket
_TAIL_BYTES = 1 << 14  # of a submission, in which its document is nearly always whole
_RETRY_AFTER_S = (0.05, 0.2, 0.5, 1.0)
_TELL_S = 3 * 24 * 3600.0  # for so long a webhook may be tried: an end as late may not have been told

_ENDS = frozenset({Artifact.PREDICTION, Artifact.FAILURE})


@dataclass(frozen=True, kw_only=True, slots=True)
class _Remains:
    """What the bucket has of one job."""

    job_id: str
    submission: str
    """Its key."""
    has_end: bool
    results: dict[int, dict[str, float]]
    """The names of the files of each attempt, and their ages in seconds."""

    @property
    def has_ended(self) -> bool:
        """Whether a note or an attempt's files say so."""
        return self.has_end or any(not _ENDS.isdisjoint(files) for files in self.results.values())


class Rebuilder:
    """Looks whether Redis lost its memory, and if so fills it."""

    def __init__(
        self,
        *,
        holder: str,
        store: RebuildingStore,
        artifacts: ArtifactStore,
        others: Iterable[Callable[[], object]],
        job_expiry_s: float,
    ) -> None:
        """``holder``: this worker's name; ``others``: put in what else is kept in the bucket;
        ``job_expiry_s``: of jobs that do not say."""
        self._holder = holder
        self._store = store
        self._artifacts = artifacts
        self._others = tuple(others)
        self._job_expiry_ms = int(job_expiry_s * 1000)

    def rebuild_if_lost(self) -> None:
        """Look once.

        Raises:
            DependencyError: Redis or the bucket does not answer; calling again finishes it.
        """
        if self._store.epoch() is not None or not self._keep_lead():
            return
        lead = Periodic("rebuilder's lead", _LEAD_S / 4, self._keep_lead)
        lead.start()
        try:
            self._rebuild()
        except RebuildOvertaken:
            logger.warning("the records are lost again, or another worker makes them anew")
        finally:
            lead.stop()

    def _keep_lead(self) -> bool:
        return self._store.lead("rebuild", self._holder, _LEAD_S)

    def _rebuild(self) -> None:
        began = time.monotonic()
        rebuild = self._store.begin_rebuild()  # first: what is put in before it could be lost unnoticed
        number = 1 + max(map(_epoch_of, self._artifacts.keys(EPOCHS)), default=0)
        self._artifacts.put(epoch_key(number), b"", "text/plain")
        for restore in self._others:
            restore()
        jobs = self._restore_jobs(rebuild, number)
        self._store.begin_epoch(rebuild, number)
        logger.warning("records made anew", epoch=number, jobs=jobs, s=round(time.monotonic() - began, 1))

    def _restore_jobs(self, rebuild: str, number: int) -> int:
        """First those that have not ended, so that they run while the others are read."""
        restored = 0
        handled: set[str] = set()
        for is_first in (True, False):
            remains = (
                one
                for one in self._remains()
                if (not one.has_ended if is_first else one.job_id not in handled)
            )
            with ThreadPoolExecutor(_AT_ONCE, "rebuild") as threads:
                while together := list(islice(remains, _TOGETHER)):
                    for restores in threads.map(partial(self._restore, rebuild, number), together):
                        restored += restores
                    handled.update(one.job_id for one in together if is_first)
        return restored

    def _remains(self) -> Iterator[_Remains]:
        """Job by job: both listings are in the order of the ids."""
        results = groupby(self._artifacts.objects(RESULTS), lambda one: job_of(one.key))
        result_id, result_files = next(results, (None, iter(())))
        for job_id, keys in groupby(self._artifacts.keys(SUBMISSIONS), job_of):
            while result_id is not None and result_id < job_id:
                result_id, result_files = next(results, (None, iter(())))
            mine = list(keys)
            submissions = [key for key in mine if key != end_key(job_id)]
            if submissions:
                yield _Remains(
                    job_id=job_id,
                    submission=submissions[0],
                    has_end=len(mine) > len(submissions),
                    results=_by_attempt(result_files) if result_id == job_id else {},
                )

    def _restore(self, rebuild: str, number: int, remains: _Remains) -> bool:
        """Restore one job; a call that fails now and then must not make all be read anew."""
        for wait_s in _RETRY_AFTER_S:
            try:
                return self._restore_now(rebuild, number, remains)
            except DependencyError:
                time.sleep(wait_s)
        return self._restore_now(rebuild, number, remains)

    def _restore_now(self, rebuild: str, number: int, remains: _Remains) -> bool:
        now_ms = time_ms()
        try:
            document = self._document(remains.submission)
            job = self._end_of(remains, self._accepted(number, remains.job_id, document, now_ms), now_ms)
        except ArtifactNotFound:  # deleted just now
            return False
        except (NotASubmission, ValidationError):
            logger.error("not restored, for its documents are damaged", job=remains.job_id)
            return False
        return self._store.restore(rebuild, job, document.idempotency, now_ms - int(_TELL_S * 1000))

    def _accepted(self, number: int, job_id: str, document: SubmissionDocument, now_ms: int) -> Job:
        """The job as it was accepted, in this epoch."""
        created_ms = document.created_ms or now_ms
        return Job(
            id=job_id,
            tenant=document.tenant,
            request=document.request,
            image=document.image,
            result_fingerprint=document.result_fingerprint,
            created_ms=created_ms,
            expires_ms=document.expires_ms or created_ms + self._job_expiry_ms,
            version=number * PER_EPOCH,
            attempt=(number - 1) * PER_EPOCH,
        )

    def _document(self, key: str) -> SubmissionDocument:
        tail = self._artifacts.tail(key, _TAIL_BYTES)
        try:
            return split_submission(tail)[1]
        except NotASubmission:
            if len(tail) < _TAIL_BYTES:
                raise
            return split_submission(self._artifacts.get(key))[1]

    def _end_of(self, remains: _Remains, job: Job, now_ms: int) -> Job:
        """The job as it ended, or as it waits."""
        if remains.has_end and (told := self._as_told(job, end_key(job.id))):
            return told
        for attempt, ages_s in sorted(remains.results.items(), reverse=True):
            if Artifact.PREDICTION in ages_s:
                finished_ms = now_ms - int(ages_s[Artifact.PREDICTION] * 1000)
                return replace(job, state=JobState.SUCCEEDED, attempt=attempt, finished_ms=finished_ms)
            failure_key = result_key(job.id, attempt, Artifact.FAILURE)
            if Artifact.FAILURE in ages_s and (told := self._as_told(job, failure_key)):
                return told
        if job.expires_ms <= now_ms:
            expires_ms = now_ms + int(KEEP_EXPIRED_S * 1000)
            return replace(job, state=JobState.EXPIRED, finished_ms=now_ms, expires_ms=expires_ms)
        return job

    def _as_told(self, job: Job, key: str) -> Job | None:
        """The job as a note says that it ended; None: the note is gone, or damaged."""
        try:
            end = EndDocument.model_validate_json(self._artifacts.get(key))
        except (ArtifactNotFound, ValidationError):
            logger.warning("an end is not told of", key=key)
            return None
        return replace(
            job, state=end.state, attempt=end.attempt, failure=end.failure, finished_ms=end.finished_ms
        )


def _epoch_of(key: str) -> int:
    return int(key.removeprefix(EPOCHS))


def _by_attempt(files: Iterable[StoredObject]) -> dict[int, dict[str, float]]:
    attempts: defaultdict[int, dict[str, float]] = defaultdict(dict)
    for file in files:
        _, _, attempt, name = file.key.split("/")
        attempts[int(attempt)][name] = file.age_s
    return attempts
