"""Objects that belong to no job are removed, and nothing else."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest

from maskline.adapters.memory import MemoryArtifactStore, MemoryJobStore
from maskline.artifacts import Artifact, result_key, submission_key
from maskline.jobs import Failure, Job, JobState, Outcome, new_job_id
from tests.factories import TIMINGS, make_job
from worker import orphans
from worker.orphans import OrphanRemover

DAY_S = 86400.0
SUCCESS = Outcome(timings=TIMINGS)
FAILURE = Outcome(failure=Failure(code="prediction_failed", message="no"))


@dataclass
class House:
    """A bucket and a job store under one clock, and who looks after them."""

    now_s: float = 1e9
    jobs: MemoryJobStore = field(init=False)
    artifacts: MemoryArtifactStore = field(init=False)

    def __post_init__(self) -> None:
        self.jobs = MemoryJobStore(clock_ms=lambda: int(self.now_s * 1000))
        self.artifacts = MemoryArtifactStore(clock_s=lambda: self.now_s)

    def look(self) -> None:
        OrphanRemover(store=self.jobs, artifacts=self.artifacts, age_s=DAY_S).look()

    def put(self, *keys: str) -> None:
        for key in keys:
            self.artifacts.put(key, b"", "image/png")

    def keys(self) -> set[str]:
        return set(self.artifacts.keys(""))

    def accept(self) -> Job:
        # Each of a model of its own: a claim gives the job of a model that is next.
        job = self.jobs.create(make_job(lives_s=30 * DAY_S, model=new_job_id()), None, 100)
        self.put(submission_key(job.id, "png"))
        return job

    def run(self, job: Job, outcome: Outcome | None) -> str:
        """Key of a file of a new attempt, with this end."""
        claimed = self.jobs.claim(job.kind, "w", 60)
        assert claimed is not None
        key = result_key(job.id, claimed.attempt, Artifact.CATEGORY_MASK)
        self.put(key)
        if outcome is None:
            self.jobs.release(job.id, claimed.attempt)
        else:
            self.jobs.finish(job.id, claimed.attempt, outcome)
        return key


@pytest.fixture
def house() -> House:
    return House()


def test_what_belongs_to_a_job_stays_in_every_state(house: House) -> None:
    kept = {submission_key(house.accept().id, "png")}
    running = house.accept()
    overtaken = house.run(running, None)
    claimed = house.jobs.claim(running.kind, "w", 60)
    assert claimed is not None
    succeeded = house.accept()
    kept |= {submission_key(running.id, "png"), overtaken, submission_key(succeeded.id, "png")}
    kept.add(house.run(succeeded, SUCCESS))
    house.now_s += 5 * DAY_S
    house.look()
    assert house.keys() == kept


def test_what_has_no_record_goes_when_it_is_old(house: House) -> None:
    lost = new_job_id()
    house.put(submission_key(lost, "png"), result_key(lost, 1, Artifact.PREDICTION), "doctor/abc")
    house.now_s += DAY_S - 1
    young = submission_key(new_job_id(), "json")
    house.put(young)
    house.look()
    assert len(house.keys()) == 4
    house.now_s += DAY_S / 2  # until it is time for the next look
    house.look()
    assert house.keys() == {young}


def test_files_of_attempts_that_lost_go_when_the_job_has_ended(house: House) -> None:
    succeeded, failed = house.accept(), house.accept()
    lost = house.run(succeeded, None)
    won = house.run(succeeded, SUCCESS)
    vain = house.run(failed, None)
    told = house.run(failed, FAILURE)  # where its end is told, should Redis lose its memory
    cancelled = house.accept()
    unwanted = house.run(cancelled, None)
    house.jobs.cancel(cancelled.tenant, cancelled.id)
    assert {lost, vain, unwanted} < house.keys()
    house.now_s += 2 * DAY_S
    house.look()
    accepted = {submission_key(job.id, "png") for job in (succeeded, failed, cancelled)}
    assert house.keys() == {won, told, *accepted}


def test_what_others_keep_is_left_alone(house: House) -> None:
    others = {
        "jobs/readme.txt",
        f"jobs/{new_job_id()}/deeper/x.png",
        "results/x/1/category.png",
        "embeddings/2026-01-01/a.safetensors",
        "batches/1/000001.json",
        "somebody/else.png",
    }
    house.put(*others)
    house.now_s += 5 * DAY_S
    house.look()
    assert house.keys() == others


def test_nothing_goes_while_the_store_is_filled_again(house: House) -> None:
    accepted = submission_key(house.accept().id, "png")
    house.now_s += 5 * DAY_S
    house.jobs.lose_memory()
    house.look()
    assert house.keys() == {accepted}
    house.jobs.begin_epoch(house.jobs.begin_rebuild(), 2)
    house.look()
    assert house.keys() == set()


def test_nothing_goes_if_the_store_is_wiped_during_a_look(house: House) -> None:
    class Wiped(MemoryJobStore):
        def states(self, job_ids: Iterable[str]) -> dict[str, tuple[JobState, int]]:
            self.lose_memory()
            self.begin_epoch(self.begin_rebuild(), 2)
            return {}

    accepted = submission_key(house.accept().id, "png")
    house.jobs = Wiped(clock_ms=lambda: int(house.now_s * 1000))
    house.now_s += 5 * DAY_S
    house.look()
    assert house.keys() == {accepted}


def test_one_worker_looks_at_a_time_and_reads_by_the_page(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orphans, "_AT_ONCE", 2)
    house.put(*(submission_key(new_job_id(), "png") for _ in range(7)))
    house.now_s += 2 * DAY_S
    house.look()
    assert house.keys() == set()
    house.put(late := submission_key(new_job_id(), "png"))
    house.artifacts.clock_s = lambda: (
        house.now_s + 2 * DAY_S
    )  # the bucket's clock counts, and it is old there
    house.look()
    assert house.keys() == {late}
    house.now_s += DAY_S / 4 + 1
    house.look()
    assert house.keys() == set()
