"""Batches over the doubles: items become jobs, results become files, and a step broken off is taken again."""

import base64
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any, BinaryIO
from uuid import uuid4

import pytest
from worker.batches import BatchMover

from maskline.adapters.memory import MemoryArtifactStore, MemoryBatchStore, MemoryJobStore
from maskline.artifact_operations import remove_artifacts
from maskline.artifacts import Artifact, result_key
from maskline.batches import (
    SHARD_ITEMS,
    Batch,
    BatchRequest,
    BatchState,
    Destination,
    ItemFields,
    ItemForm,
    Progress,
    Source,
    item_job_id,
    new_batch_id,
)
from maskline.errors import ArtifactStoreUnavailable, DependencyError
from maskline.jobs import Failure, Job, JobState, Outcome
from maskline.requests import Priority, SegmentationRequest, Subtask
from maskline.settings import Settings
from tests.factories import TIMINGS

SETTINGS = Settings(import_buckets=("imports",), export_buckets=("exports",))
MASK = base64.b64encode(b"PNG").decode()
PREDICTION = {"categoryMask": MASK, "confidenceMask": MASK}


@dataclass
class World:
    """A mover and what it moves."""

    batches: MemoryBatchStore = field(default_factory=MemoryBatchStore)
    jobs: MemoryJobStore = field(default_factory=MemoryJobStore)
    artifacts: MemoryArtifactStore = field(default_factory=MemoryArtifactStore)

    def mover(
        self,
        holder: str = "w",
        settings: Settings = SETTINGS,
        through: Callable[[Any], Any] = lambda store: store,
    ) -> BatchMover:
        """``through``: makes of each store what the mover sees of it."""
        return BatchMover(
            holder=holder,
            batches=through(self.batches),
            jobs=through(self.jobs),
            house=through(self.jobs),
            artifacts=through(self.artifacts),
            settings=settings,
        )

    def submit(
        self,
        *inputs: bytes,
        form: ItemForm = ItemForm.JSONL,
        model: str = "grabcut",
        prefix: str = "out/",
        **fields: Any,
    ) -> Batch:
        sources = []
        for number, text in enumerate(inputs):
            key = f"{uuid4()}/{number}.jsonl"
            self.artifacts.put(key, text, "application/jsonl", bucket="imports")
            sources.append(Source(bucket="imports", key=key))
        batch = Batch(
            id=new_batch_id(),
            tenant="default",
            request=BatchRequest(
                request=SegmentationRequest(model=model, subtask=Subtask.SEMANTIC, priority=Priority.BULK),
                form=form,
                fields=ItemFields(**fields),
                sources=tuple(sources),
                destination=Destination(uri="gs://exports/out", bucket="exports", prefix=prefix),
                resource={},
            ),
            created_ms=1_700_000_000_000,
        )
        self.batches.create(batch, 10)
        return batch

    def queued(self) -> list[Job]:
        jobs = self.jobs.page("default", state=JobState.QUEUED, model=None, size=9999, token=None).jobs
        return [job for job in jobs if job.request.priority is Priority.BULK]

    def work(self, failing: Callable[[Job], bool] = lambda job: False) -> int:
        """End every job that waits; how many these were."""
        waiting = self.queued()
        for hint in waiting:
            job = self.jobs.claim(hint.kind, "w", 60)
            assert job is not None
            if failing(job):
                outcome = Outcome(failure=Failure(code="image_unreadable", message="no image"))
            else:
                outcome = Outcome(timings=TIMINGS)
                for file in (Artifact.CATEGORY_MASK, Artifact.CONFIDENCE_MASK):
                    key = result_key(job.id, job.attempt, file)
                    self.artifacts.put(key, b"PNG", "image/png")
            assert self.jobs.finish(job.id, job.attempt, outcome)
        return len(waiting)

    def progress(self, batch: Batch) -> Progress:
        return self.batches.get("default", batch.id).progress

    def run(
        self,
        batch: Batch,
        failing: Callable[[Job], bool] = lambda job: False,
        mover: BatchMover | None = None,
    ) -> Progress:
        """Let the batch come to its end, with a new mover for every look if none is given."""
        for _ in range(50):
            (mover or self.mover()).move()
            if self.progress(batch).state.is_final:
                break
            self.work(failing)
        return self.progress(batch)

    def all_jobs(self) -> tuple[Job, ...]:
        return self.jobs.page("default", state=None, model=None, size=9999, token=None).jobs

    def forget(self, *job_ids: str) -> None:
        for job_id in job_ids:
            remove_artifacts(self.artifacts, job_id)
            self.jobs.forget(job_id)

    def lines(self, name: str) -> list[Any]:
        text = self.artifacts.get(f"out/{name}", bucket="exports").decode()
        return [json.loads(line) for line in text.splitlines()]

    def plans(self) -> list[str]:
        return list(self.artifacts.keys("batches/"))


@pytest.fixture
def world() -> World:
    return World()


def instances(*numbers: int, **more: Any) -> bytes:
    return b"".join(
        json.dumps({"content": f"gs://imports/{n}.png", **more}).encode() + b"\n" for n in numbers
    )


def test_every_item_becomes_a_job_and_a_line(world: World) -> None:
    batch = world.submit(instances(0, 1), b"\r\n\n" + instances(2)[:-1])
    progress = world.run(batch)
    assert (progress.state, progress.succeeded, progress.failed) == (BatchState.SUCCEEDED, 3, 0)
    assert world.lines("predictions_0001.jsonl") == [
        {"instance": {"content": f"gs://imports/{n}.png"}, "prediction": PREDICTION} for n in range(3)
    ]
    job = world.jobs.get("default", item_job_id(batch, 2))
    assert job.image.uri == "s3://imports/2.png"
    assert job.request.metadata == {"batch": batch.id, "item": 2}
    assert not world.plans()
    assert world.batches.active(9) == []


def test_what_fails_is_beside_what_does_not(world: World) -> None:
    text = (
        instances(0)
        + b"no json\n"
        + b'{"content": "gs://other/1.png"}\n'
        + b'{"content": "aGk="}\n[]\n'
        + b'{"content": "gs://imports/9.png", "x": 1}\n'
        + b'{"content": "'
        + b"x" * 70_000
        + b'"}\n'
        + instances(5)
    )
    progress = world.run(world.submit(text), failing=lambda job: job.image.uri == "s3://imports/5.png")
    assert (progress.state, progress.succeeded, progress.failed) == (BatchState.SUCCEEDED, 1, 7)
    told = [line["error"]["message"] for line in world.lines("errors_0001.jsonl")]
    for message, words in zip(
        told,
        (
            "as jsonl in UTF-8",
            "'other' is not open",
            "gs://BUCKET/KEY",
            "give an object",
            "no such field",
            "longer",
            "no image",
        ),
        strict=True,
    ):
        assert words in message
    assert {line["error"]["code"] for line in world.lines("errors_0001.jsonl")} == {3, 5}
    assert world.lines("errors_0001.jsonl")[-1]["instance"] == {"content": "gs://imports/5.png"}
    assert [failure.message for failure in progress.partial_failures] == told


def nested(levels: int) -> bytes:
    return b'{"x": ' + b"[" * (levels - 1) + b"]" * (levels - 1) + b"}\n"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (nested(34), "32 arrays and objects"),
        (nested(199), "32 arrays and objects"),
        (nested(5000), "recursion limit"),
        (b'{"content": "gs://imports/1.png", "key": 1e400}\n', "a number is too large"),
        (b'{"content": "gs://imports/1.png", "key": ' + b"9" * 5000 + b"}\n", "out of range"),
    ],
    ids=["34 levels", "199 levels", "5000 levels", "infinite", "5000 digits"],
)
def test_a_line_that_no_document_could_hold_fails_alone(world: World, line: bytes, words: str) -> None:
    progress = world.run(world.submit(instances(0) + line + instances(2), key_field="key"))
    assert (progress.state, progress.succeeded, progress.failed) == (BatchState.SUCCEEDED, 2, 1)
    [error] = world.lines("errors_0001.jsonl")
    assert words in error["error"]["message"]


@pytest.mark.parametrize("form", list(ItemForm))
def test_a_byte_order_mark_is_no_part_of_the_first_line(world: World, form: ItemForm) -> None:
    text = instances(0) if form is ItemForm.JSONL else b"gs://imports/0.png\n"
    batch = world.submit(b"\xef\xbb\xbf" + text, b"\xef\xbb\xbf" + text, form=form)
    assert (world.run(batch).succeeded, world.progress(batch).failed) == (2, 0)
    assert world.lines("predictions_0001.jsonl")[0]["instance"] == {"content": "gs://imports/0.png"}


def test_a_list_of_files_and_keys(world: World) -> None:
    listed = world.run(world.submit(b"gs://imports/a.png\ns3://imports/b c.png\n", form=ItemForm.FILE_LIST))
    assert listed.succeeded == 2
    assert world.lines("predictions_0001.jsonl")[1]["instance"] == {"content": "s3://imports/b c.png"}
    other = World()
    batch = other.submit(instances(0, id=7, note="n"), key_field="id", excluded=("note",))
    assert other.run(batch).succeeded == 1
    assert other.lines("predictions_0001.jsonl") == [{"key": 7, "prediction": PREDICTION}]


def test_a_large_batch_goes_in_shards_with_few_jobs_at_once(world: World) -> None:
    total = 5 * SHARD_ITEMS + 7
    batch = world.submit(instances(*range(total)))
    most = 0
    for _ in range(20):
        world.mover().move()
        most = max(most, len(world.queued()))
        world.work(lambda job: int(str(job.request.metadata["item"])) % 50 == 0)
    progress = world.progress(batch)
    assert most == 2 * SHARD_ITEMS
    assert (progress.state, progress.succeeded, progress.failed) == (BatchState.SUCCEEDED, total - 11, 11)
    assert len(progress.partial_failures) == 11
    names = [
        line["instance"]["content"]
        for number in range(1, 7)
        for line in world.lines(f"predictions_{number:04d}.jsonl")
    ]
    assert names == [f"gs://imports/{n}.png" for n in range(total) if n % 50]


def test_a_cancelled_batch_cancels_its_jobs(world: World) -> None:
    batch = world.submit(instances(*range(SHARD_ITEMS + 1)))
    world.mover().move()
    world.batches.cancel("default", batch.id)
    world.mover().move()
    progress = world.progress(batch)
    assert (progress.state, progress.failure and progress.failure.code) == (BatchState.CANCELLED, "cancelled")
    assert not world.queued()
    assert not world.plans()


@pytest.mark.parametrize(("text", "code"), [(b"\n \n", "malformed_request"), (None, "artifact_not_found")])
def test_a_batch_without_items_fails(world: World, text: bytes | None, code: str) -> None:
    batch = world.submit(text or b"")
    if text is None:
        world.artifacts._objects.clear()
    progress = world.run(batch)
    assert (progress.state, progress.failure and progress.failure.code) == (BatchState.FAILED, code)


def test_a_deleted_job_is_a_failed_item(world: World) -> None:
    batch = world.submit(instances(0, 1))
    world.mover().move()
    world.jobs.delete("default", item_job_id(batch, 0))
    progress = world.run(batch)
    assert (progress.succeeded, progress.failed) == (1, 1)
    assert world.lines("errors_0001.jsonl")[0]["error"]["code"] == 5


def test_a_model_without_a_worker_holds_up_no_other(world: World) -> None:
    for _ in range(6):
        world.submit(instances(*range(3)), model="absent")
    batch = world.submit(instances(0), model="grabcut")
    world.mover().move()
    models = [job.request.model for job in world.queued()]
    assert (models.count("absent"), models.count("grabcut")) == (12, 1)
    assert world.progress(batch).state is BatchState.RUNNING


def test_one_mover_at_a_time(world: World) -> None:
    world.submit(instances(0))
    assert world.jobs.lead("batches", "other", 60)
    world.mover().move()
    assert not world.queued()


def test_a_cancelled_batch_need_not_wait_for_its_turn(world: World) -> None:
    for _ in range(4):
        world.submit(instances(0))
    batch = world.submit(instances(0))
    world.batches.cancel("default", batch.id)
    world.mover().move()
    assert world.progress(batch).state is BatchState.CANCELLED
    assert len(world.queued()) == 4


class PartlyAway(MemoryArtifactStore):
    """One destination does not answer."""

    def put(self, key: str, body: bytes | BinaryIO, media_type: str, *, bucket: str | None = None) -> None:
        if key.startswith("away/"):
            raise ArtifactStoreUnavailable("no answer")
        super().put(key, body, media_type, bucket=bucket)


def test_batches_that_can_not_move_hold_up_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(artifacts=PartlyAway())
    away = [world.submit(instances(0), prefix="away/") for _ in range(6)]
    batch = world.submit(instances(*range(SHARD_ITEMS * 3)))
    mover = world.mover()
    for _ in range(12):
        mover.move()
        world.work()
    assert world.progress(batch).state is BatchState.SUCCEEDED
    assert {world.progress(one).state for one in away} == {BatchState.RUNNING}
    world.artifacts = MemoryArtifactStore(
        _objects=world.artifacts._objects, _written_s=world.artifacts._written_s
    )
    monkeypatch.setattr("worker.batches._STANDS_BACK_S", 0.0)
    for one in away:
        assert world.run(one).state is BatchState.SUCCEEDED


def test_what_holds_no_items_is_read_in_parts(world: World) -> None:
    offsets: list[int] = []

    class Watched(MemoryBatchStore):
        def save(self, batch: Batch, progress: Progress, keep_s: float) -> Batch | None:
            offsets.append(progress.offset)
            return super().save(batch, progress, keep_s)

    world.batches = Watched()
    blank = b" " * 60_000 + b"\n"
    batch = world.submit(blank * 500 + instances(0, 1))
    progress = world.run(batch)
    assert (progress.state, progress.succeeded) == (BatchState.SUCCEEDED, 2)
    assert offsets[:4] == [n * 140 * len(blank) for n in (1, 2, 3)] + [0]
    assert not world.plans()


def test_one_batch_leaves_time_for_others(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.batches._SHARE_S", 0.0)
    batches = [world.submit(instances(*range(SHARD_ITEMS * 2))) for _ in range(2)]
    world.mover().move()
    assert [world.progress(batch).items for batch in batches] == [SHARD_ITEMS] * 2
    for batch in batches:
        assert world.run(batch).succeeded == SHARD_ITEMS * 2


# -- jobs that go before their time


def broken_off_before_the_record(world: World) -> None:
    """Results are written, and the mover dies before it says so."""

    plan = Break(at=1, names=frozenset({"save"}))
    world.mover(through=partial(Breaking, plan=plan)).move()
    assert plan.has_come


def test_predictions_that_are_written_stand_although_their_jobs_are_gone(world: World) -> None:
    total = 2 * SHARD_ITEMS
    batch = world.submit(instances(*range(total)))
    world.mover().move()
    world.work()
    broken_off_before_the_record(world)
    assert world.progress(batch).written == 0
    world.forget(*(item_job_id(batch, number) for number in range(SHARD_ITEMS)))
    progress = world.run(batch)
    assert (progress.succeeded, progress.failed) == (total, 0)
    written = [line for shard in (1, 2) for line in world.lines(f"predictions_{shard:04d}.jsonl")]
    assert [line["instance"]["content"] for line in written] == [
        f"gs://imports/{n}.png" for n in range(total)
    ]


@pytest.mark.parametrize("gone", [(), (0,), (1,), (0, 1, 2, 3)])
@pytest.mark.parametrize("key_field", [None, "id"])
def test_what_is_written_and_what_is_not_make_a_whole(
    world: World, gone: tuple[int, ...], key_field: str | None
) -> None:
    """The first two items have one name, and the second of them fails; so does the last."""
    text = instances(0, 0, id=7) + instances(2, id=0.1) + instances(3, id={"b": 1, "a": "é"})
    batch = world.submit(text, key_field=key_field, excluded=("id",))
    world.mover().move()
    world.work(lambda job: job.request.metadata["item"] in (1, 3))
    broken_off_before_the_record(world)
    if gone:
        world.artifacts._objects.pop(("exports", "out/errors_0001.jsonl"))
    world.forget(*(item_job_id(batch, number) for number in gone))
    progress = world.run(batch)
    assert (progress.state, progress.succeeded, progress.failed) == (BatchState.SUCCEEDED, 2, 2)
    names = [
        [line.get("key", line.get("instance", {}).get("id")) for line in world.lines(f"{kind}_0001.jsonl")]
        for kind in ("predictions", "errors")
    ]
    assert names == [[7, 0.1], [7, {"b": 1, "a": "é"}]]


def test_a_shard_without_predictions_has_no_file_of_them(world: World) -> None:
    batch = world.submit(instances(*range(2 * SHARD_ITEMS)))
    progress = world.run(batch, failing=lambda job: int(str(job.request.metadata["item"])) < SHARD_ITEMS)
    assert (progress.succeeded, progress.failed) == (SHARD_ITEMS, SHARD_ITEMS)
    names = sorted(key for bucket, key in world.artifacts._objects if bucket == "exports")
    assert names == ["out/errors_0001.jsonl", "out/predictions_0002.jsonl"]


def test_jobs_are_kept_until_their_results_are_written() -> None:
    now_ms = [1_700_000_000_000]
    world = World(jobs=MemoryJobStore(clock_ms=lambda: now_ms[0]))
    expiry_ms = int(SETTINGS.job_expiry * 1000)
    done, cancelled = world.submit(instances(0)), world.submit(instances(0))
    world.mover().move()
    world.work()
    now_ms[0] += 2 * expiry_ms
    assert world.jobs.expire(60, 99) == []
    world.batches.cancel("default", cancelled.id)
    assert world.run(done).succeeded == 1
    now_ms[0] += expiry_ms - 1
    assert world.jobs.expire(60, 99) == []
    now_ms[0] += 1
    assert set(world.jobs.expire(60, 99)) == {item_job_id(done, 0), item_job_id(cancelled, 0)}


# -- what two movers make of one batch


@pytest.mark.parametrize("is_cancelled", [True, False])
@pytest.mark.parametrize("part", ["jobs/", "batches/", "out/predictions", "out/errors"])
def test_a_mover_that_was_frozen_changes_nothing(part: str, is_cancelled: bool) -> None:
    """It freezes in an upload; another takes the lead and brings the batch to its end."""

    class Freezing(MemoryArtifactStore):
        is_armed = False

        def put(
            self, key: str, body: bytes | BinaryIO, media_type: str, *, bucket: str | None = None
        ) -> None:
            if self.is_armed and key.startswith(part):
                self.is_armed = False
                world.jobs._leaders.clear()
                if is_cancelled:
                    world.batches.cancel("default", batch.id)
                world.run(batch, mover=world.mover("other"))
                outcome.append(world.progress(batch))
                if key in {known for _, known in self._objects}:
                    return
            super().put(key, body, media_type, bucket=bucket)

    outcome: list[Progress] = []
    store = Freezing()
    world = World(artifacts=store)
    batch = world.submit(instances(*range(20)) + b"no json\n")
    frozen = world.mover("frozen")
    store.is_armed = True
    for _ in range(3):
        frozen.move()
        if outcome:
            break
        world.work()
    assert outcome == [world.progress(batch)]
    assert outcome[0].state is (BatchState.CANCELLED if is_cancelled else BatchState.SUCCEEDED)
    assert not world.queued()
    world.jobs._leaders.clear()
    frozen.move()
    assert outcome == [world.progress(batch)]
    assert not world.plans()


def test_a_mover_that_comes_late_changes_nothing(world: World) -> None:
    batch = world.submit(instances(0))
    stale = world.batches.get("default", batch.id)
    world.run(batch)
    assert world.batches.save(stale, Progress(), 60) is None
    assert world.progress(batch).state is BatchState.SUCCEEDED


@pytest.mark.parametrize("is_deleted", [True, False])
def test_a_failure_over_what_another_removed_is_no_failure(world: World, is_deleted: bool) -> None:
    batch = world.submit(instances(0))
    world.mover().move()

    def through(store: Any) -> Any:
        if store is world.batches:
            return Stale(store, [world.batches.get("default", batch.id)])
        return store

    late = world.mover(through=through)
    job = world.queued()[0]
    assert world.run(batch).state is BatchState.SUCCEEDED
    if is_deleted:
        world.batches.delete("default", batch.id)
    late.move()
    assert world.jobs.get("default", job.id).state is JobState.SUCCEEDED
    if not is_deleted:
        assert world.progress(batch).state is BatchState.SUCCEEDED


@dataclass
class Stale:
    """A batch store whose list of what is active was read long ago."""

    store: MemoryBatchStore
    was_active: list[Batch]

    def active(self, limit: int) -> list[Batch]:
        return self.was_active

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)


def test_plans_that_were_left_are_removed(world: World) -> None:
    active = world.submit(instances(0))
    world.artifacts.put("batches/1700000000000000001/000001.json", b"{}", "application/json")
    world.mover().move()
    assert world.plans() == [f"batches/{active.id}/000001.json"]


# -- steps that are broken off


def test_what_the_queue_had_no_room_for_leaves_nothing_when_it_is_cancelled(world: World) -> None:
    batch = world.submit(instances(*range(50)))
    mover = world.mover(settings=SETTINGS.model_copy(update={"max_queued": 10}))
    mover.move()
    assert len(list(world.artifacts.keys("jobs/"))) == 11
    world.batches.cancel("default", batch.id)
    mover.move()
    assert world.progress(batch).state is BatchState.CANCELLED
    assert {key.split("/")[1] for key in world.artifacts.keys("jobs/")} == {
        job.id for job in world.all_jobs()
    }


def test_a_job_that_was_deleted_leaves_nothing(world: World) -> None:
    batch = world.submit(instances(0, 1))
    broken_off_before_the_record(world)
    world.jobs.delete("default", item_job_id(batch, 0))
    world.forget(item_job_id(batch, 0))
    assert world.run(batch).failed == 1
    assert {key.split("/")[1] for key in world.artifacts.keys("jobs/")} == {item_job_id(batch, 1)}


def test_jobs_are_not_made_again_when_their_idempotency_is_forgotten(world: World) -> None:
    batch = world.submit(instances(*range(4)))
    broken_off_before_the_record(world)
    assert world.work() == 4
    world.jobs._idempotency.clear()
    assert world.run(batch).succeeded == 4
    assert all(job.attempt == 1 for job in world.all_jobs())


@dataclass
class Break:
    """Which call of some stores is broken off: before it is done, or after."""

    at: int
    after: bool = False
    names: frozenset[str] | None = None
    seen: int = 0

    @property
    def has_come(self) -> bool:
        return self.seen >= self.at


@dataclass
class Breaking:
    """A store as it is, but for one call."""

    store: Any
    plan: Break

    def __getattr__(self, name: str) -> Any:
        call = getattr(self.store, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            self.plan.seen += self.plan.names is None or name in self.plan.names
            if self.plan.seen != self.plan.at:
                return call(*args, **kwargs)
            self.plan.seen += 1
            if self.plan.after:
                call(*args, **kwargs)
            raise DependencyError(f"{name} was broken off")

        return counted


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("worker.batches", "worker.batch_items"):
        monkeypatch.setattr(f"{module}.SHARD_ITEMS", 2)


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("is_cancelled", [False, True])
@pytest.mark.parametrize("survives", [False, True])
@pytest.mark.parametrize("after", [False, True])
def test_a_life_broken_off_anywhere_is_gone_on_with(after: bool, survives: bool, is_cancelled: bool) -> None:
    """Each of its calls once, of whichever store; ``survives``: the mover, else there is a new one."""
    for call in count(1):
        world, plan = World(), Break(call, after)
        batch = world.submit(instances(*range(4)) + b"no json\n")
        mover = world.mover(through=partial(Breaking, plan=plan))
        for look in range(6):
            with suppress(DependencyError):  # as a worker does
                mover.move()
            if plan.has_come and not survives:
                mover = world.mover()
            if is_cancelled and look == 0:
                world.batches.cancel("default", batch.id)
            world.work()
        progress = world.progress(batch)
        if is_cancelled:
            assert (progress.state, len(world.queued())) == (BatchState.CANCELLED, 0), call
        else:
            assert (progress.state, progress.succeeded, progress.failed) == (BatchState.SUCCEEDED, 4, 1), call
            files = [f"predictions_{shard:04d}.jsonl" for shard in (1, 2)] + ["errors_0003.jsonl"]
            assert [len(world.lines(name)) for name in files] == [2, 2, 1], call
            assert [job.attempt for job in world.all_jobs()] == [1] * 4, call
        assert not world.plans(), call
        ids = {job.id for job in world.all_jobs()}
        assert {key.split("/")[1] for key in world.artifacts.keys("jobs/")} == ids, call
        assert all(
            job.expires_ms - job.created_ms <= SETTINGS.job_expiry * 1000 + 60_000 for job in world.all_jobs()
        )
        if not plan.has_come:
            assert call > 50
            return
