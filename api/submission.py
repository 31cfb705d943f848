"""Accepting a job: check it, store it, record and publish it. In this order, so that a job that was
acknowledged can be found again whatever dies."""

from contextlib import suppress
from io import SEEK_END, BytesIO

import structlog

from api.body import is_beside
from api.checks import faults_of_request
from api.intake import Submission
from api.services import Services
from maskline.artifacts import submission_key
from maskline.codec import trailer
from maskline.errors import (
    ArtifactNotFound,
    CapacityError,
    Fault,
    ImageUnreachable,
    InvalidRequest,
    RequestError,
    ServiceError,
)
from maskline.image_header import ImageHeader, ImageLimits, read_header
from maskline.jobs import ImageRef, Job, new_job_id
from maskline.ports import Idempotency
from maskline.requests import SegmentationRequest
from maskline.results import ModelCard


class Submitter:
    """Turns what a client sent into a queued job."""

    def __init__(self, services: Services) -> None:
        """``services``: where images, requests, records and messages go."""
        self._services = services
        settings = services.settings
        self._limits = ImageLimits.from_settings(settings)

    def submit(self, tenant: str, submission: Submission, idempotency: Idempotency | None) -> Job:
        """The job, queued; or the job that the idempotency key belongs to.

        Raises:
            RequestError: something is wrong with the request or its image.
            QueueFull: too many jobs wait.
            DependencyError: Redis or S3 does not answer; nothing was accepted.
        """
        if idempotency is not None and (known := self._services.jobs.recall(tenant, idempotency)):
            return known
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
        return self._create(tenant, request, submission, header, idempotency)

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
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        allowed = self._services.settings.import_buckets
        if bucket not in allowed:
            known = ", ".join(allowed) or "none"
            raise InvalidRequest(
                [Fault("/image/uri", f"the bucket {bucket!r} is not open for import; these are: {known}")]
            )
        try:
            self._services.artifacts.size(key, bucket=bucket)
        except ArtifactNotFound as error:
            raise ImageUnreachable(f"{uri} can't be read: {error.message}") from error

    def _create(
        self,
        tenant: str,
        request: SegmentationRequest,
        submission: Submission,
        header: ImageHeader | None,
        idempotency: Idempotency | None,
    ) -> Job:
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
        job = Job(id=job_id, tenant=tenant, request=request, image=image, expires_ms=expiry_ms)
        file = upload.file if upload else BytesIO()
        file.seek(0, SEEK_END)
        file.write(trailer(job))
        services.artifacts.put(key, file, header.media_type if header else "application/json")
        try:
            created = services.jobs.create(job, idempotency, services.settings.max_queued)
        except (RequestError, CapacityError):
            self._discard(key)
            raise
        if created.id != job_id:
            self._discard(key)
        structlog.contextvars.bind_contextvars(job=created.id)
        return created

    def _discard(self, key: str) -> None:
        # What stays behind when this fails is an object that no record names.
        with suppress(ServiceError):
            self._services.artifacts.delete([key])
