"""What Label Studio sends to a machine learning backend, and what it reads."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

Number = Annotated[float, Field(allow_inf_nan=False)]


class FromLabelStudio(BaseModel):
    """A part of a request; what else is in it is left out."""

    model_config = ConfigDict(extra="ignore", frozen=True, use_attribute_docstrings=True)


class ToLabelStudio(BaseModel):
    """A part of an answer."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class BackendSetupRequest(FromLabelStudio):
    """Body of ``POST /setup``, which comes when a backend is added, and before each round of predictions."""

    label_config: Annotated[str, Field(alias="schema")]
    """The project's labelling configuration, in XML."""
    extra_params: JsonValue = None
    """What the user entered; it comes with no prediction, so nothing can be chosen here."""


class LabellingTask(FromLabelStudio):
    """One image to label."""

    id: int | str | None = None
    """Label Studio's number for it."""
    data: dict[str, JsonValue]
    """What the configuration's ``$names`` stand for."""


class DrawnValue(FromLabelStudio):
    """Where a region is, in percent of the image's width and height."""

    x: Number | None = None
    """Of the point, or of the rectangle's left edge."""
    y: Number | None = None
    """Of the point, or of the rectangle's upper edge."""
    width: Number | None = None
    """Of the rectangle; of a point it is how large it is drawn."""
    height: Number | None = None
    """Of the rectangle."""
    rotation: Number = 0
    """Degrees; only 0 is taken."""
    rectanglelabels: list[str] = Field(default_factory=list)
    """The rectangle's labels."""
    keypointlabels: list[str] = Field(default_factory=list)
    """The point's labels."""
    labels: list[str] = Field(default_factory=list)
    """Labels of a shape that has none of its own."""


class DrawnRegion(FromLabelStudio):
    """What the annotator drew with a smart tool."""

    type: str
    """``rectanglelabels``, ``rectangle``, ``keypointlabels`` or ``keypoint``."""
    original_width: Annotated[int, Field(ge=1)]
    """Of the upright image, in pixels."""
    original_height: Annotated[int, Field(ge=1)]
    """Of the upright image, in pixels."""
    image_rotation: Number = 0
    """How far the annotator turned the image; only 0 is taken."""
    value: DrawnValue
    """Where it is."""
    is_positive: bool = True
    """Of a point: whether it is on the object."""

    @property
    def is_rotated(self) -> bool:
        """Whether it, or the image under it, is not upright."""
        return bool(self.image_rotation or self.value.rotation)


class DrawnContext(FromLabelStudio):
    """What an annotator drew."""

    result: list[DrawnRegion] = Field(default_factory=list)
    """The regions."""


class PredictionParameters(FromLabelStudio):
    """Beside the tasks."""

    context: DrawnContext | None = None
    """Only of an interactive call."""


class PredictionRequest(FromLabelStudio):
    """Body of ``POST /predict``."""

    tasks: list[LabellingTask]
    """The images; one, where ``params.context`` has regions."""
    label_config: str
    """The project's labelling configuration, in XML."""
    params: PredictionParameters | None = None
    """What was drawn."""


class ProjectEvent(FromLabelStudio):
    """Body of ``POST /webhook``."""

    action: str = ""
    """What happened."""


class BackendHealth(ToLabelStudio):
    """Answer of ``GET /health``."""

    status: Literal["UP"] = "UP"
    """That a worker offers the model."""
    model_class: str
    """Its name."""


class BackendSetup(ToLabelStudio):
    """Answer of ``POST /setup``."""

    model_version: str
    """Under which Label Studio files the predictions; changes with the model's weights and options."""


class BackendVersions(ToLabelStudio):
    """Answer of ``GET /versions``."""

    versions: list[str]
    """The one that there is."""


class EventTaken(ToLabelStudio):
    """Answer of ``POST /webhook``."""


class BrushValue(ToLabelStudio):
    """A mask."""

    format: Literal["rle"] = "rle"
    """The one form."""
    rle: list[int]
    """Bytes of the mask's run lengths."""
    brushlabels: list[str]
    """Its label."""


class PolygonValue(ToLabelStudio):
    """An outline."""

    points: list[tuple[float, float]]
    """In percent of the image's width and height."""
    closed: bool = True
    """Always."""
    polygonlabels: list[str]
    """Its label."""


class RectangleValue(ToLabelStudio):
    """A box, in percent of the image's width and height."""

    x: float
    """Of its left edge."""
    y: float
    """Of its upper edge."""
    width: float
    """Of the box."""
    height: float
    """Of the box."""
    rotation: float = 0
    """None."""
    rectanglelabels: list[str]
    """Its label."""


class LabelledRegion(ToLabelStudio):
    """One region of a prediction."""

    id: str
    """Of the job and the segment, and of its part where there are several."""
    type: Literal["brushlabels", "polygonlabels", "rectanglelabels"]
    """As the control of the configuration."""
    from_name: str
    """Of the control."""
    to_name: str
    """Of the image."""
    original_width: int
    """In pixels."""
    original_height: int
    """In pixels."""
    image_rotation: int = 0
    """None."""
    value: BrushValue | PolygonValue | RectangleValue
    """What it covers."""
    score: float
    """How sure the model is of it."""


class TaskPrediction(ToLabelStudio):
    """The prediction of a task."""

    model_version: str
    """As ``POST /setup`` told it."""
    score: float
    """Mean of the regions' scores; 0 where there are none."""
    result: list[LabelledRegion]
    """The regions."""


class TaskFailure(ToLabelStudio):
    """In place of a prediction. Label Studio logs it, and stores nothing for the task."""

    error: str
    """What was wrong, and what would be right."""
    code: str
    """The same for programs."""


class Predictions(ToLabelStudio):
    """Answer of ``POST /predict``."""

    results: list[TaskPrediction | TaskFailure]
    """One for each task, in their order."""
    model_version: str
    """As ``POST /setup`` told it."""


class LabelStudioError(ToLabelStudio):
    """An error."""

    status: int
    """As the HTTP status."""
    detail: str
    """What was wrong, and what would be right."""
    code: str
    """The same for programs."""
