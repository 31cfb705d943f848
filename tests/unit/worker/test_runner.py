"""One job from its claim to its end, on the in-memory stores and the real GrabCut."""

import hashlib
import sys
from collections.abc import Callable
from concurrent.futures import Future
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from maskline.adapters.memory import MemoryArtifactStore, MemoryJobStore, MemoryTaskQueue
from maskline.adapters.outgoing import OutgoingClient
from maskline.artifacts import Artifact, embedding_key, result_key
from maskline.catalog import load_catalog
from maskline.codec import trailer
from maskline.errors import ArtifactStoreUnavailable
from maskline.image_header import ImageLimits
from maskline.jobs import ImageRef, Job, JobState, Kind
from maskline.ports import Hint
from maskline.requests import Output, Priority, Prompt, SegmentationRequest
from maskline.results import ResultDocument, SegmentList
from maskline.run_lengths import RunLengthMask
from maskline.weights import WeightStore
from tests.factories import DISC_BOX, OF_EVERY_MODEL, encoded, make_job, picture
from worker.batcher import Modelled
from worker.bucket_shelf import today_utc
from worker.family import Resources, SegmentationInput
from worker.fetching import fetcher
from worker.leases import LeaseKeeper
from worker.overlays import paint_overlay
from worker.registry import Registry
from worker.residency import Residency
from worker.runner import Runner
from worker.sweeper import Sweeper

LIMITS = ImageLimits(max_bytes=10**6, max_pixels=10**6, max_side=2000)
PNG = encoded(picture(), "PNG")
WIDE = RunLengthMask(size=(1, 2**31 - 1), counts="0oooo1")  # of which no pixel may be allocated
LEASE_S = 30.0
MANY = 100


class Bench:
    """A worker without Redis, S3 and Celery."""

    def __init__(self) -> None:
        self.jobs = MemoryJobStore()
        self.artifacts = MemoryArtifactStore()
        self.models = Residency(
            Registry(load_catalog(), ["grabcut"]),
            Resources(weights=WeightStore(Path("nowhere"))),
            max_loaded=1,
            max_bytes=None,
            batch_wait_s=0,
        )
        self.keeper = LeaseKeeper(self.jobs, lease_s=LEASE_S, deadline_s=60, on_failed=print, on_wedged=print)
        self.fetch = fetcher(self.artifacts, OutgoingClient().get_image, LIMITS.max_bytes)
        self.before_model: Callable[[], object] = lambda: None

    def submit(self, model: str, image: SegmentationInput, priority: Priority) -> Future[Modelled]:
        self.before_model()
        return self.models.submit(model, image, priority)

    def parameters(self, name: str, values: dict[str, Any]) -> Any:
        return self.models.parameters(name, values)

    def runner(self) -> Runner:
        return Runner(
            worker="w",
            leases=self.jobs,
            keeper=self.keeper,
            artifacts=self.artifacts,
            fetch=self.fetch,
            models=self,
            limits=LIMITS,
            lease_s=LEASE_S,
            image_cache_bytes=1 << 20,
        )

    def queue(self, body: bytes = PNG, **request: Any) -> Job:
        job = make_job(prompts=request.pop("prompts", ()))
        made = SegmentationRequest(**{**dict(job.request), **request})
        image = job.image.model_copy(update={"sha256": hashlib.sha256(body).hexdigest()})
        job = Job(id=job.id, tenant=job.tenant, request=made, image=image, expires_ms=job.expires_ms)
        if job.image.key is not None:
            self.artifacts.put(job.image.key, body + trailer(job), "image/png")
        return self.jobs.create(job, None, MANY)

    def run(self, job: Job) -> Job:
        self.runner().run(job.kind)
        return self.jobs.get(job.tenant, job.id)

    def stored(self, job: Job) -> set[str]:
        return {key.rpartition("/")[2] for key in self.artifacts.keys(f"results/{job.id}/")}


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_job_ends_with_everything_that_was_asked_for(bench: Bench) -> None:
    job = bench.run(bench.queue(prompts=[Prompt(label="disc", box=DISC_BOX)], outputs=tuple(OF_EVERY_MODEL)))
    assert job.state is JobState.SUCCEEDED
    assert bench.stored(job) == {str(one) for one in Artifact} - {Artifact.EMBEDDING, Artifact.FAILURE}
    result = ResultDocument.model_validate_json(
        bench.artifacts.get(result_key(job.id, 1, Artifact.PREDICTION))
    )
    segments = SegmentList.model_validate_json(bench.artifacts.get(result_key(job.id, 1, Artifact.SEGMENTS)))
    assert (result.width, result.height, result.bit_depth) == (96, 64, 8)
    assert result.segment_count == len(segments.segments) == 1
    assert job.timings is not None
    assert job.timings.model > 0


def test_a_further_job_on_an_image_neither_fetches_nor_decodes_it(bench: Bench) -> None:
    runner, prompts = bench.runner(), [Prompt(label="disc", box=DISC_BOX)]

    def run(*, fetches: bool, auto_orient: bool) -> Job:
        job = bench.queue(prompts=prompts, auto_orient=auto_orient)
        if not fetches and job.image.key:
            bench.artifacts.delete([job.image.key])
        runner.run(job.kind)
        return job

    first = run(fetches=True, auto_orient=True)
    again, unturned = run(fetches=False, auto_orient=True), run(fetches=False, auto_orient=False)
    assert first.image.sha256 == again.image.sha256 == unturned.image.sha256 is not None
    states = [bench.jobs.get(job.tenant, job.id).state for job in (first, again, unturned)]
    assert states == [JobState.SUCCEEDED, JobState.SUCCEEDED, JobState.FAILED]
    for artifact in (Artifact.CATEGORY_MASK, Artifact.CONFIDENCE_MASK, Artifact.SEGMENTS):
        one, other = (bench.artifacts.get(result_key(job.id, 1, artifact)) for job in (first, again))
        assert one == other


def test_only_what_was_asked_for_is_stored(bench: Bench) -> None:
    job = bench.run(bench.queue(outputs=(Output.CONFIDENCE_MASK,)))
    assert bench.stored(job) == {"confidence.png", "prediction.json"}


def test_a_worker_without_what_draws_says_so(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "worker.picture", None)
    job = bench.run(bench.queue(outputs=(Output.SEGMENTS, Output.PICTURE)))
    assert job.failure is not None
    assert job.failure.code == "output_unavailable"
    assert "maskline[pictures]" in job.failure.message
    assert bench.stored(job) == {"failure.json"}


def test_the_overlay_made_later_is_the_one_made_at_once(bench: Bench) -> None:
    prompts = [Prompt(label="disc", box=DISC_BOX)]
    at_once = bench.run(bench.queue(prompts=prompts, outputs=tuple(OF_EVERY_MODEL)))
    later = bench.run(bench.queue(prompts=prompts))
    for _ in range(2):  # a second message changes nothing
        paint_overlay(later, bench.artifacts, bench.fetch, LIMITS)
    one, other = (bench.artifacts.get(result_key(j.id, 1, Artifact.OVERLAY)) for j in (at_once, later))
    assert one == other


@pytest.mark.parametrize(
    ("body", "request_", "code"),
    [
        (PNG[:60], {}, "image_unreadable"),
        (PNG, {"prompts": [Prompt(label="a", box=(0, 0, 97, 10))]}, "invalid_request"),
        (PNG, {"prompts": [Prompt(label="a", mask=WIDE)]}, "invalid_request"),
        (PNG, {"model": "sam_vit_b"}, "model_not_found"),
        (PNG, {"parameters": {"iterations": 99}}, "invalid_request"),
    ],
)
def test_a_faulty_job_fails_with_its_code(bench: Bench, body: bytes, request_: Any, code: str) -> None:
    job = bench.run(bench.queue(body, **request_))
    assert job.state is JobState.FAILED
    assert job.failure is not None
    assert job.failure.code == code
    assert bench.stored(job) == {"failure.json"}


def test_a_model_that_raises_fails_the_job_without_telling_why(bench: Bench) -> None:
    def explode() -> None:
        raise RuntimeError("secret detail")

    bench.before_model = explode
    job = bench.run(bench.queue())
    assert job.failure is not None
    assert job.failure.code == "prediction_failed"
    assert "secret" not in job.failure.message


def test_a_job_that_was_cancelled_leaves_nothing_behind(bench: Bench) -> None:
    job = bench.queue()
    bench.before_model = partial(bench.jobs.cancel, job.tenant, job.id)
    ended = bench.run(job)
    assert ended.state is JobState.CANCELLED
    assert bench.stored(job) == set()


def test_an_attempt_that_knows_it_is_lost_stops_early(bench: Bench) -> None:
    job = bench.queue()

    def lose() -> None:
        bench.jobs.cancel(job.tenant, job.id)
        bench.keeper.renew()

    bench.before_model = lose
    stored: list[str] = []
    bench.artifacts.put = lambda key, *_: stored.append(key)  # type: ignore[method-assign]
    bench.run(job)
    assert stored == []


def test_a_store_that_is_away_sends_the_job_back_to_the_queue(bench: Bench) -> None:
    job = bench.queue()

    def away(*_: object, **__: object) -> bytes:
        raise ArtifactStoreUnavailable("away")

    get, bench.artifacts.get = bench.artifacts.get, away  # type: ignore[method-assign]
    assert bench.run(job).state is JobState.QUEUED
    bench.artifacts.get = get  # type: ignore[method-assign]
    ended = bench.run(job)
    assert (ended.state, ended.attempt) == (JobState.SUCCEEDED, 2)


def test_a_message_for_a_job_that_is_held_or_ended_changes_nothing(bench: Bench) -> None:
    job = bench.run(bench.queue())
    assert bench.run(job) == job
    held = bench.queue()
    claimed = bench.jobs.claim(held.kind, "other", LEASE_S)
    assert bench.run(held) == claimed
    bench.runner().run(Kind("another", Priority.BULK))


def test_an_image_url_inside_the_network_is_not_fetched(bench: Bench) -> None:
    job = make_job(image=ImageRef(url="http://127.0.0.1/a.png"))
    bench.jobs.create(job, None, MANY)
    ended = bench.run(job)
    assert ended.failure is not None
    assert ended.failure.code == "image_unreachable"


def test_a_job_over_its_deadline_is_failed_and_the_worker_told(bench: Bench) -> None:
    told: list[str] = []
    keeper = LeaseKeeper(
        bench.jobs,
        lease_s=LEASE_S,
        deadline_s=0,
        on_failed=told.append,
        on_wedged=lambda: told.append("wedged"),
    )
    claimed = bench.jobs.claim(bench.queue().kind, "w", LEASE_S)
    assert claimed is not None
    with keeper.holding(claimed) as lease:
        keeper.renew()
        assert lease.lost.is_set()
    ended = bench.jobs.get(claimed.tenant, claimed.id)
    assert ended.failure is not None
    assert ended.failure.code == "deadline_exceeded"
    assert told == [claimed.id, "wedged"]
    assert bench.jobs.unnoted(0, 9) == [claimed.id]


def test_what_a_worker_holds_can_be_given_back(bench: Bench) -> None:
    claimed = bench.jobs.claim(bench.queue().kind, "w", LEASE_S)
    assert claimed is not None
    with bench.keeper.holding(claimed):
        bench.keeper.release_all()
    assert bench.jobs.get(claimed.tenant, claimed.id).state is JobState.QUEUED
    assert bench.keeper.held() == []


class TestSweeper:
    @pytest.fixture(autouse=True)
    def _notes(self) -> None:
        self.noted: list[str] = []
        self.bucket_takes = True

    def note(self, job_id: str) -> bool:
        if self.bucket_takes:
            self.noted.append(job_id)
        return self.bucket_takes

    def sweeper(self, bench: Bench, queue: MemoryTaskQueue, holder: str = "s") -> Sweeper:
        return Sweeper(
            holder=holder,
            store=bench.jobs,
            note_end=self.note,
            artifacts=bench.artifacts,
            queue=queue,
            interval_s=60,
            republish_after_s=5,
            max_attempts=3,
        )

    def test_lapsed_and_unpublished_jobs_are_published(self, bench: Bench) -> None:
        queue = MemoryTaskQueue()
        now = [1_000_000]
        bench.jobs.clock_ms = lambda: now[0]
        lapsed, forgotten = bench.queue(), bench.queue(priority=Priority.BULK)
        assert bench.jobs.claim(lapsed.kind, "w", 1) is not None
        now[0] += 2000
        self.sweeper(bench, queue).sweep()
        assert queue.jobs == [Hint(lapsed.id, "grabcut", Priority.INTERACTIVE)]
        now[0] += 4000
        self.sweeper(bench, queue).sweep()
        assert queue.jobs[1:] == [Hint(forgotten.id, "grabcut", Priority.BULK)]

    def test_the_end_of_a_job_that_lost_its_workers_is_noted(self, bench: Bench) -> None:
        now = [1_000_000]
        bench.jobs.clock_ms = lambda: now[0]
        job = bench.queue()
        for _ in range(3):
            assert bench.jobs.claim(job.kind, "w", 1) is not None
            assert self.noted == []
            now[0] += 2000
            self.sweeper(bench, MemoryTaskQueue()).sweep()
        assert self.noted == [job.id]
        assert bench.jobs.get(job.tenant, job.id).state is JobState.FAILED

    def test_an_end_is_noted_until_the_bucket_takes_the_note(self, bench: Bench) -> None:
        now = [1_000_000]
        bench.jobs.clock_ms = lambda: now[0]
        job = bench.queue()
        bench.jobs.cancel(job.tenant, job.id)
        for waits_s, takes in ((5, True), (10, False), (10, False)):
            now[0] += waits_s * 1000
            self.bucket_takes = takes
            self.sweeper(bench, MemoryTaskQueue()).sweep()
            assert self.noted == []
        self.bucket_takes = True
        for _ in range(2):
            self.sweeper(bench, MemoryTaskQueue()).sweep()
            assert self.noted == [job.id]

    def test_messages_that_nobody_takes_do_not_pile_up(self, bench: Bench) -> None:
        queue = MemoryTaskQueue()
        now = [1_000_000]
        bench.jobs.clock_ms = lambda: now[0]
        for _ in range(3):
            bench.queue()
        for _ in range(10):
            now[0] += 60_000
            self.sweeper(bench, queue).sweep()
        assert len(queue.jobs) == 3

    def test_one_sweeps_at_a_time(self, bench: Bench) -> None:
        queue = MemoryTaskQueue()
        now = [1_000_000]
        bench.jobs.clock_ms = lambda: now[0]
        self.sweeper(bench, queue, "first").sweep()
        bench.queue()
        now[0] += 10_000
        self.sweeper(bench, queue, "second").sweep()
        assert queue.jobs == []
        self.sweeper(bench, queue, "first").sweep()
        assert len(queue.jobs) == 1

    def test_embeddings_stay_for_two_days(self, bench: Bench) -> None:
        today = today_utc()
        places = [embedding_key(today - timedelta(days=age), "key") for age in (0, 1, 2, 9)]
        for place in places:
            bench.artifacts.put(place, b"embedding", "application/octet-stream")
        self.sweeper(bench, MemoryTaskQueue()).sweep()
        assert set(bench.artifacts.keys("embeddings/")) == set(places[:2])
        bench.artifacts.put(places[2], b"embedding", "application/octet-stream")
        self.sweeper(bench, MemoryTaskQueue()).sweep()
        assert bench.artifacts.get(places[2]) == b"embedding", "the next look is an hour later"

    def test_an_expired_job_leaves_no_object(self, bench: Bench) -> None:
        now = [1_000_000]
        bench.jobs.clock_ms = lambda: now[0]
        job = bench.run(bench.queue())
        assert bench.stored(job)
        now[0] = job.expires_ms + 1
        self.sweeper(bench, MemoryTaskQueue()).sweep()
        assert list(bench.artifacts.keys("")) == []
        assert bench.jobs.find(job.id) is None
        assert bench.jobs.expire(60, 10) == []

    def test_a_job_whose_objects_can_not_be_removed_is_not_forgotten(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def unavailable(_: object) -> None:
            raise ArtifactStoreUnavailable("away")

        job = bench.run(bench.queue())
        bench.jobs.delete(job.tenant, job.id)
        sweeper = self.sweeper(bench, MemoryTaskQueue())
        with monkeypatch.context() as patch:
            patch.setattr(bench.artifacts, "delete", unavailable)
            with pytest.raises(ArtifactStoreUnavailable):
                sweeper.sweep()
        self.sweeper(bench, MemoryTaskQueue()).sweep()
        assert list(bench.artifacts.keys("")) == []
