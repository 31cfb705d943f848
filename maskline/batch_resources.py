"""Batches as the native API takes and gives them."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, model_validator

from maskline.batch_items import BatchItem
from maskline.batch_results import ReviewThresholds
from maskline.batches import PromptSource
from maskline.jobs import Failure
from maskline.plain_words import Right
from maskline.requests import MAX_PROMPTS, Prompt, Subtask
from maskline.wire import FreeObject, WireModel

MAX_LISTED_ITEMS = 10_000
MAX_PACK_BYTES = 1 << 27
EXPORT_FORMAT = r"[a-z][a-z-]{0,63}"  # a name that a format could have

ObjectUri = Annotated[
    str,
    Field(pattern=r"^(s3|gs)://[^/\s]+/.+$", max_length=2048),
    Right("give s3://BUCKET/KEY"),
]
PrefixUri = Annotated[
    str,
    Field(pattern=r"^(s3|gs)://[^/\s]+(/.*)?$", max_length=1024),
    Right("give s3://BUCKET/PREFIX"),
]


class BatchSource(WireModel):
    """Where items are, in buckets that the operator opened for import; exactly one of the first four."""

    manifest: ObjectUri | None = None
    """An object whose lines are items as JSON."""
    images: PrefixUri | None = None
    """Every image whose key begins with this."""
    coco: ObjectUri | None = None
    """A COCO document whose annotations become prompts; ``imagePrefix`` says where its images are."""
    yolo: PrefixUri | None = None
    """A data set as Ultralytics lays it out, whose labels become prompts."""
    pattern: Annotated[str, Field(max_length=1024)] = ""
    """With ``images``: a glob that what follows the prefix must match, such as ``**/left_*.jpg``, where
    ``**`` stands for any folders; left out: what is called like an image."""
    image_prefix: PrefixUri | None = None
    """With ``coco``: what its file names follow; left out: the document's own folder."""
    prompts: PromptSource = PromptSource.BOXES
    """With ``coco`` and ``yolo``: what the labels become."""

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if sum(one is not None for one in (self.manifest, self.images, self.coco, self.yolo)) != 1:
            raise ValueError("give exactly one of manifest, images, coco and yolo")
        return self


class BatchDefaults(WireModel):
    """What goes for every item of a batch that does not say otherwise."""

    model: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    """Id of a model of ``GET /v1/models``; left out: the service's default model."""
    subtask: Subtask | None = None
    """Left out: what the model does by itself."""
    prompts: Annotated[tuple[Prompt, ...], Field(max_length=MAX_PROMPTS)] = ()
    """What to cut out; none: everything (automatic mode)."""
    parameters: FreeObject = Field(default_factory=dict)
    """As those of a job."""
    auto_orient: bool = True
    """Turn each image upright by its EXIF orientation first."""
    review: ReviewThresholds = ReviewThresholds()
    """What is flagged for review."""
    display_name: Annotated[str, Field(max_length=128)] = ""
    """Name for people."""
    metadata: FreeObject = Field(default_factory=dict)
    """Anything of the caller's, given back with the batch; at most 4096 bytes of JSON."""
    destination: PrefixUri | None = None
    """A directory in a bucket that the operator opened for export, where the results are copied too."""


class NewBatch(BatchDefaults):
    """A new batch. With neither ``items`` nor ``source``, and no manifest beside it, its items are uploaded
    afterwards, part by part."""

    items: Annotated[tuple[BatchItem, ...], Field(min_length=1, max_length=MAX_LISTED_ITEMS)] | None = None
    """The items themselves, if they are few."""
    source: BatchSource | None = None
    """Where the items are."""

    @model_validator(mode="after")
    def _at_most_one(self) -> Self:
        if self.items is not None and self.source is not None:
            raise ValueError("give items or source, not both")
        return self


class BatchStatus(StrEnum):
    """Where a batch is in its life, as its client sees it."""

    QUEUED = "queued"  #: accepted; nothing has run yet
    RUNNING = "running"
    PAUSED = "paused"  #: what is in hand is ended, and nothing more begins
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"  #: everything was tried; items may have failed
    FAILED = "failed"  #: it could not be gone on with
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether nothing goes on."""
        return self in {BatchStatus.SUCCEEDED, BatchStatus.FAILED, BatchStatus.CANCELLED}


class ItemCounts(WireModel):
    """How many items are where."""

    queued: int
    """Known by now, and not begun."""
    running: int
    """In a worker's hands."""
    succeeded: int
    """With a prediction."""
    failed: int
    """With an error."""
    cancelled: int
    """Not begun when the batch was cancelled or failed."""
    flagged: int
    """Of those with a prediction: to be looked at."""


class BatchResource(WireModel):
    """A batch, as its client sees it."""

    id: str
    """Name of the batch."""
    state: BatchStatus
    """Where it is in its life."""
    model: str
    """Id of the model."""
    subtask: Subtask
    """What it does."""
    display_name: str = ""
    """As given."""
    metadata: FreeObject = Field(default_factory=dict)
    """As given."""
    items: int
    """Found by now."""
    is_all_read: bool
    """Whether there are no items to be found."""
    is_complete: bool
    """Whether no more parts are taken."""
    parts: int
    """Parts that there are."""
    counts: ItemCounts
    """Where the items are."""
    items_per_second: float | None = None
    """Of late; absent where nothing has run of late."""
    seconds_left: float | None = None
    """At that pace; absent where that is not known."""
    rounds: int = 0
    """How often failed items were tried anew."""
    created_at: datetime
    """When it was accepted."""
    started_at: datetime | None = None
    """When its first items could run."""
    finished_at: datetime | None = None
    """When it ended."""
    destination: str | None = None
    """Where the results are copied to."""
    error: Failure | None = None
    """Why it failed or was cancelled."""


class BatchPage(WireModel):
    """A page of batches, newest first."""

    batches: tuple[BatchResource, ...]
    """The batches."""
    next_page_token: str | None = None
    """Give it as ``pageToken`` to get the next page; absent on the last one."""


class ExportFormats(WireModel):
    """The formats in which a batch can be exported."""

    export_formats: tuple[str, ...]
    """Their names."""


class ExportResource(WireModel):
    """An export that is not there yet."""

    format: str
    """Its name."""
    state: str
    """``running``: ask again in a moment."""


class ShardResource(WireModel):
    """The files of one chunk of items."""

    number: int
    """Of the chunk, from 1, in the order of the items."""
    succeeded: int
    """Lines of ``predictions``."""
    failed: int
    """Lines of ``errors``."""
    flagged: int
    """Lines of ``review``."""
    predictions: str | None = None
    """URL of its results; absent where there are none."""
    errors: str | None = None
    """URL of its errors; absent where there are none, or its failed items were tried anew."""
    review: str | None = None
    """URL of what to look at; absent where there is nothing."""


class ShardPage(WireModel):
    """The chunks that have ended, in their order, up to the first that has not."""

    shards: tuple[ShardResource, ...]
    """The chunks."""
    is_last: bool
    """Whether no more will come."""
