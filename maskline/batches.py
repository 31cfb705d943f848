"""A batch: many images from objects in a bucket, each of which becomes a job; the results go to a bucket too.

A batch is worked off in shards of ``SHARD_ITEMS`` items. A shard is planned (its items are read, and written
down), its jobs are submitted, and when all have ended its results are written. Every step can be taken again:
what it makes follows from the record before it, and a job's id from its item's number.
"""

import hashlib
import secrets
import time
from dataclasses import dataclass, field
from enum import StrEnum

from pydantic import Field, JsonValue

from maskline.jobs import Failure
from maskline.requests import SegmentationRequest
from maskline.wire import WireModel

SHARD_ITEMS = 100
SHARDS_AT_ONCE = 2  # of a batch; so the workers have something to do while results are written
MAX_PARTIAL_FAILURES = 20
MAX_ACTIVE = 200  # batches that have not ended
PLANS = "batches/"  #: what the keys of all plans begin with


class BatchState(StrEnum):
    """Where a batch is in its life."""

    QUEUED = "queued"  #: accepted
    RUNNING = "running"  #: its jobs are submitted
    SUCCEEDED = "succeeded"  #: everything was tried; jobs may have failed
    FAILED = "failed"  #: it could not be gone on with
    CANCELLED = "cancelled"  #: ended by its client

    @property
    def is_final(self) -> bool:
        """Whether the batch has ended."""
        return self not in {BatchState.QUEUED, BatchState.RUNNING}


class ItemForm(StrEnum):
    """What a line of the input is."""

    JSONL = "jsonl"  #: a JSON object that holds the image's URI as ``content``
    FILE_LIST = "file-list"  #: an image's URI


class Destination(WireModel):
    """Where the results go."""

    uri: str
    """The directory, as its client wrote the prefix: ``gs://`` or ``s3://``."""
    bucket: str
    """Of the configured store."""
    prefix: str
    """Of the keys, with the slash at its end."""


class Source(WireModel):
    """One object with items."""

    bucket: str
    """Of the configured store."""
    key: str
    """Of the object."""


class ItemFields(WireModel):
    """Which fields of an item count."""

    key_field: str | None = None
    """The one that stands for the item in the results."""
    included: tuple[str, ...] = ()
    """These alone; empty: all but ``excluded``."""
    excluded: tuple[str, ...] = ()
    """These not."""


class BatchRequest(WireModel):
    """What a client asked for."""

    request: SegmentationRequest
    """Of every job."""
    form: ItemForm
    """Of the items."""
    fields: ItemFields = ItemFields()
    """Which of an item's fields count."""
    sources: tuple[Source, ...]
    """Where the items are."""
    destination: Destination
    """Where the results go."""
    resource: dict[str, JsonValue]
    """The request as it was written, to be given back."""


class Progress(WireModel):
    """How far a batch is."""

    state: BatchState = BatchState.QUEUED
    """Where it is in its life."""
    started_ms: int | None = None
    """When its first jobs were submitted."""
    ended_ms: int | None = None
    """When it ended."""
    updated_ms: int = 0
    """When this was written."""
    source: int = 0
    """Which of the sources is read."""
    offset: int = 0
    """Bytes of it that were read."""
    items: int = 0
    """That were read."""
    shards: int = 0
    """That were planned."""
    written: int = 0
    """Shards whose results are written."""
    succeeded: int = 0
    """Items with a prediction that is written."""
    failed: int = 0
    """Items with an error that is written."""
    partial_failures: tuple[Failure, ...] = Field(default=(), max_length=MAX_PARTIAL_FAILURES)
    """The first of these errors."""
    failure: Failure | None = None
    """Why the batch failed or was cancelled."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """A batch's record."""

    id: str
    tenant: str
    request: BatchRequest
    created_ms: int
    progress: Progress = field(default_factory=Progress)
    is_cancelling: bool = False
    version: int = 1
    """Grows by one with every progress."""

    @property
    def is_all_read(self) -> bool:
        """Whether every item has been read."""
        return self.progress.source >= len(self.request.sources)


class PlannedItem(WireModel):
    """An item of a shard."""

    instance: JsonValue = None
    """As it was given; of what can't be read the beginning, as text."""
    uri: str | None = None
    """``s3://`` URI of the image."""
    failure: Failure | None = None
    """Why it can't become a job."""


class ShardPlan(WireModel):
    """A shard's items, and where the next shard begins."""

    items: tuple[PlannedItem, ...]
    """In the order of the input."""
    source: int
    """Which source the next shard begins in."""
    offset: int
    """Byte of it at which the next shard begins."""


def new_batch_id() -> str:
    """A fresh id: 18 to 19 digits, as Google's, in the order of time."""
    return f"{time.time_ns() // 1_000_000}{secrets.randbelow(10**6):06d}"


def item_job_id(batch: Batch, number: int) -> str:
    """Id of the job of the item with this number, from 0: the same each time."""
    digest = hashlib.sha256(f"{batch.id}/{number}".encode()).hexdigest()
    return f"{batch.created_ms:012x}{digest[:20]}"


def rpc_code(failure: Failure) -> int:
    """The code that ``google.rpc.Code`` has for a failure."""
    return _RPC_CODES.get(failure.code, _RPC_INTERNAL)


_RPC_CODES = {
    "cancelled": 1,
    "job_cancelled": 1,
    "invalid_request": 3,
    "malformed_request": 3,
    "image_unreadable": 3,
    "image_too_large": 3,
    "unsupported_image_type": 3,
    "job_expired": 4,
    "image_unreachable": 5,
    "artifact_not_found": 5,
    "job_not_found": 5,
}
_RPC_INTERNAL = 13


def predictions_key(destination: Destination, shard: int) -> str:
    """Key of a shard's predictions in the destination's bucket; ``shard`` from 1."""
    return f"{destination.prefix}predictions_{shard:04d}.jsonl"


def errors_key(destination: Destination, shard: int) -> str:
    """Key of a shard's errors in the destination's bucket; ``shard`` from 1."""
    return f"{destination.prefix}errors_{shard:04d}.jsonl"


def plan_key(batch_id: str, shard: int) -> str:
    """Key of a shard's plan in Maskline's own bucket; ``shard`` from 1."""
    return f"{PLANS}{batch_id}/{shard:06d}.json"


def batch_of_plan(key: str) -> str:
    """Id of the batch that the plan under this key is of."""
    return key.removeprefix(PLANS).partition("/")[0]
