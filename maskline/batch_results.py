"""What a batch gives: a line of JSON for each item, in files that hold a chunk's items each.

A line has the item as it was given beside its prediction or its error, as the files of Vertex AI's batch
prediction have it. Lines of the native API say more: how the item went, what is in its masks, and why
somebody should look at it.
"""

from enum import StrEnum
from typing import Annotated

from pydantic import Field, JsonValue

from maskline.jobs import Failure
from maskline.results import AnnotationSpec, Prediction, Segment
from maskline.wire import WireModel


class ReviewReason(StrEnum):
    """Why somebody should look at an item."""

    LOW_CONFIDENCE = "low_confidence"  #: the masks are right with too little probability, on average
    EMPTY_MASK = "empty_mask"  #: there is nothing but background
    TINY_SEGMENT = "tiny_segment"  #: a segment covers too little of the image
    PROMPT_WITHOUT_SEGMENT = "prompt_without_segment"  #: a prompt gave nothing


class ReviewFlag(WireModel):
    """One reason to look at an item."""

    reason: ReviewReason
    """For programs."""
    detail: str
    """For people."""


class ReviewThresholds(WireModel):
    """What is flagged for review."""

    min_confidence: Annotated[float, Field(ge=0, le=1)] = 0.6
    """Of the masks: the mean of the confidence mask."""
    min_segment_area: Annotated[float, Field(ge=0, le=1)] = 0.0005
    """Of a segment: its part of the image."""


class ItemLine(WireModel):
    """What every line has."""

    id: str
    """Of the item: its own, or the number of its line."""
    line: Annotated[int, Field(ge=1)]
    """Of the manifest."""
    instance: JsonValue = None
    """The item as it was given; of what can't be read its beginning, as text."""


class ItemTimings(WireModel):
    """Milliseconds that an item spent in each stage."""

    fetch: float
    """Loading the image's bytes."""
    decode: float
    """Turning them into pixels."""
    model: float
    """Running the model; of images that ran together each has an equal share."""
    batch: float
    """Waiting for the model."""
    render: float
    """Turning the masks into files."""


class ItemResult(ItemLine):
    """An item with its prediction."""

    prediction: Prediction
    """The masks, in base64."""
    width: int
    """Of the masks, in pixels."""
    height: int
    """Of the masks, in pixels."""
    bit_depth: Annotated[int, Field(ge=8, le=16)]
    """Of the category mask: 8 (palette), or 16 (grayscale) when an id is above 255."""
    annotation_specs: tuple[AnnotationSpec, ...]
    """Background, and the categories that are in the category mask or have a segment."""
    segments: tuple[Segment, ...]
    """The instances behind the masks."""
    mean_confidence: Annotated[float, Field(ge=0, le=1)]
    """Mean of the confidence mask."""
    timings: ItemTimings
    """Where the time went."""
    flags: tuple[ReviewFlag, ...] = ()
    """Why somebody should look at it."""


class ItemError(ItemLine):
    """An item that has none."""

    error: Failure
    """What was wrong, and what would be right."""


class PromptProblem(WireModel):
    """A prompt that a source did not give; its image went on with the others."""

    where: str
    """Such as ``annotation 7`` or ``labels/a.txt, line 3``."""
    message: str
    """What was wrong, and what would be right."""


class ItemReview(ItemLine):
    """An item that somebody should look at."""

    mean_confidence: Annotated[float, Field(ge=0, le=1)]
    """Mean of the confidence mask."""
    flags: Annotated[tuple[ReviewFlag, ...], Field(min_length=1)]
    """Why."""


class CategorySummary(WireModel):
    """What a batch found of one category."""

    display_name: str
    """Its name."""
    items: int
    """That have it."""
    segments: int
    """Of it."""
    pixels: int
    """Of it, in all category masks."""


class SlowItem(WireModel):
    """An item that took long."""

    id: str
    """Of the item."""
    line: int
    """Of the manifest."""
    milliseconds: float
    """From fetching its image until its masks were rendered, without waiting for the model."""


class BatchSummary(WireModel):
    """What came of a batch."""

    batch: str
    """Its id."""
    model: str
    """That ran."""
    items: int
    """That were given."""
    succeeded: int
    """With a prediction."""
    failed: int
    """With an error."""
    flagged: int
    """Of those with a prediction: to be looked at."""
    seconds: float
    """From its first chunk to its last, pauses included."""
    mean_confidence: float | None = None
    """Of all masks; None: there are none."""
    categories: tuple[CategorySummary, ...] = ()
    """The most frequent first, at most a thousand."""
    slowest: tuple[SlowItem, ...] = ()
    """The slowest first, at most ten."""
    errors: dict[str, int] = Field(default_factory=dict)
    """How many items failed with each code."""
