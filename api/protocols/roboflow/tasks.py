"""What Roboflow calls a model's task, and the job that a call becomes."""

from collections.abc import Mapping
from enum import StrEnum

from pydantic import JsonValue

from api.intake import Submission
from api.protocols.roboflow.fields import Common
from api.protocols.roboflow.images import Given
from maskline.errors import Fault, InvalidRequest
from maskline.requests import DetectionOptions, Output, PictureOptions, SegmentationRequest, Subtask
from maskline.results import ModelCard


class Task(StrEnum):
    """The tasks that are answered."""

    INSTANCE_SEGMENTATION = "instance-segmentation"
    OBJECT_DETECTION = "object-detection"
    SEMANTIC_SEGMENTATION = "semantic-segmentation"


PLACES: Mapping[str, str] = {"/prompts": "/model_id"}
"""For ``told_where``: a model that needs prompts is the wrong one here."""
_FOUND = frozenset({Subtask.INSTANCE, Subtask.PANOPTIC})


def task_of(card: ModelCard) -> Task:
    """What a model is for: models that know no instances do semantic segmentation."""
    return Task.INSTANCE_SEGMENTATION if _FOUND & set(card.subtasks) else Task.SEMANTIC_SEGMENTATION


def subtask_for(card: ModelCard, task: Task) -> Subtask:
    """What the model is asked for.

    Raises:
        InvalidRequest: it does not do this.
    """
    wanted = (
        (Subtask.SEMANTIC,) if task is Task.SEMANTIC_SEGMENTATION else (Subtask.INSTANCE, Subtask.PANOPTIC)
    )
    for subtask in wanted:
        if subtask in card.subtasks:
            return subtask
    known = ", ".join(card.subtasks)
    raise InvalidRequest([Fault("/model_id", f"{card.id} does not do {task}; it does {known} segmentation")])


def submission_of(
    given: Given,
    card: ModelCard,
    task: Task,
    *,
    asked: Common,
    detections: DetectionOptions,
    picture: PictureOptions | None,
) -> Submission:
    """The job of one image.

    Raises:
        InvalidRequest: the model does not do the task.
    """
    subtask = subtask_for(card, task)
    outputs = [Output.CATEGORY_MASK, Output.CONFIDENCE_MASK]
    if task is not Task.SEMANTIC_SEGMENTATION:
        outputs.append(Output.DETECTIONS)
    if picture is not None:
        outputs.append(Output.PICTURE)
    request = SegmentationRequest(
        model=card.id,
        subtask=subtask,
        parameters=_parameters(card, subtask, asked.confidence),
        outputs=tuple(outputs),
        detections=None if task is Task.SEMANTIC_SEGMENTATION else detections,
        picture=picture,
        auto_orient=not asked.disable_preproc_auto_orient,
        metadata={"source": asked.source, "sourceInfo": asked.source_info},
    )
    return Submission(request=request, upload=given.upload, url=given.url)


def _parameters(card: ModelCard, subtask: Subtask, confidence: float) -> dict[str, JsonValue]:
    """The confidence as the model takes it: for each pixel, or for each segment where it has such a one.

    Models without one give all segments, and those that are less sure are left out of the detections.
    """
    if subtask is Subtask.SEMANTIC:
        return {"confidenceThreshold": confidence}
    return {"threshold": confidence} if "threshold" in card.parameter_names else {}
