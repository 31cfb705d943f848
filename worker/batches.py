"""Working off batches: every worker has a mover, and a lock in Redis lets one of them work at a time.

A step that is broken off is taken again, and comes to the same (``maskline/batches.py`` says why). Should two
movers work at once after all, because one was frozen for long, both make the same objects and jobs, and the
record takes only one's word.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress

import structlog

from maskline.artifact_operations import exists
from maskline.artifacts import submission_key
from maskline.batches import (
    MAX_ACTIVE,
    MAX_PARTIAL_FAILURES,
    SHARD_ITEMS,
    SHARDS_AT_ONCE,
    Batch,
    BatchState,
    PlannedItem,
    Progress,
    ShardPlan,
    item_job_id,
    plan_key,
    plans_prefix,
)
from maskline.codec import trailer
from maskline.errors import (
    ArtifactNotFound,
    CapacityError,
    DependencyError,
    JobNotFound,
    MalformedRequest,
    RequestError,
)
from maskline.jobs import Failure, ImageRef, Job
from maskline.ports import ArtifactStore, BatchStore, HousekeepingStore, Idempotency, JobStore
from maskline.settings import Settings
from worker.batch_items import read_shard
from worker.batch_results import ShardFiles

logger = structlog.get_logger(module=__name__)

_AT_ONCE = 4  # batches of one model; with their shards this bounds what they have in the queue
_LEAD_S = 30.0
_JSON = "application/json"
_BROKEN = Failure(
    code="internal_error",
    message="something went wrong inside the service; its log has the reason",
)
_CANCELLED = Failure(code="cancelled", message="the batch was cancelled by its client")

Step = Callable[[Batch], Progress | None]
"""Gives the new progress, or None where there is nothing to do now."""


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
        self._steps: tuple[Step, ...] = (self._cancel, self._write_results, self._submit_next, self._finish)

    def move(self) -> None:
        """Look once at the oldest batches, if no other worker does."""
        if not self._leads():
            return
        for batch in self._turn():
            with structlog.contextvars.bound_contextvars(batch=batch.id, tenant=batch.tenant):
                try:
                    self._move_on(batch)
                except (DependencyError, CapacityError) as error:
                    logger.warning("batch waits", code=error.code)
            if not self._leads():
                return

    def _turn(self) -> list[Batch]:
        """The oldest batches of each model, so that one without a worker holds up no other."""
        turn: list[Batch] = []
        of_model: Counter[str | None] = Counter()
        for batch in self._batches.active(MAX_ACTIVE):
            model = batch.request.request.model
            of_model[model] += 1
            if of_model[model] <= _AT_ONCE:
                turn.append(batch)
        return turn

    def _leads(self) -> bool:
        return self._house.lead("batches", self._holder, _LEAD_S)

    def _move_on(self, batch: Batch) -> None:
        """Take steps until there is nothing to do but to wait."""
        for step in self._steps:
            moved: Batch | None = batch
            while moved is not None and not moved.progress.state.is_final:
                batch = moved
                progress = self._take(step, batch)
                if progress is None:
                    break
                moved = self._save(batch, progress)
            if moved is None or moved.progress.state.is_final:
                return

    def _take(self, step: Step, batch: Batch) -> Progress | None:
        """What the step gives; the batch has failed if the step can't be taken, now or later."""
        try:
            return step(batch)
        except (DependencyError, CapacityError):
            raise
        except RequestError as error:  # the input or the destination is not there any more
            failure = Failure(code=error.code, message=error.message)
        except Exception:
            logger.exception("batch failed")
            failure = _BROKEN
        return self._ended(batch, BatchState.FAILED, failure)

    def _save(self, batch: Batch, progress: Progress) -> Batch | None:
        stamped = progress.model_copy(update={"updated_ms": _now_ms()})
        saved = self._batches.save(batch, stamped, self._settings.job_expiry)
        if saved is not None and stamped.state.is_final:
            logger.info("batch ended", state=stamped.state, items=stamped.items, failed=stamped.failed)
        return saved

    # -- the steps

    def _cancel(self, batch: Batch) -> Progress | None:
        if not batch.is_cancelling:
            return None
        self._cancel_jobs(batch)
        return self._ended(batch, BatchState.CANCELLED, _CANCELLED)

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
        key = plan_key(batch.id, progress.written + 1)
        plan = ShardPlan.model_validate_json(self._artifacts.get(key))
        jobs = []
        for job in self._jobs_of(batch, plan):
            if job is not None and not job.state.is_final:
                return None
            jobs.append(job)
        with ShardFiles(self._artifacts, batch.request) as files:
            for item, job in zip(plan.items, jobs, strict=True):
                files.add(item, job)
            predictions = files.store_predictions(progress.prediction_files + 1)
            errors = files.store_errors(progress.error_files + 1)
        failures = (*progress.partial_failures, *files.failures)[:MAX_PARTIAL_FAILURES]
        return progress.model_copy(
            update={
                "written": progress.written + 1,
                "prediction_files": progress.prediction_files + (predictions > 0),
                "error_files": progress.error_files + (errors > 0),
                "succeeded": progress.succeeded + predictions,
                "failed": progress.failed + errors,
                "partial_failures": failures,
            }
        )

    def _finish(self, batch: Batch) -> Progress | None:
        progress = batch.progress
        if not batch.is_all_read or progress.written < progress.shards:
            return None
        if not progress.items:
            raise MalformedRequest("there are no items in the input")
        return self._ended(batch, BatchState.SUCCEEDED)

    # -- what the steps are made of

    def _ended(self, batch: Batch, state: BatchState, failure: Failure | None = None) -> Progress:
        if state is BatchState.FAILED:
            self._cancel_jobs(batch)
        self._artifacts.delete(self._artifacts.keys(plans_prefix(batch.id)))
        return batch.progress.model_copy(update={"state": state, "ended_ms": _now_ms(), "failure": failure})

    def _cancel_jobs(self, batch: Batch) -> None:
        """Cancel every job that may have been submitted and whose result is not written."""
        done = batch.progress.succeeded + batch.progress.failed
        for number in range(done, batch.progress.items + SHARD_ITEMS):
            with suppress(JobNotFound):
                self._jobs.cancel(batch.tenant, item_job_id(batch, number))

    def _plan_of(self, batch: Batch, shard: int) -> ShardPlan:
        """The plan of the next shard: as a step that was broken off left it, else a new one."""
        key = plan_key(batch.id, shard)
        try:
            return ShardPlan.model_validate_json(self._artifacts.get(key))
        except ArtifactNotFound:
            plan = read_shard(batch, self._artifacts, self._settings.import_buckets)
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
            expires_ms=int(self._settings.job_expiry * 1000),
        )
        key = submission_key(job_id, "json")
        if not exists(self._artifacts, key):
            self._artifacts.put(key, trailer(job), _JSON)
        once = Idempotency(key=f"batch/{batch.id}/{number}", fingerprint="-")
        with suppress(JobNotFound):  # it was submitted before, and its client deleted it
            self._jobs.create(job, once, self._settings.max_queued)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
