"""A submission as one object of the bucket: the image, its request behind it, and a footer.

    image bytes | request as JSON | length of the JSON, 4 bytes, big-endian | b"MSK1"

One object is written for a job, so that what was accepted is there wholly or not at all, at the price of one
request to the store. Image viewers open it, for they ignore what follows the image. A job whose image is
elsewhere has no image bytes.
"""

import struct

from maskline.clock import time_ms
from maskline.jobs import Failure, ImageRef, Job, JobState
from maskline.ports import Idempotency
from maskline.requests import SegmentationRequest
from maskline.wire import WireModel

_FOOTER = struct.Struct(">I4s")
_MAGIC = b"MSK1"


class SubmissionDocument(WireModel):
    """A job as it was accepted; enough to make its record again."""

    id: str
    """Of the job."""
    tenant: str
    """Whose job it is."""
    request: SegmentationRequest
    """As submitted, with the model and subtask filled in."""
    image: ImageRef
    """Where the image is."""
    result_fingerprint: str | None = None
    """Of the result that it would have."""
    created_ms: int | None = None
    """When it was accepted, in ms since 1970, by the API's clock."""
    expires_ms: int | None = None
    """When it expires."""
    idempotency: Idempotency | None = None
    """The caller's promise."""


class EndDocument(WireModel):
    """How a job ended otherwise than in success."""

    state: JobState
    """``failed``, ``cancelled`` or ``expired``."""
    attempt: int
    """The latest."""
    finished_ms: int
    """When, in ms since 1970."""
    failure: Failure | None = None
    """Why it failed."""


def end_document(state: JobState, attempt: int, failure: Failure | None) -> bytes:
    """``EndDocument`` of an end that comes now."""
    now_ms = time_ms()
    end = EndDocument(state=state, attempt=attempt, failure=failure, finished_ms=now_ms)
    return end.to_json().encode()


class NotASubmission(ValueError):
    """The bytes are no submission, or not a whole one."""


def trailer(job: Job, idempotency: Idempotency | None = None) -> bytes:
    """What follows the image. ``job``: as it will be accepted now."""
    now_ms = time_ms()
    # Its parts were checked when they came.
    document = SubmissionDocument.model_construct(
        id=job.id,
        tenant=job.tenant,
        request=job.request,
        image=job.image,
        result_fingerprint=job.result_fingerprint,
        created_ms=now_ms,
        expires_ms=now_ms + job.expires_ms - job.created_ms,
        idempotency=idempotency,
    )
    text = document.to_json().encode()
    return text + _FOOTER.pack(len(text), _MAGIC)


def split_submission(data: bytes) -> tuple[memoryview, SubmissionDocument]:
    """The image's bytes and the request.

    Raises:
        NotASubmission: the bytes are something else.
    """
    if len(data) < _FOOTER.size:
        raise NotASubmission("too short for a footer")
    length, magic = _FOOTER.unpack_from(data, len(data) - _FOOTER.size)
    start = len(data) - _FOOTER.size - length
    if magic != _MAGIC or start < 0:
        raise NotASubmission("the footer is none of ours")
    document = SubmissionDocument.model_validate_json(data[start : start + length])
    return memoryview(data)[:start], document
