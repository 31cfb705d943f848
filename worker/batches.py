"""Working off batches: every worker has a mover, and a lock in Redis lets one of them work at a time.

A step that is broken off is taken again, and comes to the same (``maskline/batches.py`` says why). A mover
that was frozen for long notices that another has the lead, or moved the batch on, before it makes a job or a
file. Should it freeze just then, both make the same ones, and the record takes only one's word.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

import structlog

from maskline.artifact_operations import cancel_job, exists
from maskline.artifacts import submission_key
from maskline.batch_records import note_batch_end, remove_old_records
from maskline.batches import (
    MAX_ACTIVE,
    MAX_PARTIAL_FAILURES,
    PLANS,
    SHARD_ITEMS,
    SHARDS_AT_ONCE,
    Batch,
    BatchState,
    PlannedItem,
    Progress,
    ShardPlan,
    batch_of_plan,
    item_job_id,
    plan_key,
)
from maskline.codec import trailer
from maskline.errors import (
    ArtifactNotFound,
    BatchNotFound,
    CapacityError,
    DependencyError,
    JobNotFound,
    MalformedRequest,
    RequestError,
)
from maskline.jobs import Failure, ImageRef, Job
from maskline.ports import ArtifactStore, BatchStore, HousekeepingStore, Idempotency, JobStore
from maskline.requests import MAX_EXPIRES_IN_S
from maskline.settings import Settings
from worker.batch_items import read_shard
from worker.batch_results import ShardFiles

logger = structlog.get_logger(module=__name__)

_AT_ONCE = 4  # batches of one model; with their shards this bounds what they have in the queue
_LEAD_S = 30.0
_SHARE_S = 10.0  # of one look, for one batch
_STANDS_BACK_S = 60.0  # behind the others of its model, once a batch could not move
_JSON = "application/json"
_BROKEN = Failure(
    code="internal_error",
    message="something went wrong inside the service; its log has the reason",
)
_CANCELLED = Failure(code="cancelled", message="the batch was cancelled by its client")

Step = Callable[[Batch], Progress | None]
"""Gives the new progress, or None where there is nothing to do now."""


class _Overtaken(Exception):
    """Another mover has the lead, or has moved the batch on."""


class BatchMover:
    """Moves every batch on by as much as can be done now."""

    def __init__(
        self,
        *,
        holder: str,
        batches: BatchStore,
        jobs: JobStore,
        house: HousekeepingStore,
        artifacts: ArtifactStore,
        settings: Settings,
    ) -> None:
        """``holder``: this worker's name; ``house``: has the lock."""
        self._holder = holder
        self._batches = batches
        self._jobs = jobs
        self._house = house
        self._artifacts = artifacts
        self._settings = settings
        self._back_until: dict[str, float] = {}
        self._is_tidy = False
        self._steps: tuple[Step, ...] = (self._cancel, self._write_results, self._submit_next, self._finish)

    def move(self) -> None:
        """Look once at the oldest batches, if no other worker does."""
        try:
            self._require_lead()
            for batch in self._turn():
                with structlog.contextvars.bound_contextvars(batch=batch.id, tenant=batch.tenant):
                    self._try_to_move(batch)
                self._require_lead()
        except _Overtaken:
            self._is_tidy = False  # nobody knows how the other one ends
            return
        if not self._is_tidy:
            self._remove_plans()
            remove_old_records(self._artifacts, self._settings.job_expiry)
            self._is_tidy = True

    def _turn(self) -> list[Batch]:
        """The oldest batches of each model, so that one without a worker holds up no other, and those that
        are to be cancelled. Who could not move of late comes after the others."""
        now = time.monotonic()
        self._back_until = {batch: until for batch, until in self._back_until.items() if until > now}
        turn: list[Batch] = []
        of_model: Counter[str | None] = Counter()
        for batch in sorted(self._batches.active(MAX_ACTIVE), key=lambda one: one.id in self._back_until):
            model = batch.request.request.model
            of_model[model] += not batch.is_cancelling
            if batch.is_cancelling or of_model[model] <= _AT_ONCE:
                turn.append(batch)
        return turn

    def _require_lead(self) -> None:
        """Return if this mover leads, as it then does for a while to come."""
        if not self._house.lead("batches", self._holder, _LEAD_S):
            raise _Overtaken

    def _require_hold(self, batch: Batch) -> None:
        """Return if this mover leads and the batch is as it was read."""
        self._require_lead()
        try:
            current = self._batches.get(batch.tenant, batch.id)
        except BatchNotFound:
            raise _Overtaken from None
        if current.version != batch.version:
            raise _Overtaken

    def _try_to_move(self, batch: Batch) -> None:
        try:
            self._move_on(batch)
        except CapacityError as error:
            logger.warning("batch waits", code=error.code)
        except DependencyError as error:
            logger.warning("batch waits", code=error.code)
            self._back_until[batch.id] = time.monotonic() + _STANDS_BACK_S

    def _move_on(self, batch: Batch) -> None:
        """Take steps until there is nothing to do but to wait, or others should have a look."""
        until = time.monotonic() + _SHARE_S
        for step in self._steps:
            while (progress := self._take(step, batch)) is not None:
                batch = self._save(batch, progress)
                if batch.progress.state.is_final or time.monotonic() > until:
                    return

    def _take(self, step: Step, batch: Batch) -> Progress | None:
        """What the step gives; the batch has failed if the step can't be taken, now or later."""
        try:
            return step(batch)
        except (DependencyError, CapacityError, _Overtaken):
            raise
        except RequestError as error:  # the input or the destination is not there any more
            failure = Failure(code=error.code, message=error.message)
        except Exception:
            logger.exception("batch failed")
            failure = _BROKEN
        self._cancel_jobs(batch)
        return _ended(batch, BatchState.FAILED, failure)

    def _save(self, batch: Batch, progress: Progress) -> Batch:
        stamped = progress.model_copy(update={"updated_ms": _now_ms()})
        if stamped.state.is_final:
            self._is_tidy = False
        saved = self._batches.save(batch, stamped, self._settings.job_expiry)
        if saved is None:
            raise _Overtaken
        if stamped.state.is_final:
            note_batch_end(saved, self._artifacts)
            logger.info("batch ended", state=stamped.state, items=stamped.items, failed=stamped.failed)
        return saved

    def _remove_plans(self) -> None:
        """Remove the plans of batches that have ended."""
        keys = list(self._artifacts.keys(PLANS))  # first, for a batch may begin meanwhile
        active = {batch.id for batch in self._batches.active(MAX_ACTIVE)}
        self._artifacts.delete(key for key in keys if batch_of_plan(key) not in active)

    # -- the steps

    def _cancel(self, batch: Batch) -> Progress | None:
        if not batch.is_cancelling:
            return None
        self._cancel_jobs(batch)
        return _ended(batch, BatchState.CANCELLED, _CANCELLED)

    def _submit_next(self, batch: Batch) -> Progress | None:
        progress = batch.progress
        if batch.is_all_read or progress.shards - progress.written >= SHARDS_AT_ONCE:
            return None
        shard = progress.shards + 1
        plan = self._plan_of(batch, shard)
        for number, item in enumerate(plan.items, progress.items):
            if item.failure is None:
                self._submit(batch, number, item)
        return progress.model_copy(
            update={
                "state": BatchState.RUNNING,
                "started_ms": progress.started_ms or _now_ms(),
                "source": plan.source,
                "offset": plan.offset,
                "items": progress.items + len(plan.items),
                "shards": shard if plan.items else progress.shards,
            }
        )

    def _write_results(self, batch: Batch) -> Progress | None:
        progress = batch.progress
        if progress.written == progress.shards:
            return None
        shard = progress.written + 1
        plan = ShardPlan.model_validate_json(self._artifacts.get(plan_key(batch.id, shard)))
        jobs = []
        for job in self._jobs_of(batch, plan):
            if job is not None and not job.state.is_final:
                return None
            jobs.append(job)
        with ShardFiles(self._artifacts, batch.request, shard) as files:
            for item, job in zip(plan.items, jobs, strict=True):
                self._require_lead()
                files.add(item, job)
            self._require_hold(batch)
            files.store()
        self._let_expire(job.id for job in jobs if job is not None)
        failed = len(files.failures)
        failures = (*progress.partial_failures, *files.failures)[:MAX_PARTIAL_FAILURES]
        return progress.model_copy(
            update={
                "written": shard,
                "succeeded": progress.succeeded + len(plan.items) - failed,
                "failed": progress.failed + failed,
                "partial_failures": failures,
            }
        )

    def _finish(self, batch: Batch) -> Progress | None:
        progress = batch.progress
        if not batch.is_all_read or progress.written < progress.shards:
            return None
        if not progress.items:
            raise MalformedRequest("there are no items in the input")
        return _ended(batch, BatchState.SUCCEEDED)

    # -- what the steps are made of

    def _cancel_jobs(self, batch: Batch) -> None:
        """Cancel every job that may have been submitted and whose result is not written."""
        self._require_hold(batch)
        done = batch.progress.succeeded + batch.progress.failed
        ids = [item_job_id(batch, number) for number in range(done, batch.progress.items + SHARD_ITEMS)]
        without_job = []
        for job_id in ids:
            try:
                cancel_job(self._jobs, self._artifacts, batch.tenant, job_id)
            except JobNotFound:
                without_job.append(job_id)
        self._artifacts.delete(submission_key(job_id, "json") for job_id in without_job)
        self._let_expire(ids)

    def _let_expire(self, job_ids: Iterable[str]) -> None:
        """Let jobs that the batch needs no more expire as any others."""
        self._house.let_expire(job_ids, self._settings.job_expiry)

    def _plan_of(self, batch: Batch, shard: int) -> ShardPlan:
        """The plan of the next shard: as a step that was broken off left it, else a new one."""
        key = plan_key(batch.id, shard)
        try:
            return ShardPlan.model_validate_json(self._artifacts.get(key))
        except ArtifactNotFound:
            plan = read_shard(batch, self._artifacts, self._settings.import_buckets)
            if plan.items:
                self._artifacts.put(key, plan.to_json().encode(), _JSON)
            return plan

    def _jobs_of(self, batch: Batch, plan: ShardPlan) -> Iterator[Job | None]:
        """The job of each item, None for one that has none, or none any more."""
        first = batch.progress.succeeded + batch.progress.failed
        for number, item in enumerate(plan.items, first):
            yield None if item.failure else self._jobs.find(item_job_id(batch, number))

    def _submit(self, batch: Batch, number: int, item: PlannedItem) -> None:
        job_id = item_job_id(batch, number)
        job = Job(
            id=job_id,
            tenant=batch.tenant,
            request=batch.request.request.model_copy(
                update={"metadata": {"batch": batch.id, "item": number}}
            ),
            image=ImageRef(uri=item.uri),
            expires_ms=MAX_EXPIRES_IN_S * 1000,  # its result is yet to be written, however long that takes
        )
        key = submission_key(job_id, "json")
        once = Idempotency(key=f"batch/{batch.id}/{number}", fingerprint="-")
        if not exists(self._artifacts, key):
            self._artifacts.put(key, trailer(job, once), _JSON)
        self._require_hold(batch)
        try:
            most_of_tenant = self._settings.limits_of(batch.tenant).max_queued
            self._jobs.create(job, once, self._settings.max_queued, most_of_tenant)
        except JobNotFound:  # it was submitted before, and its client deleted it
            self._artifacts.delete([key])


def _ended(batch: Batch, state: BatchState, failure: Failure | None = None) -> Progress:
    return batch.progress.model_copy(update={"state": state, "ended_ms": _now_ms(), "failure": failure})


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
