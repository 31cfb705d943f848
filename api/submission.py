"""Accepting a job: check it, store it, record and publish it. In this order, so that a job that was
acknowledged can be found again whatever dies."""

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from io import SEEK_END, BytesIO

import structlog

from api.body import is_beside
from api.checks import faults_of_request
from api.intake import Submission
from api.limits import admit
from api.services import Services
from maskline.artifact_operations import exists
from maskline.artifacts import Artifact, result_key, submission_key
from maskline.bucket_uris import not_open, split_uri
from maskline.codec import trailer
from maskline.errors import (
    ArtifactNotFound,
    CapacityError,
    Fault,
    ImageUnreachable,
    InvalidRequest,
    JobStoreRebuilding,
    RequestError,
    ServiceError,
)
from maskline.image_header import ImageHeader, ImageLimits, read_header
from maskline.jobs import ImageRef, Job, new_job_id
from maskline.ports import Idempotency
from maskline.requests import SegmentationRequest
from maskline.results import ModelCard


@dataclass(frozen=True, kw_only=True, slots=True)
class Checked:
    """A submission that may become a job."""

    submission: Submission
    request: SegmentationRequest
    """The submission's, with the model's id and the subtask filled in."""
    card: ModelCard
    """Of the model."""
    header: ImageHeader | None
    """None: the image is elsewhere."""
    result_fingerprint: str | None
    """The same for all submissions that have this result; None: that is not known in advance."""


class Submitter:
    """Turns what a client sent into a queued job."""

    def __init__(self, services: Services) -> None:
        """``services``: where images, requests, records and messages go."""
        self._services = services
        settings = services.settings
        self._limits = ImageLimits.from_settings(settings)
        self._is_rebuilding = False

    def submit(
        self,
        tenant: str,
        submission: Submission,
        idempotency: Idempotency | None,
        *,
        reuses_result: bool = False,
    ) -> Job:
        """The job, queued; or the job that the idempotency key belongs to.

        ``reuses_result``: an earlier job will do, as ``earlier`` finds it.

        Raises:
            RequestError: something is wrong with the request or its image.
            CapacityError: too many jobs wait, or the tenant has submitted too many.
            DependencyError: Redis or S3 does not answer; nothing was accepted.
        """
        if idempotency is not None and (known := self._services.jobs.recall(tenant, idempotency)):
            return known
        checked = self.check(submission)
        earlier = self.earlier(tenant, checked) if reuses_result else None
        if earlier is None:
            admit(self._services, tenant, 1)
            return self.create(tenant, checked, idempotency)
        if idempotency is not None:
            self._services.jobs.bind(idempotency, earlier)
        return earlier

    def check(self, submission: Submission) -> Checked:
        """The submission, if the model can run it.

        Raises:
            RequestError: something is wrong with the request or its image.
            ArtifactStoreUnavailable: the image is in the store, which does not answer.
        """
        card = self._card(submission.request)
        header = self._read_header(submission)
        found = faults_of_request(
            submission.request,
            card,
            header.size if header else None,
            limits=self._limits,
            has_webhook_secret=self._services.settings.webhook_secret is not None,
        )
        faults = [*submission.faults, *(fault for fault in found if is_beside(fault, submission.faults))]
        if faults:
            raise InvalidRequest(faults)
        request = submission.request.model_copy(
            update={"model": card.id, "subtask": submission.request.subtask or card.subtasks[0]}
        )
        sha256 = submission.upload.sha256 if submission.upload else None
        return Checked(
            submission=submission,
            request=request,
            card=card,
            header=header,
            result_fingerprint=_result_fingerprint(request, card, sha256) if sha256 else None,
        )

    def earlier(self, tenant: str, checked: Checked) -> Job | None:
        """A job that succeeded with the result that this one would have, if the request lets it stand for it.

        Raises:
            DependencyError: Redis or S3 does not answer.
        """
        request = checked.request
        asks_for_its_own = request.webhook or request.metadata or request.expires_in
        if checked.result_fingerprint is None or not request.use_cache or asks_for_its_own:
            return None
        job = self._services.jobs.recall_result(tenant, checked.result_fingerprint)
        if job is None or not exists(
            self._services.artifacts, result_key(job.id, job.attempt, Artifact.PREDICTION)
        ):
            return None
        structlog.contextvars.bind_contextvars(job=job.id)
        return job

    def create(self, tenant: str, checked: Checked, idempotency: Idempotency | None) -> Job:
        """The job, which was admitted, now queued; or the job that the idempotency key belongs to.

        Raises:
            QueueFull: too many jobs wait.
            DependencyError: Redis or S3 does not answer; nothing was accepted.
        """
        self._require_memory()
        submission, request, header = checked.submission, checked.request, checked.header
        services, upload = self._services, submission.upload
        expiry_ms = int((request.expires_in or services.settings.job_expiry) * 1000)
        job_id = new_job_id()
        key = submission_key(job_id, header.extension if header else "json")
        image = ImageRef(url=submission.url, uri=submission.uri)
        if upload is not None and header is not None:
            width, height = header.size
            image = ImageRef(
                key=key, sha256=upload.sha256, media_type=header.media_type, width=width, height=height
            )
        job = Job(
            id=job_id,
            tenant=tenant,
            request=request,
            image=image,
            expires_ms=expiry_ms,
            result_fingerprint=checked.result_fingerprint,
        )
        file = upload.file if upload else BytesIO()
        file.seek(0, SEEK_END)
        file.write(trailer(job, idempotency))
        services.artifacts.put(key, file, header.media_type if header else "application/json")
        try:
            most_of_tenant = services.settings.limits_of(tenant).max_queued
            created = services.jobs.create(job, idempotency, services.settings.max_queued, most_of_tenant)
        except (RequestError, CapacityError):
            self._discard(key)
            raise
        except JobStoreRebuilding:
            self._is_rebuilding = True
            if idempotency is None:  # else the rebuild may have found it, and the key then leads to that job
                self._discard(key)
            raise
        if created.id != job_id:
            self._discard(key)
        structlog.contextvars.bind_contextvars(job=created.id)
        return created

    def _require_memory(self) -> None:
        """Return unless the store had lost its records of late, and still lacks them: what is stored then
        becomes a job of its own, with each try."""
        if self._is_rebuilding:
            self._services.jobs.check()
            self._is_rebuilding = False

    def _card(self, request: SegmentationRequest) -> ModelCard:
        return self._services.cards.find(request.model or self._services.settings.default_model)

    def _read_header(self, submission: Submission) -> ImageHeader | None:
        if submission.upload is not None:
            header = read_header(
                submission.upload.file, self._limits, auto_orient=submission.request.auto_orient
            )
            submission.upload.file.seek(0)
            return header
        if submission.uri is not None:
            self._check_uri(submission.uri)
        return None

    def _check_uri(self, uri: str) -> None:
        bucket, key = split_uri(uri)
        allowed = self._services.settings.import_buckets
        if bucket not in allowed:
            raise InvalidRequest([Fault("/image/uri", not_open(bucket, "import", allowed))])
        try:
            self._services.artifacts.size(key, bucket=bucket)
        except ArtifactNotFound as error:
            raise ImageUnreachable(f"{uri} can't be read: {error.message}") from error

    def _discard(self, key: str) -> None:
        # What stays behind when this fails is an object that no record names.
        with suppress(ServiceError):
            self._services.artifacts.delete([key])


def _result_fingerprint(request: SegmentationRequest, card: ModelCard, image_sha256: str) -> str:
    text = request.model_dump_json(include=_DECISIVE)
    return hashlib.sha256(f"{_VERSION} {card.revision} {image_sha256} {text}".encode()).hexdigest()[:32]


_DECISIVE = {"model", "subtask", "prompts", "parameters", "outputs", "detections", "picture", "auto_orient"}
_VERSION = version("maskline")  # another one may give other results
