"""Batches over the doubles: items become jobs, results become files, and a step broken off is taken again."""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import pytest

from maskline.adapters.memory import MemoryArtifactStore, MemoryBatchStore, MemoryJobStore
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
from maskline.errors import ArtifactStoreUnavailable, JobStoreUnavailable
from maskline.jobs import Failure, Job, JobState, Outcome
from maskline.requests import Priority, SegmentationRequest, Subtask
from maskline.settings import Settings
from tests.factories import TIMINGS
from worker.batches import BatchMover

SETTINGS = Settings(import_buckets=("imports",), export_buckets=("exports",))
MASK = base64.b64encode(b"PNG").decode()
PREDICTION = {"categoryMask": MASK, "confidenceMask": MASK}


@dataclass
class World:
    """A mover and what it moves."""

    batches: MemoryBatchStore = field(default_factory=MemoryBatchStore)
    jobs: MemoryJobStore = field(default_factory=MemoryJobStore)
    artifacts: MemoryArtifactStore = field(default_factory=MemoryArtifactStore)

    def mover(self, holder: str = "w") -> BatchMover:
        return BatchMover(
            holder=holder,
            batches=self.batches,
            jobs=self.jobs,
            house=self.jobs,
            artifacts=self.artifacts,
            settings=SETTINGS,
        )

    def submit(
        self, *inputs: bytes, form: ItemForm = ItemForm.JSONL, model: str = "grabcut", **fields: Any
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
                destination=Destination(uri="gs://exports/out", bucket="exports", prefix="out/"),
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
        for job in waiting:
            claimed = self.jobs.claim(job.id, "w", 60)
            assert claimed is not None
            if failing(job):
                outcome = Outcome(failure=Failure(code="image_unreadable", message="no image"))
            else:
                outcome = Outcome(timings=TIMINGS)
                for file in (Artifact.CATEGORY_MASK, Artifact.CONFIDENCE_MASK):
                    key = result_key(job.id, claimed.attempt, file)
                    self.artifacts.put(key, b"PNG", "image/png")
            assert self.jobs.finish(job.id, claimed.attempt, outcome)
        return len(waiting)

    def progress(self, batch: Batch) -> Progress:
        return self.batches.get("default", batch.id).progress

    def run(self, batch: Batch, failing: Callable[[Job], bool] = lambda job: False) -> Progress:
        for _ in range(50):
            self.mover().move()
            if self.progress(batch).state.is_final:
                break
            self.work(failing)
        return self.progress(batch)

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
            "not jsonl",
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


class Fragile(MemoryArtifactStore):
    """Fails at one of its calls, in each of both ways: before it is done, or after."""

    left: int = -1
    after: bool = False

    def _count(self) -> bool:
        self.left -= 1
        return self.left == 0

    def put(self, key: str, *args: Any, **kwargs: Any) -> None:
        breaks = not key.startswith("results/") and self._count()  # those are the jobs', not the mover's
        if breaks and not self.after:
            raise ArtifactStoreUnavailable("gone")
        super().put(key, *args, **kwargs)
        if breaks:
            raise ArtifactStoreUnavailable("gone")

    def get(self, *args: Any, **kwargs: Any) -> bytes:
        if self._count():
            raise ArtifactStoreUnavailable("gone")
        return super().get(*args, **kwargs)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("call", range(1, 25))
def test_a_step_broken_off_anywhere_is_taken_again(call: int, after: bool) -> None:
    world = World(artifacts=Fragile())
    batch = world.submit(instances(*range(4)) + b"no json\n")
    assert isinstance(world.artifacts, Fragile)
    world.artifacts.left, world.artifacts.after = call, after
    progress = world.run(batch)
    assert (progress.state, progress.succeeded, progress.failed) == (BatchState.SUCCEEDED, 4, 1)
    assert len(world.lines("predictions_0001.jsonl")) == 4
    everything = world.jobs.page("default", state=None, model=None, size=99, token=None).jobs
    assert len(everything) == 4
    assert all(job.attempt == 1 for job in everything)


def test_a_mover_that_comes_late_changes_nothing(world: World) -> None:
    batch = world.submit(instances(0))
    stale = world.batches.get("default", batch.id)
    world.run(batch)
    assert world.batches.save(stale, Progress(), 60) is None
    assert world.progress(batch).state is BatchState.SUCCEEDED


class FragileRecords(MemoryBatchStore):
    """Fails at one of its saves, in each of both ways: before it is done, or after."""

    left: int = -1
    after: bool = False

    def save(self, *args: Any, **kwargs: Any) -> Batch | None:
        self.left -= 1
        if self.left == 0 and not self.after:
            raise JobStoreUnavailable("gone")
        saved = super().save(*args, **kwargs)
        if self.left == 0:
            raise JobStoreUnavailable("gone")
        return saved


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("call", range(1, 5))
def test_a_record_that_is_not_saved_is_come_to_again(call: int, after: bool) -> None:
    records = FragileRecords()
    records.left, records.after = call, after
    world = World(batches=records)
    batch = world.submit(instances(*range(4)))
    progress = world.run(batch)
    assert (progress.state, progress.succeeded, progress.failed) == (BatchState.SUCCEEDED, 4, 0)
    assert len(world.jobs.page("default", state=None, model=None, size=99, token=None).jobs) == 4
