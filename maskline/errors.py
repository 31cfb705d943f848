"""The errors that Maskline's own code raises.

    ServiceError                    code, message that is safe to show, retryable
      RequestError                  the caller can mend it; never retried by the service
        InvalidRequest              well-formed, but some fields are wrong (all faults together)
        MalformedRequest            the body can't be read at all
        UnsupportedMediaType        the body's content type is none that is taken
        ImageUnreadable             not an image, or truncated, or corrupt
        ImageTooLarge               more bytes, pixels or a longer side than the settings allow
        UnsupportedImageType        a readable format that Maskline does not take
        ImageUnreachable            the image's URL or URI can't be fetched
        IdempotencyKeyReused        same key, other request
        ModelNotFound  JobNotFound  BatchNotFound  ArtifactNotFound  KeyNotFound
        WebhookNotFound  DeadLetterNotFound
        TooManyWebhooks             the tenant has as many as it may
        TooManySecrets              the webhook has as many as sign at once
        BatchClosed                 it takes no more items
        ExportFailed                its results don't fit into the format
        BatchNotFinished            it goes on, and must not for this
        JobNotFinished              there is no result yet
        JobWithoutResult            the job ended, and not in success
        Unauthenticated  Forbidden
      WaitOver                      the job goes on, but its client waits no longer
      CapacityError                 try again later
        QueueFull  TenantQueueFull  RateLimited  TooManyCalls  RenderPending  ModelNotReady
        WebhookNotTested
      DependencyError               a part of the service is away; retried
        JobStoreUnavailable  ArtifactStoreUnavailable  QueueUnavailable
      ModelError                    the model or its worker failed; never retried
        PredictionFailed  WeightsUnusable  DeviceUnavailable  WorkerLost  DeadlineExceeded

    RebuildOvertaken                of a store's filling alone; no caller sees it

``code`` is part of the API and stable; class names and messages are not.
HTTP statuses are given to these classes in ``api/errors.py`` and nowhere else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with a request.

    ``pointer`` is the JSON pointer (RFC 6901) of the faulty value in the request body, such as
    ``/prompts/0/box``; for a value in the query, ``parameter`` names it instead. ``detail`` says what is
    wrong and what would be right.
    """

    pointer: str
    detail: str
    parameter: str | None = None


class ServiceError(Exception):
    """What went wrong, in words that a caller may see."""

    code: ClassVar[str] = "internal_error"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class RequestError(ServiceError):
    """The request is at fault."""

    code = "bad_request"


class InvalidRequest(RequestError):
    """The request was read, and some of its values are wrong."""

    code = "invalid_request"

    def __init__(self, faults: Sequence[Fault]) -> None:
        """``faults``: at least one."""
        super().__init__("; ".join(f"{f.parameter or f.pointer or '/'}: {f.detail}" for f in faults))
        self.faults = tuple(faults)


class MalformedRequest(RequestError):
    """The request's body is not of the form that its content type promises."""

    code = "malformed_request"


class UnsupportedMediaType(RequestError):
    """The content type is not taken here."""

    code = "unsupported_media_type"


class ImageUnreadable(RequestError):
    """The bytes are not an image, or not a whole one."""

    code = "image_unreadable"


class ImageTooLarge(RequestError):
    """The image is over a limit of the settings."""

    code = "image_too_large"


class UnsupportedImageType(RequestError):
    """The image is of a format that Maskline does not take."""

    code = "unsupported_image_type"


class ImageUnreachable(RequestError):
    """The image's URL or URI does not give an image."""

    code = "image_unreachable"


class OutputUnavailable(RequestError):
    """This service can't make what was asked for."""

    code = "output_unavailable"


class IdempotencyKeyReused(RequestError):
    """The idempotency key belongs to a request with another body."""

    code = "idempotency_key_reused"


class ModelNotFound(RequestError):
    """No worker has ever offered a model of that id."""

    code = "model_not_found"


class JobNotFound(RequestError):
    """There is no such job for this caller."""

    code = "job_not_found"


class BatchNotFound(RequestError):
    """There is no such batch for this caller."""

    code = "batch_not_found"


class BatchClosed(RequestError):
    """The batch takes no more items."""

    code = "batch_closed"


class ExportFailed(RequestError):
    """The batch's results can't be had in the format."""

    code = "export_failed"


class BatchNotFinished(RequestError):
    """The batch goes on."""

    code = "batch_not_finished"


class ArtifactNotFound(RequestError):
    """The job has no such artifact, or the object is gone."""

    code = "artifact_not_found"


class KeyNotFound(RequestError):
    """There is no API key of that id."""

    code = "key_not_found"


class WebhookNotFound(RequestError):
    """There is no such webhook endpoint for this caller."""

    code = "webhook_not_found"


class DeadLetterNotFound(RequestError):
    """There is no such dead letter for this caller."""

    code = "dead_letter_not_found"


class WebhookDisabled(RequestError):
    """Nothing is sent to the webhook endpoint."""

    code = "webhook_disabled"


class TooManyWebhooks(RequestError):
    """The tenant has as many webhook endpoints as it may."""

    code = "too_many_webhooks"


class TooManySecrets(RequestError):
    """As many secrets of the webhook endpoint sign as may at once."""

    code = "too_many_secrets"


class JobNotFinished(RequestError):
    """The job has no result yet."""

    code = "job_not_finished"


class JobWithoutResult(RequestError):
    """The job ended without a result."""

    code = "job_without_result"


class Unauthenticated(RequestError):
    """No key, or one that is unknown, revoked or expired."""

    code = "unauthenticated"


class Forbidden(RequestError):
    """The key is good, but lacks the scope for this call."""

    code = "forbidden"


class WaitOver(ServiceError):
    """The job did not end while its client waited; it goes on."""

    code = "wait_over"


class CapacityError(ServiceError):
    """There is no room now; later there may be."""

    code = "over_capacity"
    retryable = True


class QueueFull(CapacityError):
    """More jobs wait than the settings allow, or more batches go on than may."""

    code = "queue_full"


class TenantQueueFull(QueueFull):
    """More jobs of the tenant wait than the settings allow it, or more of its batches go on than may."""

    code = "tenant_queue_full"


class RateLimited(CapacityError):
    """The tenant has submitted more of late than the settings allow it; nothing was accepted."""

    code = "rate_limited"

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        """``retry_after_s``: when it may submit again."""
        super().__init__(message)
        self.retry_after_s = retry_after_s


class TooManyCalls(CapacityError):
    """As many calls wait for their results as may; nothing was accepted."""

    code = "too_many_calls"


class RenderPending(CapacityError):
    """The picture asked for is still being rendered."""

    code = "render_pending"


class WebhookNotTested(CapacityError):
    """No worker has sent the test event yet."""

    code = "webhook_not_tested"


class ModelNotReady(CapacityError):
    """No living worker offers the model, and the caller won't wait for one."""

    code = "model_not_ready"


class DependencyError(ServiceError):
    """A server that Maskline stands on does not answer."""

    code = "dependency_unavailable"
    retryable = True


class JobStoreUnavailable(DependencyError):
    """Redis does not answer."""

    code = "job_store_unavailable"


class JobStoreRebuilding(JobStoreUnavailable):
    """It lost its memory, and is being filled again; nothing came of the call."""


class ArtifactStoreUnavailable(DependencyError):
    """The S3 store does not answer, or fails."""

    code = "artifact_store_unavailable"


class QueueUnavailable(DependencyError):
    """The broker does not take the message."""

    code = "queue_unavailable"


class ModelError(ServiceError):
    """The model, or the worker under it, failed."""

    code = "model_error"


class PredictionFailed(ModelError):
    """The model raised on this input."""

    code = "prediction_failed"


class WeightsUnusable(ModelError):
    """The model can't be loaded: its weights are missing, altered or of another kind."""

    code = "weights_unusable"


class OutOfMemory(ModelError):
    """The device has too little memory for the model and this image."""

    code = "out_of_memory"


class DeviceUnavailable(ModelError):
    """The worker's settings, or the model's catalog entry, name a device that its machine does not have."""

    code = "device_unavailable"


class WorkerLost(ModelError):
    """Every worker that tried the job died or fell silent."""

    code = "worker_lost"


class DeadlineExceeded(ModelError):
    """The job ran longer than the settings allow."""

    code = "deadline_exceeded"


class RebuildOvertaken(Exception):
    """The store lost its memory once more, or another rebuild began; what this one put in may be gone."""


def error_of(code: str, message: str) -> ServiceError:
    """The error that was told of by this code and message; a plain one for a code that is none of ours."""
    if code == InvalidRequest.code:
        return InvalidRequest([Fault("", message)])
    classes: list[type[ServiceError]] = [ServiceError]
    for cls in classes:
        classes += cls.__subclasses__()
    return next((cls(message) for cls in classes if cls.code == code), ServiceError(message))
