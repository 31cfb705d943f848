"""A batch: many images that are submitted as one, each of which becomes a line of the results.

A batch's items are lines of its *parts*: objects in the bucket that its client uploaded, or that were made
from sources elsewhere. The lines are cut into *chunks*. A worker holds a chunk by a lease and a fencing
token, as it holds a job, runs its items as one pipeline, and stores a *shard* of results for it. What a
batch is, how far it has been cut, and how far it has come are three records, for three write them: the
client, the one worker that leads, and all workers.
"""

import secrets
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from pydantic import Field, JsonValue

from maskline.batch_results import ReviewThresholds
from maskline.clock import time_ms
from maskline.jobs import Failure
from maskline.requests import SegmentationRequest
from maskline.wire import WireModel

RUN_CHUNK_TASK = "maskline.run_chunks"  #: Celery task that runs chunks; its only argument is the model
EXPORT_BATCH_TASK = "maskline.export_batch"  #: Celery task that exports a batch; its arguments: batch, form

CHUNK_ITEMS = 64
MAX_CHUNK_BYTES = 1 << 23  # of the lines of a chunk
MAX_PARTIAL_FAILURES = 20
MAX_ACTIVE = 200  # batches that have not ended
MAX_PARTS = 100_000
MAX_SUMMED_LABELS = 1000  # categories that a summary tells of
SLOWEST = 10  # items that a summary tells of
ALL_LINES = 0  #: stands for the lines of a chunk that are run together, where a line's number is asked for


class BatchState(StrEnum):
    """Where a batch is in its life."""

    QUEUED = "queued"  #: accepted
    RUNNING = "running"  #: its chunks are run
    SUCCEEDED = "succeeded"  #: everything was tried; items may have failed
    FAILED = "failed"  #: it could not be gone on with
    CANCELLED = "cancelled"  #: ended by its client

    @property
    def is_final(self) -> bool:
        """Whether the batch has ended."""
        return self not in {BatchState.QUEUED, BatchState.RUNNING}


class ItemForm(StrEnum):
    """What a line of a part is."""

    ITEM = "item"  #: a ``BatchItem`` as JSON
    JSONL = "jsonl"  #: an instance of Vertex AI: a JSON object that holds the image's URI as ``content``
    FILE_LIST = "file-list"  #: an image's URI
    NOTED = "noted"  #: a ``NotedLine``


class Destination(WireModel):
    """Where the results go, beside Maskline's own bucket."""

    uri: str
    """The directory, as its client wrote the prefix: ``gs://`` or ``s3://``."""
    bucket: str
    """Of the configured store."""
    prefix: str
    """Of the keys, with the slash at its end."""


class SourceKind(StrEnum):
    """What a source of items is."""

    LINES = "lines"  #: an object whose lines are those of a part
    IMAGES = "images"  #: the images whose keys begin with a prefix
    COCO = "coco"  #: a COCO document, whose annotations are prompts
    YOLO = "yolo"  #: a data set as Ultralytics lays it out


class PromptSource(StrEnum):
    """What of a label of COCO or YOLO becomes the prompt."""

    BOXES = "boxes"  #: its bounding box
    MASKS = "masks"  #: its outline or run lengths, as a mask


class Source(WireModel):
    """Where items come from; it becomes a part."""

    kind: SourceKind = SourceKind.LINES
    """What it is."""
    bucket: str
    """Of the configured store."""
    key: str
    """Of the object; of images and of YOLO a prefix."""
    pattern: str = ""
    """Of images: a glob that what follows the prefix must match; empty: every file that may be an image."""
    images: str = ""
    """Of COCO: the prefix that the document's file names follow, in the same bucket."""
    prompts: PromptSource = PromptSource.BOXES
    """Of COCO and YOLO: what the annotations become."""


class ItemFields(WireModel):
    """Which fields of an instance of Vertex AI count."""

    key_field: str | None = None
    """The one that stands for the item in the results."""
    included: tuple[str, ...] = ()
    """These alone; empty: all but ``excluded``."""
    excluded: tuple[str, ...] = ()
    """These not."""


class BatchRequest(WireModel):
    """What a client asked for."""

    request: SegmentationRequest
    """Of every item, where the item does not say otherwise."""
    form: ItemForm = ItemForm.ITEM
    """Of the lines."""
    fields: ItemFields = ItemFields()
    """Which of an instance's fields count."""
    sources: tuple[Source, ...] = ()
    """Where items are, beside the parts that the client uploads."""
    destination: Destination | None = None
    """Where the results go, beside Maskline's own bucket."""
    review: ReviewThresholds = ReviewThresholds()
    """What is flagged."""
    items_sha256: str | None = None
    """Of the items that came with the request, in hex."""
    display_name: str = ""
    """Name for people."""
    metadata: dict[str, JsonValue] = Field(default_factory=dict)
    """Of the caller's, to be given back."""
    resource: dict[str, JsonValue] | None = None
    """The request as a client of Vertex AI wrote it, to be given back."""


class ItemFailure(WireModel):
    """Why an item has no prediction, as ``google.rpc.Status`` has it."""

    code: int
    """Of ``google.rpc.Code``."""
    message: str
    """What was wrong."""


class Progress(WireModel):
    """How far a batch has been cut into chunks, and what came of it: the record of the worker that leads."""

    state: BatchState = BatchState.QUEUED
    """Where it is in its life."""
    started_ms: int | None = None
    """When its first chunk could run."""
    ended_ms: int | None = None
    """When it ended."""
    updated_ms: int = 0
    """When this was written."""
    imported: int = 0
    """Sources that are parts by now."""
    part: int = 0
    """Parts that are all cut."""
    offset: int = 0
    """Bytes of the next part that are cut."""
    line: int = 0
    """Lines of all parts that are cut, empty ones too."""
    items: int = 0
    """That were found."""
    chunks: int = 0
    """That were cut."""
    tenths: int = 0
    """Of its items that have ended, once all of them are known."""
    published: int = 0
    """Chunks whose results are at the destination."""
    rounds: int = 0
    """How often the failed items were tried anew."""
    first_of_round: int = 1
    """Number of the first chunk of the latest round; the errors of those before were tried anew."""
    is_restored: bool = False
    """Whether Redis lost its memory since, so that chunks may have ended which it does not know of."""
    partial_failures: tuple[ItemFailure, ...] = Field(default=(), max_length=MAX_PARTIAL_FAILURES)
    """The first errors of items, where there is a destination."""
    failure: Failure | None = None
    """Why the batch failed or was cancelled."""


class Counts(WireModel):
    """How far a batch has come: the record of all workers."""

    ended: int = 0
    """Chunks that have ended."""
    succeeded: int = 0
    """Items with a prediction."""
    failed: int = 0
    """Items with an error."""
    flagged: int = 0
    """Items with a prediction that somebody should look at."""
    running: int = 0
    """Items of the chunks that workers hold."""
    recent: tuple[tuple[int, int], ...] = ()
    """The latest chunks that ended: when, in ms since 1970, and how many items each had."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """A batch's record."""

    id: str
    tenant: str
    request: BatchRequest
    created_ms: int
    parts: int = 0
    """That were uploaded, or made."""
    is_complete: bool = False
    """Whether its client has uploaded everything."""
    progress: Progress = field(default_factory=Progress)
    counts: Counts = field(default_factory=Counts)
    is_paused: bool = False
    is_cancelling: bool = False
    is_retrying: bool = False
    version: int = 1
    """Grows by one with every change that is not of ``counts``."""

    @property
    def has_ended(self) -> bool:
        """Whether nothing more comes of it, unless it is tried anew."""
        return self.progress.state.is_final and not self.is_retrying

    @property
    def is_all_cut(self) -> bool:
        """Whether there are no items to come."""
        return (
            self.is_complete
            and not self.is_retrying
            and self.progress.imported >= len(self.request.sources)
            and self.progress.part >= self.parts
        )

    @property
    def model(self) -> str:
        """Id of its model."""
        return self.request.request.model or ""

    def round_of(self, part: int) -> int:
        """Of a part, from 1, that is made of items that failed the round, from 1; of others 0. Those of the
        rounds are the last."""
        return max(0, part - (self.parts - self.progress.rounds))

    def form_of(self, part: int) -> ItemForm:
        """What a line of this part is, from 1."""
        sources = self.request.sources
        is_read = part <= len(sources) and sources[part - 1].kind is not SourceKind.LINES
        return ItemForm.NOTED if is_read or self.round_of(part) else self.request.form


class ChunkPlan(WireModel):
    """Where a chunk's items are."""

    part: int
    """From 1."""
    round: int = 0
    """Of a part that is made of items that failed, from 1."""
    form: ItemForm
    """Of the lines."""
    offset: int
    """Of the first line's first byte in the part."""
    length: int
    """Of all the lines, in bytes."""
    line: int
    """Number of the first line within all parts, from 1."""
    items: int
    """How many there are; empty lines are none."""
    repeated: dict[int, int] = Field(default_factory=dict)
    """Number of each line whose id another one has, to that of the first one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Chunk:
    """A chunk that a worker holds."""

    batch: str
    tenant: str
    request: BatchRequest
    number: int
    """From 1."""
    attempt: int
    """The fencing token: only the latest attempt may end the chunk."""
    plan: ChunkPlan
    losses: int = 0
    """Workers that were lost while they ran it."""
    suspects: dict[int, int] = field(default_factory=dict)
    """Numbers of the lines that were in hand when a worker was lost, to how often."""

    @property
    def key(self) -> "ChunkKey":
        """What tells it from all others."""
        return ChunkKey(self.batch, self.number, self.attempt)


class ChunkKey(NamedTuple):
    """An attempt at a chunk."""

    batch: str
    number: int
    attempt: int


class LabelSum(WireModel):
    """What there is of one category."""

    items: int = 0
    """That have it."""
    segments: int = 0
    """Of it."""
    pixels: int = 0
    """Of it."""

    def plus(self, more: "LabelSum") -> "LabelSum":
        """Both together."""
        return LabelSum(
            items=self.items + more.items,
            segments=self.segments + more.segments,
            pixels=self.pixels + more.pixels,
        )


class ChunkEnd(WireModel):
    """What came of a chunk. It is kept in the bucket beside the shard, and Redis adds it up."""

    number: int
    """Of the chunk."""
    attempt: int
    """That ended it."""
    succeeded: int = 0
    """Items with a prediction."""
    failed: int = 0
    """Items with an error."""
    flagged: int = 0
    """Items with a prediction that somebody should look at."""
    confidence: float = 0
    """Sum of the mean confidences of the items with a prediction."""
    labels: dict[str, LabelSum] = Field(default_factory=dict)
    """By the name of the category."""
    errors: dict[str, int] = Field(default_factory=dict)
    """Items with each code."""
    slowest: dict[str, float] = Field(default_factory=dict)
    """Of at most ``SLOWEST`` items: line and id, with a space between, to the milliseconds that it took."""


class EndedChunk(NamedTuple):
    """Where the results of a chunk are, and how many."""

    number: int
    attempt: int
    succeeded: int
    failed: int
    flagged: int


class NotedLine(WireModel):
    """A line of a part that the service made, with what it knows of it."""

    line: int
    """Its number, where it was found."""
    form: ItemForm
    """What ``text`` is."""
    text: str
    """The line."""
    failure: Failure | None = None
    """Why it can't be run; None: it is run."""


class ExportRequest(WireModel):
    """An export that is asked for."""

    format: str
    """Its name."""
    polygons: bool = False
    """Whether outlines are wanted in place of masks, in formats that have both."""

    @property
    def file_name(self) -> str:
        """Of the archive; another one's differs."""
        return f"{self.format}{'-polygons' if self.polygons else ''}.zip"


@dataclass(frozen=True, kw_only=True, slots=True)
class Sums:
    """What all chunks of a batch came to."""

    confidence: float = 0
    labels: dict[str, LabelSum] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)
    slowest: dict[str, float] = field(default_factory=dict)


def new_batch_id() -> str:
    """A fresh id: 18 to 19 digits, as Google's, in the order of time."""
    return f"{time_ms()}{secrets.randbelow(10**6):06d}"


def rpc_code(code: str) -> int:
    """The code that ``google.rpc.Code`` has for one of ours."""
    return _RPC_CODES.get(code, _RPC_INTERNAL)


_RPC_CODES = {
    "cancelled": 1,
    "invalid_request": 3,
    "malformed_request": 3,
    "image_unreadable": 3,
    "image_too_large": 3,
    "unsupported_image_type": 3,
    "repeated_item": 6,
    "image_unreachable": 5,
    "artifact_not_found": 5,
}
_RPC_INTERNAL = 13
