"""A store that lost its memory, filled again from the bucket."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest

from maskline.adapters.memory import MemoryArtifactStore, MemoryJobStore
from maskline.artifact_operations import cancel_job
from maskline.artifacts import Artifact, result_key, submission_key
from maskline.codec import end_document, trailer
from maskline.jobs import Failure, Job, JobState, Outcome
from maskline.ports import Idempotency
from maskline.requests import Prompt, Webhook
from tests.factories import SECRET, TIMINGS, make_job
from worker.rebuilding import Rebuilder

LEASE_S = 30.0
MANY = 1000
FAILURE = Failure(code="prediction_failed", message="no")


class World:
    """Jobs as the API and the workers leave them, in the store and in the bucket."""

    def __init__(self) -> None:
        self.jobs = MemoryJobStore()
        self.artifacts = MemoryArtifactStore()
        self.rebuilt: list[str] = []
        self.lose_and_rebuild()

    def rebuilder(self, holder: str = "w", others: Iterable[Callable[[], object]] | None = None) -> Rebuilder:
        return Rebuilder(
            holder=holder,
            store=self.jobs,
            artifacts=self.artifacts,
            others=others or [lambda: self.rebuilt.append(holder)],
            job_expiry_s=3600,
        )

    def submit(self, job: Job | None = None, idempotency: Idempotency | None = None) -> Job:
        job = job or make_job()
        assert job.image.key is not None
        self.artifacts.put(job.image.key, b"image" + trailer(job, idempotency), "image/png")
        return self.jobs.create(job, idempotency, MANY)

    def claim(self, job: Job) -> Job:
        claimed = self.jobs.claim(job.kind, "w", LEASE_S)
        assert claimed is not None
        assert claimed.id == job.id
        return claimed

    def store(self, job: Job, attempt: int, artifact: Artifact = Artifact.PREDICTION) -> None:
        body = end_document(JobState.FAILED, attempt, FAILURE) if artifact is Artifact.FAILURE else b"{}"
        self.artifacts.put(result_key(job.id, attempt, artifact), body, "application/json")

    def succeed(self, job: Job) -> Job:
        claimed = self.claim(job)
        self.store(job, claimed.attempt)
        assert self.jobs.finish(job.id, claimed.attempt, Outcome(timings=TIMINGS))
        return self.get(job)

    def get(self, job: Job) -> Job:
        return self.jobs.get(job.tenant, job.id)

    def lose_and_rebuild(self) -> None:
        self.jobs.lose_memory()
        self.rebuilder().rebuild_if_lost()


@pytest.fixture
def world() -> World:
    return World()


def test_a_store_with_its_memory_is_left_alone(world: World) -> None:
    world.submit()
    world.rebuilder().rebuild_if_lost()
    assert world.jobs.epoch() == 1
    assert world.rebuilt == ["w"]


def test_an_empty_bucket_begins_the_first_epoch(world: World) -> None:
    assert world.jobs.epoch() == 1
    world.lose_and_rebuild()
    assert world.jobs.epoch() == 2
    assert world.rebuilt == ["w", "w"]


def test_every_job_is_as_it_was(world: World) -> None:
    promise = Idempotency(key="k", fingerprint="f")
    done = world.succeed(world.submit(replace(make_job(tenant="a"), result_fingerprint="r")))
    failed = world.submit()
    world.store(failed, world.claim(failed).attempt, Artifact.FAILURE)
    assert world.jobs.finish(failed.id, 1, Outcome(failure=FAILURE))
    cancelled = world.submit()
    cancel_job(world.jobs, world.artifacts, "default", cancelled.id)
    expired = world.submit(make_job(lives_s=-1))
    running = world.submit(idempotency=promise)
    held = world.claim(running)
    waiting = world.submit(make_job(webhook=Webhook(url="https://example.com", secret=SECRET)))
    gone = world.submit()
    world.artifacts.delete([gone.image.key or ""])
    world.artifacts.put(submission_key("0" * 32, "png"), b"not one of ours", "image/png")
    damaged = world.submit()
    world.artifacts.put(result_key(damaged.id, 1, Artifact.FAILURE), b"not one of ours", "application/json")

    world.lose_and_rebuild()

    states = {job.id: world.get(job).state for job in (done, failed, cancelled, expired, running, waiting)}
    assert states == {
        done.id: JobState.SUCCEEDED,
        failed.id: JobState.FAILED,
        cancelled.id: JobState.CANCELLED,
        expired.id: JobState.EXPIRED,
        running.id: JobState.QUEUED,
        waiting.id: JobState.QUEUED,
    }
    assert (world.get(done).attempt, world.get(done).request) == (done.attempt, done.request)
    assert world.jobs.recall_result("a", "r") == world.get(done)
    assert world.get(failed).failure == FAILURE
    assert world.get(waiting).request == waiting.request
    assert abs(world.get(waiting).created_ms - waiting.created_ms) < 10_000
    assert abs(world.get(waiting).expires_ms - waiting.expires_ms) < 10_000
    assert world.jobs.recall("default", promise) == world.get(running)
    assert world.jobs.find(gone.id) is None
    assert world.get(damaged).state is JobState.QUEUED
    assert world.jobs.find("0" * 32) is None
    assert not world.jobs.finish(running.id, held.attempt, Outcome(timings=TIMINGS))
    assert {hint.job_id for hint in world.jobs.unpublished(60, MANY)} == {running.id, waiting.id, damaged.id}


def test_attempts_of_every_epoch_are_told_apart(world: World) -> None:
    job = world.submit()
    attempts = [world.claim(job).attempt]
    for _ in range(3):
        world.lose_and_rebuild()
        attempts.append(world.claim(job).attempt)
    assert attempts == sorted(set(attempts))
    for attempt in attempts[:-1]:
        assert not world.jobs.finish(job.id, attempt, Outcome(timings=TIMINGS))
    assert world.jobs.finish(job.id, attempts[-1], Outcome(timings=TIMINGS))


def test_a_result_that_was_stored_and_not_told_ends_the_job(world: World) -> None:
    job = world.submit()
    claimed = world.claim(job)
    world.store(job, claimed.attempt)
    world.lose_and_rebuild()
    assert (world.get(job).state, world.get(job).attempt) == (JobState.SUCCEEDED, claimed.attempt)
    assert world.jobs.finish(job.id, claimed.attempt, Outcome(timings=TIMINGS))
    assert not world.jobs.finish(job.id, claimed.attempt, Outcome(failure=FAILURE))


@pytest.mark.parametrize(
    ("files", "state", "attempt"),
    [
        ({1: Artifact.PREDICTION, 2: Artifact.FAILURE}, JobState.FAILED, 2),
        ({2: Artifact.FAILURE, 10: Artifact.PREDICTION}, JobState.SUCCEEDED, 10),
        ({1: Artifact.PREDICTION, 2: Artifact.CATEGORY_MASK}, JobState.SUCCEEDED, 1),
        ({1: Artifact.CATEGORY_MASK}, JobState.QUEUED, 1000),
    ],
)
def test_the_latest_attempt_that_ended_counts(
    world: World, files: dict[int, Artifact], state: JobState, attempt: int
) -> None:
    job, after = world.submit(), world.submit()
    for number, artifact in files.items():
        world.store(job, number, artifact)
    world.lose_and_rebuild()
    assert (world.get(job).state, world.get(job).attempt) == (state, attempt)
    assert world.get(after).state is JobState.QUEUED


def test_a_long_request_is_read_whole(world: World) -> None:
    points = tuple(
        Prompt(label=f"label {i}", points=tuple((float(j), float(i)) for j in range(300))) for i in range(60)
    )
    job = world.submit(make_job(prompts=points))
    assert len(job.request.to_json()) > 1 << 16
    world.lose_and_rebuild()
    assert world.get(job).request == job.request


def test_one_rebuilds_at_a_time(world: World) -> None:
    job = world.submit()
    world.jobs.lose_memory()
    assert world.jobs.lead("rebuild", "other", 60)
    world.rebuilder().rebuild_if_lost()
    assert world.jobs.epoch() is None
    assert world.jobs.find(job.id) is None


def test_who_is_overtaken_begins_no_epoch(world: World) -> None:
    job = world.submit()
    world.jobs.lose_memory()
    world.rebuilder(others=[world.jobs.begin_rebuild]).rebuild_if_lost()  # as another worker does
    assert world.jobs.epoch() is None
    assert world.jobs.find(job.id) is None


class WipedAgain(MemoryJobStore):
    """Loses its memory once more, before one of the calls that fill it."""

    wiped_at = 0
    calls = 0

    def restore(self, *given: Any) -> bool:
        self._count()
        return super().restore(*given)

    def begin_epoch(self, *given: Any) -> None:
        self._count()
        super().begin_epoch(*given)

    def _count(self) -> None:
        with self._changed:
            if self.calls == self.wiped_at:
                self.lose_memory()
            self.calls += 1


@pytest.mark.parametrize("wiped_at", range(4))
def test_a_memory_that_is_lost_again_during_a_rebuild_is_filled_anew(wiped_at: int) -> None:
    world = World()
    jobs = [world.submit() for _ in range(3)]
    world.jobs = store = WipedAgain()
    store.lose_memory()
    store.wiped_at = wiped_at
    world.rebuilder().rebuild_if_lost()
    assert store.epoch() is None
    world.rebuilder().rebuild_if_lost()
    assert store.epoch() == 3
    assert world.rebuilt == ["w"] * 3
    assert [world.get(job).state for job in jobs] == [JobState.QUEUED] * 3
