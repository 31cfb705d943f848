"""What a client asks for: one image through one model.

These models are at once the validation of the native API and the source of its OpenAPI document.
Coordinates are pixels of the upright image (after EXIF orientation, unless ``autoOrient`` is off),
with the origin in the top left corner, x to the right and y down.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator

from maskline.errors import Fault
from maskline.plain_words import Right
from maskline.run_lengths import RunLengthMask
from maskline.webhook_secret import WebhookSecret
from maskline.wire import FreeObject, WireModel

MAX_PROMPTS = 1024
MAX_POINTS = 1024
MAX_LABELS = 1024
MAX_METADATA_BYTES = 4096
MAX_STROKE = 100
MIN_EXPIRES_IN_S = 60
MAX_EXPIRES_IN_S = 365 * 24 * 3600

Coordinate = Annotated[float, Field(allow_inf_nan=False)]
Label = Annotated[str, Field(min_length=1, max_length=128)]


class Subtask(StrEnum):
    """What kind of segmentation is wanted."""

    SEMANTIC = "semantic"  #: a category for every pixel
    INSTANCE = "instance"  #: a mask for every object
    PANOPTIC = "panoptic"  #: both: things as instances, stuff as regions


class PromptKind(StrEnum):
    """How a prompt points at what to cut out."""

    BOX = "box"
    POINTS = "points"
    MASK = "mask"


class Output(StrEnum):
    """What a job can produce."""

    CATEGORY_MASK = "categoryMask"
    CONFIDENCE_MASK = "confidenceMask"
    SEGMENTS = "segments"
    OVERLAY = "overlay"
    SEGMENT_MASKS = "segmentMasks"
    DETECTIONS = "detections"  #: the segments that ``DetectionOptions`` choose, with their outlines
    EMBEDDING = "embedding"  #: what the model's encoder made of the image, where the card says that it can
    PICTURE = "picture"  #: the image with these detections drawn on it


class Priority(StrEnum):
    """Which queue a job waits in."""

    INTERACTIVE = "interactive"  #: somebody is waiting for it
    BULK = "bulk"  #: it may wait until nobody is


class EventType(StrEnum):
    """What a webhook can tell of a job."""

    STARTED = "job.started"
    SUCCEEDED = "job.succeeded"
    FAILED = "job.failed"
    CANCELLED = "job.cancelled"
    EXPIRED = "job.expired"


class Prompt(WireModel):
    """One object to cut out, told by a box, by points, by a mask, or by several of these.

    Prompts that carry the same label share a category.
    """

    label: Label
    """Name of the category that the object belongs to."""
    box: tuple[Coordinate, Coordinate, Coordinate, Coordinate] | None = None
    """``[xMin, yMin, xMax, yMax]`` in pixels; it must enclose some area."""
    mask: RunLengthMask | None = None
    """About where the object is, such as the ``segmentation`` of an earlier job's segment; of the size of the
    upright image, and not empty."""
    points: Annotated[
        tuple[tuple[Coordinate, Coordinate], ...], Field(max_length=MAX_POINTS, validate_default=True)
    ] = ()
    """``[[x, y], …]`` in pixels."""
    point_labels: tuple[Annotated[int, Field(ge=0, le=1)], ...] = ()
    """One for each point: 1 on the object, 0 beside it. Left out: all points are on the object."""

    # Each field is checked against those before it, not the prompt as a whole, so that a fault in one hides
    # no other. Of those before it only the faultless are in ``info.data``.

    @field_validator("box")
    @classmethod
    def _box_has_area(
        cls, box: tuple[float, float, float, float] | None
    ) -> tuple[float, float, float, float] | None:
        if box is not None and not (box[0] < box[2] and box[1] < box[3]):
            raise ValueError(
                "the box encloses no area; give [xMin, yMin, xMax, yMax] with xMin < xMax and yMin < yMax"
            )
        return box

    @field_validator("points")
    @classmethod
    def _points_at_something(
        cls, points: tuple[tuple[float, float], ...], info: ValidationInfo
    ) -> tuple[tuple[float, float], ...]:
        if not points and not _has_other(info):
            raise ValueError("the prompt has neither a box nor points nor a mask; give one of them")
        return points

    @field_validator("point_labels")
    @classmethod
    def _labels_fit_points(cls, labels: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        points = info.data.get("points")
        if labels and points is not None and len(labels) != len(points):
            raise ValueError(
                f"{len(points)} points but {len(labels)} pointLabels; "
                "give one label for each point, or none at all"
            )
        if labels and 1 not in labels and not _has_other(info):
            raise ValueError("all points are beside the object (0); give a box, a mask or one point on it")
        return labels

    @property
    def kinds(self) -> frozenset[PromptKind]:
        """The kinds that this prompt uses."""
        used = {PromptKind.BOX: self.box, PromptKind.POINTS: self.points, PromptKind.MASK: self.mask}
        return frozenset(kind for kind, value in used.items() if value)

    @property
    def labelled_points(self) -> tuple[tuple[float, float, int], ...]:
        """The points as ``(x, y, label)``; a label left out is 1."""
        labels = self.point_labels or (1,) * len(self.points)
        return tuple((x, y, label) for (x, y), label in zip(self.points, labels, strict=True))


def _has_other(info: ValidationInfo) -> bool:
    """Whether a prompt has more than points, be it faulty."""
    return any(info.data.get(field, ...) is not None for field in ("box", "mask"))


WebhookUrl = Annotated[
    str,
    Field(pattern=r"^https?://[^\s]+$", max_length=2048),
    Right("give an http or https URL of at most 2048 characters"),
]
"""Where events are posted."""


class Webhook(WireModel):
    """Whom to call when the job changes its state."""

    url: WebhookUrl
    """Where to POST the event; http or https."""
    events: Annotated[tuple[EventType, ...], Field(min_length=1)] = (
        EventType.SUCCEEDED,
        EventType.FAILED,
        EventType.CANCELLED,
        EventType.EXPIRED,
    )
    """Which events to send."""
    secret: WebhookSecret | None = None
    """Signing secret as Standard Webhooks writes it (``whsec_`` and base64 of 24 to 64 bytes).
    Left out: the service's own secret, if its operator set one. Never given back."""


class DetectionOptions(WireModel):
    """Which segments become detections, best first, and how exact their outlines are."""

    min_score: Annotated[float, Field(ge=0, le=1)] = 0
    """Segments of which the model is less sure are left out."""
    max_overlap: Annotated[float, Field(ge=0, le=1)] = 1
    """Of segments of one category whose boxes overlap more than this (area of the intersection by that of the
    union) the one with the best score is kept."""
    across_categories: bool = False
    """Whether segments of different categories are held against each other too."""
    labels: Annotated[tuple[Label, ...], Field(max_length=MAX_LABELS)] = ()
    """Only segments of these categories; none: of all."""
    most: Annotated[int, Field(ge=1)] | None = None
    """At most so many detections."""
    outline_detail: Annotated[float, Field(ge=0, le=1)] = 1
    """1: outlines follow the mask pixel by pixel; 0: at a quarter of the image's size, which is faster and
    gives fewer points."""


class PictureOptions(WireModel):
    """How detections are drawn."""

    labels: bool = False
    """Whether each has its label and score beside it."""
    stroke: Annotated[int, Field(ge=1, le=MAX_STROKE)] = 1
    """Width of the outlines, in pixels."""


class SegmentationRequest(WireModel):
    """Everything about a job but its image."""

    model: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    """Id of a model of ``GET /v1/models``; left out: the service's default model."""
    subtask: Subtask | None = None
    """Left out: what the model does by itself."""
    prompts: Annotated[tuple[Prompt, ...], Field(max_length=MAX_PROMPTS)] = ()
    """What to cut out, for models that take prompts; none: everything (automatic mode)."""
    parameters: FreeObject = Field(default_factory=dict)
    """``confidenceThreshold`` (0 to 1) and the model family's own; ``GET /v1/models/{id}`` has their schema,
    with the defaults. One that means nothing to the subtask, or to a request with prompts, is ignored."""
    outputs: Annotated[tuple[Output, ...], Field(min_length=1)] = (
        Output.CATEGORY_MASK,
        Output.CONFIDENCE_MASK,
        Output.SEGMENTS,
    )
    """What to make. The overlay can also be had later."""
    use_cache: bool = True
    """Whether a request that waits for its result (``Prefer: wait``) may be answered with an earlier job
    that has the same result. One with ``webhook``, ``metadata`` or ``expiresIn`` gets a job of its own."""
    detections: DetectionOptions | None = None
    """For the outputs ``detections`` and ``picture``; left out: every segment, with exact outlines."""
    picture: PictureOptions | None = None
    """For the output ``picture``."""
    auto_orient: bool = True
    """Turn the image upright by its EXIF orientation first."""
    priority: Priority = Priority.INTERACTIVE
    """``interactive`` jobs are taken before ``bulk`` ones."""
    webhook: Webhook | None = None
    """Whom to call when the job changes its state."""
    expires_in: Annotated[int, Field(ge=MIN_EXPIRES_IN_S, le=MAX_EXPIRES_IN_S)] | None = None
    """Seconds after which the job and its artifacts are removed; left out: the service's own."""
    metadata: FreeObject = Field(default_factory=dict)
    """Anything of the caller's, given back with the job; at most 4096 bytes of JSON, and 32 levels of it."""

    @field_validator("outputs")
    @classmethod
    def _outputs_once(cls, outputs: tuple[Output, ...]) -> tuple[Output, ...]:
        return tuple(dict.fromkeys(outputs))


def outside(prompts: Sequence[Prompt], width: int, height: int) -> list[Fault]:
    """A fault for each box and point that is not wholly on an image of this size (its edge included), and
    for each mask of another size."""
    faults = []
    for i, prompt in enumerate(prompts):
        if prompt.box is not None:
            x_min, y_min, x_max, y_max = prompt.box
            if x_min < 0 or y_min < 0 or x_max > width or y_max > height:
                faults.append(
                    Fault(
                        f"/prompts/{i}/box",
                        f"{list(prompt.box)} reaches outside the image, which is {width} x {height} pixels",
                    )
                )
        faults += [
            Fault(
                f"/prompts/{i}/points/{j}",
                f"{[x, y]} is outside the image, which is {width} x {height} pixels",
            )
            for j, (x, y) in enumerate(prompt.points)
            if not (0 <= x <= width and 0 <= y <= height)
        ]
        if prompt.mask is not None and prompt.mask.size != (height, width):
            faults.append(
                Fault(
                    f"/prompts/{i}/mask/size",
                    f"{list(prompt.mask.size)} is not [height, width] of the image, {[height, width]}",
                )
            )
    return faults
