"""One job, from its claim to its end. Needs neither a GPU nor Celery."""

import hashlib
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Protocol

import structlog

from maskline.artifacts import Artifact, result_key
from maskline.codec import end_document
from maskline.errors import (
    DependencyError,
    InvalidRequest,
    PredictionFailed,
    ServiceError,
)
from maskline.image_header import ImageLimits
from maskline.jobs import Failure, Job, Kind, Outcome, Timings
from maskline.ports import ArtifactStore, LeaseStore
from maskline.requests import Output, Priority, Subtask, outside
from worker.batcher import Modelled
from worker.decoding import decode
from worker.family import CommonParameters, Image, SegmentationInput
from worker.fetching import Fetch
from worker.leases import Lease, LeaseKeeper, LeaseLost
from worker.rendering import render
from worker.sized_cache import SizedCache
from worker.stopwatch import Stopwatch

logger = structlog.get_logger(module=__name__)

_AT_ONCE = 16  # files of all jobs that are made or stored


class Models(Protocol):
    """Where images are run."""

    def submit(self, model: str, image: SegmentationInput, priority: Priority) -> Future[Modelled]:
        """The model's result for the image, to come."""
        ...

    def parameters(self, model: str, values: dict[str, object]) -> CommonParameters:
        """The parameters of a request, as the model's family reads them."""
        ...


class Runner:
    """Runs jobs, each in the thread that calls."""

    def __init__(
        self,
        *,
        worker: str,
        leases: LeaseStore,
        keeper: LeaseKeeper,
        artifacts: ArtifactStore,
        fetch: Fetch,
        models: Models,
        limits: ImageLimits,
        lease_s: float,
        image_cache_bytes: int,
    ) -> None:
        """``worker``: this worker's name; ``fetch``: gives an image's bytes; ``image_cache_bytes``: for the
        pixels of images, so that the next job on one neither fetches nor decodes it."""
        self._worker = worker
        self._leases = leases
        self._keeper = keeper
        self._artifacts = artifacts
        self._fetch = fetch
        self._models = models
        self._limits = limits
        self._lease_s = lease_s
        self._images: SizedCache[Image] = SizedCache(image_cache_bytes, lambda image: image.nbytes)
        self._pool = ThreadPoolExecutor(_AT_ONCE, "files")

    def run(self, kind: Kind) -> None:
        """Run the job of this kind that is next; if none waits, there is nothing to do.

        Raises:
            JobStoreUnavailable: the record can't be reached; the lease will lapse and the job come back.
        """
        job = self._leases.claim(kind, self._worker, self._lease_s)
        if job is None:
            return
        with structlog.contextvars.bound_contextvars(**job.log_context()), self._keeper.holding(job) as lease:
            logger.info("job started", model=job.request.model)
            try:
                outcome = self._outcome(job, lease)
                if outcome.failure is not None:
                    self._put(
                        job,
                        Artifact.FAILURE,
                        end_document(outcome.state, job.attempt, outcome.failure),
                    )
            except LeaseLost:
                logger.info("job lost")
                self._discard(job)
                return
            except DependencyError as error:
                logger.warning("job given back", code=error.code)
                self._leases.release(job.id, job.attempt)
                return
            if self._leases.finish(job.id, job.attempt, outcome):
                logger.info("job ended", state=outcome.state, code=outcome.failure and outcome.failure.code)
            else:
                logger.info("job lost")
                self._discard(job)

    def _outcome(self, job: Job, lease: Lease) -> Outcome:
        try:
            return Outcome(timings=self._attempt(job, lease))
        except (LeaseLost, DependencyError):
            raise
        except ServiceError as error:
            return Outcome(failure=Failure(code=error.code, message=error.message))
        except Exception:
            logger.exception("prediction failed")
            message = "the model failed on this image; the operator's log has the reason"
            return Outcome(failure=Failure(code=PredictionFailed.code, message=message))

    def _attempt(self, job: Job, lease: Lease) -> Timings:
        watch = Stopwatch()
        image, image_key = self._image(job, watch)
        self._check_prompts(job, image)
        lease.check()
        model, given = job.request.model or "", self._input(job, lease, image, image_key)
        modelled = self._models.submit(model, given, job.request.priority).result()
        lease.check()
        with watch.stage("render"):
            files = render(modelled.segmentation, image, job.request, self._pool)
        lease.check()
        with watch.stage("store"):
            self._store(job, files)
        return Timings(
            queue=(job.started_ms or job.queued_ms) - job.queued_ms,
            batch=round(modelled.waited_s * 1000, 3),
            model=round(modelled.ran_s * 1000, 3),
            **watch.spent_ms,
        )

    def _image(self, job: Job, watch: Stopwatch) -> tuple[Image, str]:
        """The pixels of the job's image, and a key that stands for them."""
        known = job.image.sha256 and _image_key(job.image.sha256, job)
        with watch.stage("fetch"):
            image = self._images.find(known) if known else None
            data = self._fetch(job.image, job.attempt) if image is None else b""
        with watch.stage("decode"):
            if image is not None and known is not None:
                return image, known
            image = decode(data, self._limits, auto_orient=job.request.auto_orient)
            key = known or _image_key(hashlib.sha256(data).hexdigest(), job)
        self._images.keep(key, image)
        return image, key

    def _store(self, job: Job, files: dict[Artifact, bytes]) -> None:
        """First one file alone: with it a store over folders makes the attempt's, and several would race.

        The document goes last, for it says that the others are there.
        """
        *others, document = files.items()
        for together in (others[:1], others[1:], [document]):
            for stored in [self._pool.submit(self._put, job, *file) for file in together]:
                stored.result()

    def _put(self, job: Job, artifact: Artifact, body: bytes) -> None:
        self._artifacts.put(result_key(job.id, job.attempt, artifact), body, artifact.media_type)

    def _input(self, job: Job, lease: Lease, image: Image, image_key: str) -> SegmentationInput:
        request = job.request
        return SegmentationInput(
            image=image,
            image_key=image_key,
            prompts=request.prompts,
            subtask=request.subtask or Subtask.SEMANTIC,
            parameters=self._models.parameters(request.model or "", dict(request.parameters)),
            wants_embedding=Output.EMBEDDING in request.outputs,
            check_wanted=lease.check,
        )

    def _check_prompts(self, job: Job, image: Image) -> None:
        height, width = image.shape[:2]
        faults = outside(job.request.prompts, width, height)
        if faults:
            raise InvalidRequest(faults)

    def _discard(self, job: Job) -> None:
        # A file that stays behind when this fails is one that no record names.
        with suppress(ServiceError):
            self._artifacts.delete(result_key(job.id, job.attempt, artifact) for artifact in Artifact)


def _image_key(sha256: str, job: Job) -> str:
    return f"{sha256} {job.request.auto_orient}"
