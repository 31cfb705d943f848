"""What Roboflow's clients send: names as they write them, unknown ones ignored as their server does.

The meanings and defaults are those of the server's OpenAPI document (version 1.2.3).
"""

from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

from api.intake import ImageUrl
from maskline.plain_words import Right
from maskline.requests import MAX_LABELS, MAX_STROKE, Label

_MAX_IMAGES = 64
_LEAST_CONFIDENCE = 0.01  # upstream's, and so far as it goes
DEFAULT_CONFIDENCE = 0.4
DEFAULT_OVERLAP = 0.3
DEFAULT_DETECTIONS = 300


class Fields(BaseModel):
    """The base of what is read and written in this protocol."""

    model_config = ConfigDict(
        extra="ignore", frozen=True, populate_by_name=True, use_attribute_docstrings=True
    )


class AnswerFormat(StrEnum):
    """What is answered."""

    JSON = "json"  #: the predictions
    IMAGE = "image"  #: the image with the predictions drawn on it, as a JPEG
    IMAGE_AND_JSON = "image_and_json"  #: the predictions, and the JPEG in ``visualization``


class MaskDecodeMode(StrEnum):
    """How exact outlines are."""

    ACCURATE = "accurate"  #: pixel by pixel
    FAST = "fast"  #: at a quarter of the image's size
    TRADEOFF = "tradeoff"  #: between these two, by ``tradeoff_factor``


class MaskFormat(StrEnum):
    """How masks are given."""

    POLYGON = "polygon"  #: the outline of the largest part in ``points``, the whole mask in ``rle``
    RLE = "rle"  #: in ``rle`` alone


def _fraction(value: object) -> object:
    """A number from 1 on is a percentage."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return value
    return number / 100 if number >= 1 else number


def _confidence(value: object) -> object:
    if value in ("best", "default"):
        return DEFAULT_CONFIDENCE
    fraction = _fraction(value)
    return max(fraction, _LEAST_CONFIDENCE) if isinstance(fraction, float) and fraction >= 0 else fraction


Confidence = Annotated[
    float,
    Field(ge=0, le=1, allow_inf_nan=False),
    BeforeValidator(_confidence),
    Right("give a number from 0 to 1, a percentage up to 100, or one of the words best and default"),
]
Overlap = Annotated[
    float,
    Field(ge=0, le=1, allow_inf_nan=False),
    BeforeValidator(_fraction),
    Right("give a number from 0 to 1, or a percentage up to 100"),
]
ImageType = Annotated[
    str,
    Field(pattern="^base64$"),
    Right(
        "give base64, or the URL of the image; numpy is refused, for it is a pickle, and reading one runs "
        "the sender's code"
    ),
]
Word = Annotated[str, Field(max_length=512)]
Origin = Annotated[str, Field(max_length=160)]
"""Two of them fit into a job's metadata, however JSON writes their characters."""


class Keyed(Fields):
    """A call that may bring the key."""

    api_key: str | None = None
    """The key; ``Authorization: Bearer`` does as well."""

    @model_validator(mode="before")
    @classmethod
    def _null_is_left_out(cls, fields: object) -> object:
        if not isinstance(fields, dict):
            return fields
        return {name: value for name, value in fields.items() if value is not None}


class Common(Keyed):
    """What the calls of both versions may say."""

    confidence: Confidence = DEFAULT_CONFIDENCE
    """Predictions that are less sure are left out; from 1 on a percentage, below 0.01 counted as that."""
    mask_decode_mode: MaskDecodeMode = MaskDecodeMode.ACCURATE
    """How exact ``points`` are; ``rle`` always is."""
    tradeoff_factor: Annotated[float, Field(ge=0, le=1)] = 0
    """For the mode ``tradeoff``: 0 is as ``fast``, 1 as ``accurate``."""
    max_detections: Annotated[int, Field(ge=1)] = DEFAULT_DETECTIONS
    """At most so many predictions, the most confident."""
    response_mask_format: MaskFormat = MaskFormat.POLYGON
    """``rle``: masks as COCO run lengths alone."""
    allow_reduced_mask_resolution: bool = False
    """Taken and not used: masks always have the image's size."""
    disable_preproc_auto_orient: bool = False
    """Do not turn the image upright by its EXIF orientation."""
    disable_preproc_contrast: bool = False
    """Taken and not used: there is no such step."""
    disable_preproc_grayscale: bool = False
    """Taken and not used: there is no such step."""
    disable_preproc_static_crop: bool = False
    """Taken and not used: there is no such step."""
    disable_active_learning: bool = False
    """Taken and not used: images are never collected."""
    active_learning_target_dataset: Word | None = None
    """Taken and not used: images are never collected."""
    source: Origin = "external"
    """Where the request comes from; kept in the job's metadata."""
    source_info: Origin = "external"
    """Details of that; kept in the job's metadata."""

    @property
    def outline_detail(self) -> float:
        """0..1, for ``DetectionOptions``."""
        match self.mask_decode_mode:
            case MaskDecodeMode.ACCURATE:
                return 1
            case MaskDecodeMode.FAST:
                return 0
        return self.tradeoff_factor


class LegacyQuery(Common):
    """Query of v0."""

    keypoint_confidence: Annotated[float, Field(ge=0, le=1)] = 0
    """Taken and not used: no model of Maskline's finds keypoints."""
    format: AnswerFormat = AnswerFormat.JSON
    """What is answered."""
    image: ImageUrl | None = None
    """URL of the image, instead of a body."""
    image_type: ImageType = "base64"
    """How the body is encoded."""
    labels: bool = False
    """Whether the picture has labels."""
    overlap: Overlap = DEFAULT_OVERLAP
    """Of predictions of one class whose boxes overlap more than this (IoU) the surest is kept; from 1 on a
    percentage."""
    stroke: Annotated[int, Field(ge=1, le=MAX_STROKE)] = 1
    """Width of the outlines in the picture, in pixels."""


class InferenceImage(Fields):
    """An image of v1."""

    type: Annotated[
        str,
        Field(pattern="^(base64|url)$"),
        Right(
            "give base64 or url; numpy is refused, for it is a pickle, and reading one runs the sender's code"
        ),
    ] = "base64"
    """``base64`` or ``url``."""
    value: str
    """The image's bytes in base64, or its URL."""


def _tag_of_images(value: object) -> str:
    return "[several]" if isinstance(value, list) else "[one]"


Images = Annotated[
    Annotated[InferenceImage, Tag("[one]")]
    | Annotated[list[InferenceImage], Field(min_length=1, max_length=_MAX_IMAGES), Tag("[several]")],
    Discriminator(_tag_of_images),
]


class InferenceRequest(Common):
    """Body of ``POST /infer/…``."""

    model_id: Annotated[str, Field(min_length=1, max_length=256)]
    """Id or alias of a model."""
    image: Images
    """One image, or several; then the answer is an array."""
    iou_threshold: Annotated[float, Field(ge=0, le=1)] = DEFAULT_OVERLAP
    """Of predictions of one class whose boxes overlap more than this the surest is kept."""
    max_candidates: Annotated[int, Field(ge=1)] = 3000
    """Taken and not used: every segment is a candidate."""
    class_agnostic_nms: bool = False
    """Whether predictions of different classes are held against each other too."""
    class_filter: Annotated[list[Label], Field(max_length=MAX_LABELS)] | None = None
    """Only predictions of these classes."""
    fix_batch_size: bool = False
    """Taken and not used: the number of images that run together never changes a result."""
    visualize_predictions: bool = False
    """Whether each answer has the picture in ``visualization``."""
    visualization_labels: bool = False
    """Whether the picture has labels."""
    visualization_stroke_width: Annotated[int, Field(ge=1, le=MAX_STROKE)] = 1
    """Width of the outlines in the picture, in pixels."""
