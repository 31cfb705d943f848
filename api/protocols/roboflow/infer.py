"""v1: ``/infer/…``, one image or several in JSON."""

from flask import Blueprint, Response, g, request

from api.openapi import OneOrMany, operation
from api.protocols.roboflow.answers import (
    JSON,
    Answers,
    InstanceSegmentationInferenceResponse,
    ObjectDetectionInferenceResponse,
    SemanticSegmentationInferenceResponse,
    respond_to_each,
)
from api.protocols.roboflow.bodies import read_json_as, told_where
from api.protocols.roboflow.dialect import RoboflowError
from api.protocols.roboflow.fields import InferenceRequest, MaskFormat
from api.protocols.roboflow.images import from_source, sources_of
from api.protocols.roboflow.tasks import PLACES, Task, submission_of
from api.services import Services
from api.synchronous import SynchronousCalls
from maskline.errors import RequestError
from maskline.jobs import Job
from maskline.requests import DetectionOptions, PictureOptions

_TAG = "Roboflow"
_PROBLEMS = (400, 404, 408, 413, 415, 422, 429)


def add_routes(blueprint: Blueprint, services: Services) -> None:
    """``/infer/…``, and the calls of other kinds of models."""
    views = _InferViews(services)
    for rule, view in (
        ("/infer/instance_segmentation", views.infer_instance_segmentation),
        ("/infer/semantic_segmentation", views.infer_semantic_segmentation),
        ("/infer/object_detection", views.infer_object_detection),
        ("/infer/<path:call>", views.refuse_infer),
        ("/clip/<path:call>", views.refuse_clip),
        ("/sam3/<path:call>", views.refuse_sam3),
    ):
        blueprint.add_url_rule(rule, view.__name__, view, methods=["POST"])


class _InferViews:
    def __init__(self, services: Services) -> None:
        self._services = services
        self._calls = SynchronousCalls(services)
        self._answers = Answers(services)

    @operation(
        "Find instances (Roboflow v1)",
        tag=_TAG,
        bodies={JSON: InferenceRequest},
        answers={200: {JSON: OneOrMany(InstanceSegmentationInferenceResponse)}},
        problems=_PROBLEMS,
        problem=RoboflowError,
    )
    def infer_instance_segmentation(self) -> Response:
        return self._infer(Task.INSTANCE_SEGMENTATION)

    @operation(
        "Tell the class of each pixel (Roboflow v1)",
        tag=_TAG,
        bodies={JSON: InferenceRequest},
        answers={200: {JSON: OneOrMany(SemanticSegmentationInferenceResponse)}},
        problems=_PROBLEMS,
        problem=RoboflowError,
    )
    def infer_semantic_segmentation(self) -> Response:
        return self._infer(Task.SEMANTIC_SEGMENTATION)

    @operation(
        "Find the boxes of instances (Roboflow v1)",
        tag=_TAG,
        bodies={JSON: InferenceRequest},
        answers={200: {JSON: OneOrMany(ObjectDetectionInferenceResponse)}},
        problems=_PROBLEMS,
        problem=RoboflowError,
    )
    def infer_object_detection(self) -> Response:
        return self._infer(Task.OBJECT_DETECTION)

    @operation(
        "Other models: refused (Roboflow v1)",
        tag=_TAG,
        answers={},
        problems=(400, 404),
        problem=RoboflowError,
    )
    def refuse_infer(self, call: str) -> Response:
        raise _not_here(f"/infer/{call}")

    @operation("CLIP: refused (Roboflow)", tag=_TAG, answers={}, problems=(400, 404), problem=RoboflowError)
    def refuse_clip(self, call: str) -> Response:
        raise _not_here(f"/clip/{call}")

    @operation("SAM 3: refused (Roboflow)", tag=_TAG, answers={}, problems=(400, 404), problem=RoboflowError)
    def refuse_sam3(self, call: str) -> Response:
        raise _not_here(f"/sam3/{call}")

    def _infer(self, task: Task) -> Response:
        accepted, mask_format, is_array = self._accept(task)
        jobs = self._calls.succeeded(accepted)
        answers = [self._answers.of_task(job, task, mask_format) for job in jobs]
        return respond_to_each(jobs, answers, is_array=is_array)

    def _accept(self, task: Task) -> tuple[list[Job], MaskFormat, bool]:
        """The jobs, how their masks are to be given, and whether the images were in an array.

        Ends before the wait, so that nothing holds the images during it.
        """
        most_bytes = self._services.settings.max_image_bytes
        asked = read_json_as(InferenceRequest, request, most_bytes)
        card = self._services.cards.find(asked.model_id)
        detections = DetectionOptions(
            min_score=asked.confidence,
            max_overlap=asked.iou_threshold,
            across_categories=asked.class_agnostic_nms,
            labels=tuple(asked.class_filter or ()),
            most=asked.max_detections,
            outline_detail=asked.outline_detail,
        )
        picture = (
            PictureOptions(labels=asked.visualization_labels, stroke=asked.visualization_stroke_width)
            if asked.visualize_predictions
            else None
        )
        given = [from_source(source, most_bytes) for source in sources_of(asked.image)]
        submissions = [
            submission_of(one, card, task, asked=asked, detections=detections, picture=picture)
            for one in given
        ]
        with told_where(PLACES):
            jobs = self._calls.submit(g.caller.tenant, submissions)
        return jobs, asked.response_mask_format, isinstance(asked.image, list)


def _not_here(path: str) -> RequestError:
    return RequestError(
        f"Maskline segments, and does not do {path}; there are /infer/instance_segmentation, "
        "/infer/semantic_segmentation, /infer/object_detection (the boxes of instances), /sam/segment_image, "
        "/sam/embed_image and /sam2/segment_image"
    )
