"""Accepting a job: check, store the image, store the request, record, publish. In this order, so that a job
that was acknowledged can be found again whatever dies."""

import logging
from collections.abc import Iterable
from contextlib import suppress

from api.checks import check_request
from api.intake import Submission, Upload
from api.services import Services
from maskline.artifacts import input_key, request_key
from maskline.codec import request_document
from maskline.errors import CapacityError, Fault, InvalidRequest, RequestError, ServiceError
from maskline.image_header import ImageHeader, ImageLimits, read_header
from maskline.jobs import ImageRef, Job, new_job_id
from maskline.ports import Idempotency, InputGone
from maskline.requests import SegmentationRequest
from maskline.results import ModelCard

logger = logging.getLogger(__name__)


class Submitter:
    """Turns what a client sent into a queued job."""

    def __init__(self, services: Services) -> None:
        """``services``: where images, requests, records and messages go."""
        self._services = services
        settings = services.settings
        self._limits = ImageLimits(
            max_bytes=settings.max_image_bytes,
            max_pixels=settings.max_image_pixels,
            max_side=settings.max_image_side,
        )

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
        check_request(
            submission.request,
            card,
            header.size if header else None,
            has_webhook_secret=self._services.settings.webhook_secret is not None,
        )
        request = submission.request.model_copy(
            update={"model": card.id, "subtask": submission.request.subtask or card.subtasks[0]}
        )
        job = self._create(tenant, request, submission, header, idempotency)
        self._publish(job)
        return job

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
        self._services.artifacts.size(key, bucket=bucket)

    def _create(
        self,
        tenant: str,
        request: SegmentationRequest,
        submission: Submission,
        header: ImageHeader | None,
        idempotency: Idempotency | None,
    ) -> Job:
        services = self._services
        expiry_ms = int((request.expires_in or services.settings.job_expiry) * 1000)
        job_id = new_job_id()
        shared = services.jobs.known_input(tenant, submission.upload.sha256) if submission.upload else None
        while True:
            stored: list[str] = []
            image = ImageRef(url=submission.url, uri=submission.uri)
            if submission.upload is not None and header is not None:
                key = shared or input_key(submission.upload.sha256, job_id, header.extension)
                image = _image_ref(key, submission.upload, header)
                if shared is None:
                    services.artifacts.put(key, submission.upload.file, header.media_type)
                    stored.append(key)
            job = Job(id=job_id, tenant=tenant, request=request, image=image, expires_ms=expiry_ms)
            key = request_key(job_id)
            services.artifacts.put(key, request_document(job).encode(), "application/json")
            stored.append(key)
            try:
                created = services.jobs.create(
                    job, idempotency, services.settings.max_queued, shares_image=shared is not None
                )
            except InputGone:
                self._discard(stored)
                job_id, shared = new_job_id(), None
                continue
            except (RequestError, CapacityError):
                self._discard(stored)
                raise
            if created.id != job_id:
                self._discard(stored)
            return created

    def _discard(self, keys: Iterable[str]) -> None:
        # What stays behind when this fails too is an object that no record names.
        with suppress(ServiceError):
            self._services.artifacts.delete(keys)

    def _publish(self, job: Job) -> None:
        try:
            self._services.queue.publish_job(job.id, job.request.priority)
        except ServiceError as error:
            # The job is recorded, so it will run: the sweeper publishes it again.
            logger.warning("job not published", exc_info=error, extra=job.log_context())


def _image_ref(key: str, upload: Upload, header: ImageHeader) -> ImageRef:
    width, height = header.size
    return ImageRef(key=key, sha256=upload.sha256, media_type=header.media_type, width=width, height=height)
