"""What a job is, and the one table of moves that its life is made of."""

import secrets
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from maskline.clock import time_ms
from maskline.requests import Priority, SegmentationRequest
from maskline.wire import WireModel

SEGMENT_TASK = "maskline.segment"  #: Celery task that runs one job; its only argument is the job id
RENDER_OVERLAY_TASK = "maskline.render_overlay"  #: Celery task that paints one job's overlay, by job id

KEEP_EXPIRED_S = 24 * 3600.0  #: so long a client can still learn that a job expired
INTERACTIVE_PER_BULK = 8  #: turns that interactive jobs have before a bulk job has one


PER_EPOCH = 1000  #: attempts and versions of a job, and attempts of a chunk, within an epoch are fewer


class JobState(StrEnum):
    """Where a job is in its life."""

    QUEUED = "queued"  #: accepted; no worker has it
    RUNNING = "running"  #: one worker holds the lease of the current attempt
    SUCCEEDED = "succeeded"  #: the masks are stored
    FAILED = "failed"  #: ended with a failure
    CANCELLED = "cancelled"  #: ended by its client
    EXPIRED = "expired"  #: its time was over before it ended

    @property
    def is_final(self) -> bool:
        """Whether the job has ended."""
        return not MOVES[self]


MOVES: dict[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED}),
    JobState.RUNNING: frozenset(
        {JobState.QUEUED, JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED}
    ),
    JobState.SUCCEEDED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELLED: frozenset(),
    JobState.EXPIRED: frozenset(),
}
"""The legal moves. Back from running to queued: the lease lapsed, or the worker gave the job back."""


class Failure(WireModel):
    """Why a job failed."""

    code: str
    """Stable; one of the codes of ``maskline.errors``."""
    message: str
    """What was wrong, and what would be right."""


class Timings(WireModel):
    """Milliseconds that the successful attempt spent in each stage."""

    queue: float
    """From the submission (or the last return to the queue) until a worker claimed the job."""
    fetch: float
    """Loading the image's bytes; next to nothing where the worker still has its pixels."""
    decode: float
    """Turning them into pixels."""
    model: float
    """Running the model; of images that ran together each has an equal share."""
    batch: float
    """Waiting for the model to take the image: until it is loaded, and done with the images before."""
    render: float
    """Turning the masks into files."""
    store: float
    """Writing the files to the bucket."""


class ImageRef(WireModel):
    """Where a job's image is. Exactly one of ``key``, ``uri`` and ``url`` is set."""

    key: str | None = None
    """Of the submission in Maskline's own bucket."""
    uri: str | None = None
    """``s3://bucket/key`` in a bucket that the operator opened for import."""
    url: str | None = None
    """http or https."""
    sha256: str | None = None
    """Of the bytes, in hex; known for images in Maskline's own bucket."""
    media_type: str | None = None
    """``image/jpeg`` and the like, from the bytes; known when the API saw them."""
    width: int | None = None
    """Of the upright image, in pixels; known when the API saw the header."""
    height: int | None = None
    """Of the upright image, in pixels; known when the API saw the header."""


class Kind(NamedTuple):
    """What the jobs have in common of which any may be run next where one may."""

    model: str
    priority: Priority


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A job's record. Times are milliseconds since 1970, on the job store's clock."""

    id: str
    tenant: str
    request: SegmentationRequest
    image: ImageRef
    created_ms: int = 0
    result_fingerprint: str | None = None
    """Hash over all that the result depends on; None where that is not known in advance."""
    expires_ms: int = 0
    queued_ms: int = 0
    started_ms: int | None = None
    finished_ms: int | None = None
    state: JobState = JobState.QUEUED
    version: int = 0
    """Grows by one with every move; orders the events of a job."""
    attempt: int = 0
    """The fencing token: only the latest attempt may end the job."""
    worker: str | None = None
    """While running: who holds the lease."""
    place: int | None = None
    """In the queue, 1 is next; known of a queued job that was read by itself."""
    timings: Timings | None = None
    failure: Failure | None = None

    @property
    def kind(self) -> Kind:
        """Which jobs it waits among."""
        return Kind(self.request.model or "", self.request.priority)

    def log_context(self) -> dict[str, str | int]:
        """The fields that every log line about this job carries."""
        return {"job": self.id, "tenant": self.tenant, "attempt": self.attempt}


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How an attempt ended: with timings (succeeded) or with a failure."""

    timings: Timings | None = None
    failure: Failure | None = None

    @property
    def state(self) -> JobState:
        """The state that the job moves to."""
        return JobState.FAILED if self.failure else JobState.SUCCEEDED


def new_job_id() -> str:
    """A fresh id: 32 hex digits, in order of time (48 bits of milliseconds, 80 bits of chance)."""
    return f"{time_ms():012x}{secrets.token_hex(10)}"
