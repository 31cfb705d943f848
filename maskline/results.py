"""What a model can do, and what a job gives: model cards, annotation specs, segments, predictions."""

from typing import Annotated

from pydantic import Field, JsonValue

from maskline.plain_words import Right
from maskline.requests import Output, PromptKind, Subtask
from maskline.run_lengths import RunLengthMask
from maskline.wire import Color, WireModel

BACKGROUND_ID = 0
MAX_PALETTE_ID = 255  #: a category mask with a larger id is 16-bit grayscale


class AnnotationSpec(WireModel):
    """One category: a pixel value of the category mask, its name and its colour."""

    id: Annotated[int, Field(ge=0, le=65535)]
    """Pixel value in the category mask; 0 is background."""
    display_name: str
    """Name of the category."""
    color: Color
    """``#rrggbb``; in a palette PNG the palette's entry for ``id``."""


class Segment(WireModel):
    """One instance, or one region of stuff, behind the category mask."""

    id: int
    """1, 2, … in the order of this list."""
    label: str
    """Display name of the category."""
    category_id: int
    """Id of the annotation spec."""
    score: Annotated[float, Field(ge=0, le=1)]
    """How sure the model is of this segment."""
    bbox: tuple[float, float, float, float]
    """``[x, y, width, height]`` in pixels, as COCO writes it."""
    area: int
    """Pixels of the mask."""
    segmentation: RunLengthMask
    """The whole mask, holes and separate parts included."""


class SegmentList(WireModel):
    """All segments of a job."""

    width: int
    """Of the image, in pixels."""
    height: int
    """Of the image, in pixels."""
    segments: tuple[Segment, ...]
    """The segments."""


class SegmentPicture(WireModel):
    """A segment whose mask is a picture of its own."""

    label: str
    """Display name of the category."""
    category_id: int
    """Id of the annotation spec."""
    score: Annotated[float, Field(ge=0, le=1)]
    """How sure the model is of this segment."""
    mask: str
    """Base64 of a PNG of the image's size, one channel, 8 bits: 255 on the segment, 0 elsewhere."""


class SegmentPictureList(WireModel):
    """All segments of a job, each with its mask as a picture."""

    width: int
    """Of the image, in pixels."""
    height: int
    """Of the image, in pixels."""
    segments: tuple[SegmentPicture, ...]
    """The segments, in the order of ``SegmentList``."""


class Detection(Segment):
    """A segment that was chosen, with its outlines; ``id`` is that of the segment."""

    polygons: tuple[tuple[tuple[int, int], ...], ...]
    """The outline of each part, largest first: ``[x, y]`` of the outermost pixels on it, at least three.
    Holes are in ``segmentation`` alone."""


class DetectionList(WireModel):
    """The detections of a job, best score first."""

    width: int
    """Of the image, in pixels."""
    height: int
    """Of the image, in pixels."""
    detections: tuple[Detection, ...]
    """The detections."""


class Prediction(WireModel):
    """Vertex AI's ``ImageSegmentationPredictionResult``."""

    category_mask: str | None = None
    """PNG of the image's size; each pixel is the id of an annotation spec, 0 is background."""
    confidence_mask: str | None = None
    """PNG of the image's size, one channel, 8 bits: 0 no confidence, 255 complete confidence."""


class ResultDocument(WireModel):
    """``prediction.json``: what an attempt produced, as kept in the bucket beside the masks."""

    width: int
    """Of the masks, in pixels."""
    height: int
    """Of the masks, in pixels."""
    bit_depth: Annotated[int, Field(ge=8, le=16)]
    """Of the category mask: 8 (palette), or 16 (grayscale) when an id is above 255."""
    annotation_specs: tuple[AnnotationSpec, ...]
    """Background, then every category that this job could have painted."""
    segment_count: int
    """How many segments there are."""
    outputs: tuple[Output, ...]
    """What was stored."""


class Endpoint(WireModel):
    """A name for a model with defaults of its own, as clients of Vertex AI call models."""

    id: Annotated[
        str,
        Field(pattern=r"^[A-Za-z0-9_-]{1,128}$"),
        Right("give letters, digits, _ and -, at most 128 in all"),
    ]
    """Last part of its resource name."""
    display_name: str = ""
    """Name for people; left out: the model's."""
    subtask: Subtask | None = None
    """What the model is asked for; left out: what it does by itself."""
    parameters: dict[str, JsonValue] = Field(default_factory=dict)
    """Where a request gives none."""


class ModelCard(WireModel):
    """What a model can do; a worker publishes it, and the API validates against it."""

    id: str
    """Name of the model in requests."""
    aliases: tuple[str, ...] = ()
    """Other names of it in requests."""
    endpoints: tuple[Endpoint, ...] = ()
    """Names of it with defaults of their own."""
    family: str
    """The code that runs it."""
    display_name: str
    """Name for people."""
    description: str = ""
    """A sentence or two for people."""
    license: str = ""
    """SPDX id of the weights, or of the algorithm where there are none."""
    subtasks: tuple[Subtask, ...]
    """What it can be asked for; the first is the default."""
    prompt_kinds: tuple[PromptKind, ...] = ()
    """Empty: it takes no prompts."""
    automatic: bool = True
    """Whether it works without prompts."""
    embeds: bool = False
    """Whether it can give what it made of an image (the output ``embedding``)."""
    annotation_specs: tuple[AnnotationSpec, ...] = ()
    """Its categories; empty: they come from the prompts' labels or from the segments."""
    revision: str = ""
    """Changes with the model's weights, labels and options, as far as its catalog entry tells of them."""
    parameters_schema: dict[str, JsonValue] = Field(default_factory=dict)
    """JSON Schema (2020-12) of ``parameters``."""

    @property
    def parameter_names(self) -> frozenset[str]:
        """Of the parameters that it has."""
        properties = self.parameters_schema.get("properties")
        return frozenset(properties) if isinstance(properties, dict) else frozenset()
