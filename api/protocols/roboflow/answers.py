"""What Roboflow's clients read, made from what the jobs left in the bucket."""

import base64
from collections.abc import Sequence
from typing import Annotated, Any

from flask import Response
from pydantic import Field
from typing_extensions import TypedDict

from api.protocols.roboflow.fields import Fields, MaskFormat
from api.protocols.roboflow.grayscale import to_grayscale
from api.protocols.roboflow.tasks import Task
from api.services import Services
from maskline.artifacts import Artifact, result_key
from maskline.jobs import Job
from maskline.requests import Output
from maskline.results import Detection, DetectionList
from maskline.run_lengths import RunLengthMask

JSON = "application/json"


class Point(TypedDict):
    """A point of an outline, in pixels."""

    x: float
    y: float


class InferenceResponseImage(Fields):
    """The size of the image, upright, in pixels."""

    width: int
    height: int


class ObjectDetectionPrediction(Fields):
    """A box."""

    x: float
    """Of the box's centre, in pixels."""
    y: float
    """Of the box's centre, in pixels."""
    width: float
    """Of the box, in pixels."""
    height: float
    """Of the box, in pixels."""
    confidence: float
    """How sure the model is, 0 to 1."""
    class_name: Annotated[str, Field(alias="class")]
    """Name of the category."""
    class_id: int
    """Id of the category, the pixel value in the category mask."""
    detection_id: str
    """Unique: the job's id, and the number of the segment."""


class InstanceSegmentationPrediction(ObjectDetectionPrediction):
    """An instance."""

    points: list[Point] | None = None
    """The outline of its largest part; left out where masks were asked for as run lengths."""
    mask_format: MaskFormat
    """Whether ``points`` are there."""
    rle: RunLengthMask
    """The whole mask, with its holes and all its parts."""


class SemanticSegmentationPrediction(Fields):
    """A class for each pixel."""

    segmentation_mask: str
    """PNG in base64, one channel: each pixel is the number of its class."""
    class_map: dict[str, str]
    """Number, as text, to name; 0 is the background."""
    confidence_mask: str
    """PNG in base64, one channel: 255 times the confidence at the pixel."""


class InferenceResponse(Fields):
    """What all answers have."""

    inference_id: str
    """The job's id."""
    time: float
    """Seconds that decoding, the model and rendering took."""
    image: InferenceResponseImage
    """Its size."""
    visualization: str | None = None
    """JPEG in base64, where it was asked for."""


class InstanceSegmentationInferenceResponse(InferenceResponse):
    """Instances."""

    predictions: list[InstanceSegmentationPrediction]


class ObjectDetectionInferenceResponse(InferenceResponse):
    """Boxes."""

    predictions: list[ObjectDetectionPrediction]


class SemanticSegmentationInferenceResponse(InferenceResponse):
    """Classes of pixels."""

    predictions: SemanticSegmentationPrediction


class StubResponse(Fields):
    """What version 0 of a model answers: nothing ran."""

    is_stub: bool = True
    model_id: str
    task_type: Task


class Answers:
    """Reads results, and writes them as these clients read them."""

    def __init__(self, services: Services) -> None:
        """``services``: where the results are."""
        self._services = services

    def picture(self, job: Job) -> bytes:
        """The JPEG with the predictions drawn on the image."""
        return self._services.artifacts.get(result_key(job.id, job.attempt, Artifact.PICTURE))

    def of_task(self, job: Job, task: Task, mask_format: MaskFormat) -> InferenceResponse:
        """The answer for a task."""
        match task:
            case Task.INSTANCE_SEGMENTATION:
                return self._instances(job, mask_format)
            case Task.OBJECT_DETECTION:
                return self._boxes(job)
        return self._classes(job)

    def detections(self, job: Job) -> DetectionList:
        """What the job found."""
        key = result_key(job.id, job.attempt, Artifact.DETECTIONS)
        return DetectionList.model_validate_json(self._services.artifacts.get(key))

    def _instances(self, job: Job, mask_format: MaskFormat) -> InferenceResponse:
        found = self.detections(job)
        return InstanceSegmentationInferenceResponse.model_construct(
            **self._common(job, found.width, found.height),
            predictions=[_instance(job, one, mask_format) for one in found.detections],
        )

    def _boxes(self, job: Job) -> InferenceResponse:
        found = self.detections(job)
        return ObjectDetectionInferenceResponse.model_construct(
            **self._common(job, found.width, found.height),
            predictions=[
                ObjectDetectionPrediction.model_construct(**_box(job, one)) for one in found.detections
            ],
        )

    def _classes(self, job: Job) -> InferenceResponse:
        result = self._services.result_of(job)
        category_mask, confidence_mask = (
            self._services.artifacts.get(result_key(job.id, job.attempt, artifact))
            for artifact in (Artifact.CATEGORY_MASK, Artifact.CONFIDENCE_MASK)
        )
        prediction = SemanticSegmentationPrediction(
            segmentation_mask=_base64(to_grayscale(category_mask)),
            class_map={str(spec.id): spec.display_name for spec in result.annotation_specs},
            confidence_mask=_base64(confidence_mask),
        )
        return SemanticSegmentationInferenceResponse.model_construct(
            **self._common(job, result.width, result.height), predictions=prediction
        )

    def _common(self, job: Job, width: int, height: int) -> dict[str, Any]:
        return {
            "inference_id": job.id,
            "time": seconds_of(job),
            "image": InferenceResponseImage(width=width, height=height),
            "visualization": _base64(self.picture(job)) if Output.PICTURE in job.request.outputs else None,
        }


def respond(job: Job, answer: Fields) -> Response:
    """The answer with the headers that the client looks at."""
    return Response(to_json(answer), mimetype=JSON, headers=headers_of(job))


def respond_to_each(jobs: Sequence[Job], answers: Sequence[Fields], *, is_array: bool) -> Response:
    """The answers to the images of a call: ``is_array``, as they were given in an array, or a single one."""
    if is_array:
        return Response(f"[{','.join(map(to_json, answers))}]", mimetype=JSON)
    return respond(jobs[0], answers[0])


def to_json(answer: Fields) -> str:
    """JSON text, without what is None."""
    return answer.model_dump_json(by_alias=True, exclude_none=True)


def headers_of(job: Job) -> dict[str, str]:
    """What the client reads besides the body."""
    return {"X-Model-Id": job.request.model or "", "X-Processing-Time": str(seconds_of(job))}


def seconds_of(job: Job) -> float:
    """The time that the image took, its waiting not counted."""
    spent = job.timings
    return round((spent.decode + spent.model + spent.render) / 1000, 6) if spent else 0.0


def _instance(job: Job, one: Detection, mask_format: MaskFormat) -> InstanceSegmentationPrediction:
    is_rle = mask_format is MaskFormat.RLE
    return InstanceSegmentationPrediction.model_construct(
        **_box(job, one),
        points=None if is_rle else [Point(x=x, y=y) for x, y in one.polygons[0]],
        mask_format=mask_format,
        rle=one.segmentation,
    )


def _box(job: Job, one: Detection) -> dict[str, Any]:
    left, top, width, height = one.bbox
    return {
        "x": left + width / 2,
        "y": top + height / 2,
        "width": width,
        "height": height,
        "confidence": one.score,
        "class_name": one.label,
        "class_id": one.category_id,
        "detection_id": f"{job.id}-{one.id}",
    }


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
