"""Leading batches: every worker has a leader, and a lock in Redis lets one of them work at a time.

It makes parts of sources, cuts parts into chunks, tells the workers that chunks wait, hands out those whose
worker was lost, copies results to their destination, and ends what is done. A step that is broken off is
taken again, and comes to the same. A leader that was frozen for long notices that another has the lead, or
moved the batch on, when it saves: the record takes only the word of who read its latest version.
"""

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from functools import partial
from typing import NamedTuple

import structlog

from maskline.artifact_operations import exists
from maskline.batch_artifacts import (
    Shard,
    chunk_end_key,
    ends_folder,
    lines_in,
    published_key,
    shard_key,
    summary_key,
)
from maskline.batch_records import correct_batch_end, note_batch_end, note_retry, remove_old_batches
from maskline.batches import (
    MAX_ACTIVE,
    MAX_PARTIAL_FAILURES,
    Batch,
    BatchState,
    ChunkEnd,
    ChunkKey,
    ItemFailure,
    Progress,
    rpc_code,
)
from maskline.clock import time_ms
from maskline.errors import (
    BatchNotFound,
    CapacityError,
    DependencyError,
    MalformedRequest,
    RequestError,
)
from maskline.image_header import ImageLimits
from maskline.jobs import Failure
from maskline.ports import ArtifactStore, BatchStore, ChunkStore, HousekeepingStore, ModelDirectory, TaskQueue
from maskline.settings import Settings
from worker.bulk.cutting import Cut, Cutter
from worker.bulk.failures import BROKEN, CANCELLED, LEFT
from worker.bulk.importing import import_source
from worker.bulk.retrying import make_retry_part
from worker.bulk.summing import summarize

logger = structlog.get_logger(module=__name__)

_LEAD_S = 30.0
_SHARE_S = 3.0  # of one look, for one batch
_STANDS_BACK_S = 10.0  # behind the others, once a batch could not move
_STANDS_STILL_S = 60.0  # once something unforeseen went wrong with it
_TIDY_S = 300.0
_REAPED = 100
_IMPORT_WAIT_S = 1.0
_COPIED = 50  # chunks of one step
_CHUNKS_PER_WORKER = 2

Step = Callable[[Batch], Progress | Cut | None]
"""Gives the new progress, with chunks or without, or None where there is nothing to do now."""


class _Overtaken(Exception):
    """Another worker leads, or has moved the batch on."""


class _Import(NamedTuple):
    source: int
    """Its number, from 1."""
    future: Future[None]


class BatchLeader:
    """Moves every batch on by as much as can be done now."""

    def __init__(
        self,
        *,
        holder: str,
        batches: BatchStore,
        chunks: ChunkStore,
        house: HousekeepingStore,
        artifacts: ArtifactStore,
        queue: TaskQueue,
        models: ModelDirectory,
        settings: Settings,
    ) -> None:
        """``holder``: this worker's name; ``house``: has the lock."""
        self._holder = holder
        self._batches = batches
        self._chunks = chunks
        self._house = house
        self._artifacts = artifacts
        self._queue = queue
        self._models = models
        self._settings = settings
        self._limits = ImageLimits.from_settings(settings)
        self._cutter = Cutter(artifacts)
        self._ends: dict[str, dict[int, ChunkKey]] = {}
        self._imports: dict[str, _Import] = {}
        self._back_until: dict[str, float] = {}
        self._still_until: dict[str, float] = {}
        self._tidy_at = time.monotonic()
        self._steps: tuple[Step, ...] = (
            self._cancel,
            self._retry,
            self._import,
            self._cut,
            self._abandon,
            self._publish,
            self._tell,
            self._finish,
        )

    def look(self) -> None:
        """Look once at all batches, if no other worker does.

        Raises:
            DependencyError: Redis does not answer; the next look goes on.
        """
        try:
            self._require_lead()
            for chunk in self._chunks.reap(_REAPED):
                logger.warning("chunk's lease lapsed", batch=chunk.batch, chunk=chunk.number)
            batches = self._turn()
            for batch in batches:
                if batch.id in self._still_until:
                    continue
                with structlog.contextvars.bound_contextvars(batch=batch.id, tenant=batch.tenant):
                    self._try_to_move(batch)
                self._require_lead()
            self._call_workers({batch.model for batch in batches})
        except _Overtaken:
            self._cutter.forget_all()
            self._ends.clear()
            return
        if time.monotonic() > self._tidy_at:
            self._tidy_at = time.monotonic() + _TIDY_S
            remove_old_batches(self._artifacts, self._settings.job_expiry)

    def _turn(self) -> list[Batch]:
        """The batches, oldest first; who could not move of late comes after the others."""
        now = time.monotonic()
        self._back_until = {batch: until for batch, until in self._back_until.items() if until > now}
        self._still_until = {batch: until for batch, until in self._still_until.items() if until > now}
        return sorted(self._batches.active(MAX_ACTIVE), key=lambda one: one.id in self._back_until)

    def _require_lead(self) -> None:
        """Return if this worker leads, as it then does for a while to come."""
        if not self._house.lead("batches", self._holder, _LEAD_S):
            raise _Overtaken

    def _call_workers(self, models: set[str]) -> None:
        """Tell as many workers as could have a chunk more."""
        for model in models:
            waiting, held = self._chunks.waiting(model)
            wanted = min(waiting, _CHUNKS_PER_WORKER * self._models.workers() - held)
            if wanted > 0:
                self._queue.publish_chunks(model, wanted)

    def _try_to_move(self, batch: Batch) -> None:
        try:
            self._move_on(batch)
        except (CapacityError, DependencyError) as error:
            logger.warning("batch waits", code=error.code)
            self._back_until[batch.id] = time.monotonic() + _STANDS_BACK_S
        except _Overtaken:
            self._require_lead()
        except Exception:  # must not keep the other batches from theirs
            logger.exception("batch stands still")
            self._still_until[batch.id] = time.monotonic() + _STANDS_STILL_S

    def _move_on(self, batch: Batch) -> None:
        """Take steps until there is nothing to do but to wait, or others should have a look."""
        until = time.monotonic() + _SHARE_S
        for step in self._steps:
            while (taken := self._take(step, batch)) is not None:
                batch = self._save(batch, taken)
                if batch.progress.state.is_final or time.monotonic() > until:
                    return
                if isinstance(taken, Cut):
                    self._call_workers({batch.model})

    def _take(self, step: Step, batch: Batch) -> Progress | Cut | None:
        """What the step gives; the batch has failed if the step can't be taken, now or later."""
        try:
            return step(batch)
        except (DependencyError, CapacityError, _Overtaken):
            raise
        except RequestError as error:  # the input or the destination is not there any more
            return _ended(batch, BatchState.FAILED, Failure(code=error.code, message=error.message))
        except Exception:
            logger.exception("batch failed")
            return _ended(batch, BatchState.FAILED, BROKEN)

    def _save(self, batch: Batch, taken: Progress | Cut) -> Batch:
        progress = taken.progress if isinstance(taken, Cut) else taken
        chunks = taken.chunks if isinstance(taken, Cut) else ()
        stamped = progress.model_copy(update={"updated_ms": time_ms()})
        is_one_more = stamped.rounds > batch.progress.rounds or stamped.imported > batch.progress.imported
        is_noted = True
        if stamped.state.is_final:
            self._write_summary(batch, stamped)
            is_noted = note_batch_end(batch, stamped, self._artifacts)
        saved = self._batches.save(
            batch,
            stamped,
            self._settings.job_expiry,
            chunks,
            self._known_ends(batch, len(chunks)),
            parts=int(is_one_more),
        )
        if saved is None:
            self._forget(batch.id)
            if stamped.state.is_final and is_noted:
                self._correct_note(batch)
            raise _Overtaken
        if stamped.state.is_final:
            self._forget(batch.id)
            if not is_noted:  # another, who was overtaken, noted another end
                correct_batch_end(batch, stamped, self._artifacts)
            logger.info("batch ended", state=stamped.state, items=stamped.items, failed=saved.counts.failed)
        return saved

    def _correct_note(self, batch: Batch) -> None:
        """Let the bucket say what became of a batch that did not end as was noted."""
        try:
            current = self._batches.get(batch.tenant, batch.id)
        except BatchNotFound:
            return
        correct_batch_end(batch, current.progress if current.has_ended else None, self._artifacts)
        if not current.has_ended:
            self._artifacts.delete([summary_key(batch.id, batch.progress.rounds)])

    def _forget(self, batch_id: str) -> None:
        """Forget what was read of a batch, which may have moved on."""
        self._cutter.forget(batch_id)
        self._ends.pop(batch_id, None)
        self._imports.pop(batch_id, None)

    def _write_summary(self, batch: Batch, progress: Progress) -> None:
        key = summary_key(batch.id, progress.rounds)
        if not exists(self._artifacts, key):
            summary = summarize(batch, self._batches.sums(batch.id))
            self._artifacts.put(key, summary.to_json().encode(), "application/json")

    def _known_ends(self, batch: Batch, chunks: int) -> dict[int, ChunkEnd]:
        """How those of the next chunks ended that had ended before Redis lost its memory."""
        if not batch.progress.is_restored or not chunks:
            return {}
        if batch.id not in self._ends:
            self._ends[batch.id] = _ends_of(batch.id, self._artifacts)
        known = self._ends[batch.id]
        numbers = range(batch.progress.chunks + 1, batch.progress.chunks + chunks + 1)
        first = batch.progress.first_of_round
        return {n: self._end_of(known[n], is_of_round=n >= first) for n in numbers if n in known}

    def _end_of(self, chunk: ChunkKey, *, is_of_round: bool) -> ChunkEnd:
        """As the bucket has it; items that failed in an earlier round were tried anew."""
        end = ChunkEnd.model_validate_json(self._artifacts.get(chunk_end_key(chunk)))
        return end if is_of_round else end.model_copy(update={"failed": 0, "errors": {}})

    # -- the steps

    def _cancel(self, batch: Batch) -> Progress | None:
        return _ended(batch, BatchState.CANCELLED, CANCELLED) if batch.is_cancelling else None

    def _abandon(self, batch: Batch) -> Progress | None:
        """End what its client has left, so that it does not count for ever among those that go on."""
        untouched_ms = time_ms() - (batch.progress.updated_ms or batch.created_ms)
        is_left = not batch.is_complete and untouched_ms > self._settings.job_expiry * 1000
        return _ended(batch, BatchState.FAILED, LEFT) if is_left else None

    def _retry(self, batch: Batch) -> Progress | None:
        progress = batch.progress
        if not batch.is_retrying or progress.part < batch.parts or batch.counts.ended < progress.chunks:
            return None
        note_retry(batch, self._artifacts)  # its client may not have come that far
        make_retry_part(batch, self._artifacts, self._batches)
        return progress.model_copy(
            update={
                "state": BatchState.RUNNING,
                "ended_ms": None,
                "failure": None,
                "tenths": 0,
                "rounds": progress.rounds + 1,
                "first_of_round": progress.chunks + 1,
            }
        )

    def _import(self, batch: Batch) -> Progress | None:
        number = batch.progress.imported
        if number >= len(batch.request.sources):
            return None
        importing = self._imports.get(batch.id)
        if importing is None or importing.source != number + 1:
            work = partial(import_source, batch, number + 1, self._artifacts, self._limits)
            importing = self._imports[batch.id] = _Import(number + 1, _in_background(work))
        wait([importing.future], _IMPORT_WAIT_S)
        if not importing.future.done():  # other batches must not wait for it
            return None
        del self._imports[batch.id]
        importing.future.result()
        return batch.progress.model_copy(update={"imported": number + 1})

    def _cut(self, batch: Batch) -> Cut | None:
        progress = batch.progress
        if progress.part >= batch.parts or batch.progress.imported < len(batch.request.sources):
            return None
        cut = self._cutter.cut(batch)
        if not cut.chunks or progress.state is BatchState.RUNNING:
            return cut
        started = {"state": BatchState.RUNNING, "started_ms": progress.started_ms or time_ms()}
        return Cut(chunks=cut.chunks, progress=cut.progress.model_copy(update=started))

    def _publish(self, batch: Batch) -> Progress | None:
        """Copy the results of the next chunks to the destination, in the order of the input."""
        progress, destination = batch.progress, batch.request.destination
        if destination is None:
            return None
        first = progress.published + 1
        ended = self._batches.ended_chunks(batch.id, first, first + _COPIED - 1)
        in_order = [chunk for number, chunk in enumerate(ended, first) if chunk.number == number]
        if not in_order:
            return None
        failures = list(progress.partial_failures)
        for chunk in in_order:
            for shard in Shard:
                # to the client's protocol
                is_known = shard is not Shard.REVIEW or batch.request.resource is None
                if lines_in(chunk, shard) and is_known:
                    to_key = published_key(destination, shard, chunk.number)
                    key = shard_key(ChunkKey(batch.id, chunk.number, chunk.attempt), shard)
                    if not exists(self._artifacts, to_key, bucket=destination.bucket):
                        self._artifacts.copy(key, to_key, to_bucket=destination.bucket)
                    if shard is Shard.ERRORS and len(failures) < MAX_PARTIAL_FAILURES:
                        failures += _failures_of(self._artifacts.get(key))
        return progress.model_copy(
            update={
                "published": progress.published + len(in_order),
                "partial_failures": tuple(failures[:MAX_PARTIAL_FAILURES]),
            }
        )

    def _tell(self, batch: Batch) -> Progress | None:
        """Note how many tenths of a batch's items have ended, for that is an event."""
        progress = batch.progress
        if not batch.is_all_cut or not progress.items:
            return None
        tenths = 10 * (batch.counts.succeeded + batch.counts.failed) // progress.items
        return progress.model_copy(update={"tenths": tenths}) if progress.tenths < tenths < 10 else None

    def _finish(self, batch: Batch) -> Progress | None:
        progress = batch.progress
        if not batch.is_all_cut or batch.counts.ended < progress.chunks:
            return None
        if batch.request.destination is not None and progress.published < progress.chunks:
            return None
        if not progress.items:
            raise MalformedRequest("there are no items in the input")
        return _ended(batch, BatchState.SUCCEEDED)


def _in_background(work: Callable[[], None]) -> Future[None]:
    """What comes of work that a thread does which ends with the process."""
    future: Future[None] = Future()

    def run() -> None:
        try:
            work()
            future.set_result(None)
        except Exception as error:
            future.set_exception(error)

    threading.Thread(target=run, name="import", daemon=True).start()
    return future


def _failures_of(errors: bytes) -> list[ItemFailure]:
    """Those of a file of errors, in the form of Vertex AI or in ours."""
    failures = (json.loads(line)["error"] for line in errors.splitlines())
    return [
        ItemFailure(
            code=rpc_code(code) if isinstance(code := one["code"], str) else code, message=one["message"]
        )
        for one in failures
    ]


def _ends_of(batch_id: str, artifacts: ArtifactStore) -> dict[int, ChunkKey]:
    """The latest attempt that ended each chunk, as the bucket has them."""
    ends: dict[int, ChunkKey] = {}
    for key in artifacts.keys(ends_folder(batch_id)):
        number, attempt = map(int, key.removeprefix(ends_folder(batch_id)).removesuffix(".json").split("-"))
        if number not in ends or attempt > ends[number].attempt:
            ends[number] = ChunkKey(batch_id, number, attempt)
    return ends


def _ended(batch: Batch, state: BatchState, failure: Failure | None = None) -> Progress:
    return batch.progress.model_copy(update={"state": state, "ended_ms": time_ms(), "failure": failure})
