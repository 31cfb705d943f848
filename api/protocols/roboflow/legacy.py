"""v0: ``/{dataset_id}/{version_id}``, the image as the body and everything else in the query."""

from collections.abc import Mapping

from flask import Blueprint, Response, g, request

from api.openapi import BINARY, Content, operation
from api.protocols.roboflow.answers import (
    JSON,
    Answers,
    InstanceSegmentationInferenceResponse,
    SemanticSegmentationInferenceResponse,
    StubResponse,
    headers_of,
    respond,
    to_json,
)
from api.protocols.roboflow.bodies import told_where
from api.protocols.roboflow.dialect import RoboflowError
from api.protocols.roboflow.fields import AnswerFormat, LegacyQuery
from api.protocols.roboflow.images import Given, read_image
from api.protocols.roboflow.paths import DATASET
from api.protocols.roboflow.tasks import PLACES, submission_of, task_of
from api.services import Services
from api.synchronous import SynchronousCalls
from maskline.errors import MalformedRequest
from maskline.keys import Scope
from maskline.requests import DetectionOptions, PictureOptions
from maskline.results import ModelCard

JPEG = "image/jpeg"
_TAG = "Roboflow"
_STUB_VERSION = "0"
_ANSWERS: Mapping[int, Mapping[str, Content]] = {
    200: {
        JSON: (InstanceSegmentationInferenceResponse, SemanticSegmentationInferenceResponse, StubResponse),
        JPEG: BINARY,
    }
}


def add_routes(blueprint: Blueprint, services: Services) -> None:
    """The route of v0, for an image in the body and for one at a URL."""
    views = _LegacyViews(services)
    rule = f"/<{DATASET}:dataset_id>/<version_id>"
    blueprint.add_url_rule(rule, view_func=views.infer_legacy, endpoint="infer_legacy", methods=["POST"])
    blueprint.add_url_rule(
        rule, view_func=views.infer_legacy_url, endpoint="infer_legacy_url", methods=["GET"]
    )


class _LegacyViews:
    def __init__(self, services: Services) -> None:
        self._services = services
        self._calls = SynchronousCalls(services)
        self._answers = Answers(services)

    @operation(
        "Run a model on an image and answer with its predictions (Roboflow v0)",
        tag=_TAG,
        query=LegacyQuery,
        bodies={
            "application/json": {"type": "string", "format": "base64"},
            "application/x-www-form-urlencoded": {"type": "string", "format": "base64"},
            "multipart/form-data": {"type": "object", "properties": {"file": BINARY}},
        },
        needs_body=False,
        answers=_ANSWERS,
        problems=(400, 404, 408, 413, 415, 422, 429),
        problem=RoboflowError,
    )
    def infer_legacy(self, dataset_id: str, version_id: str, query: LegacyQuery) -> Response:
        return self._answer(dataset_id, version_id, query)

    @operation(
        "Run a model on the image at a URL and answer with its predictions (Roboflow v0)",
        tag=_TAG,
        query=LegacyQuery,
        answers=_ANSWERS,
        problems=(400, 404, 408, 413, 415, 422, 429),
        problem=RoboflowError,
        scope=Scope.SUBMIT,
    )
    def infer_legacy_url(self, dataset_id: str, version_id: str, query: LegacyQuery) -> Response:
        return self._answer(dataset_id, version_id, query)

    def _answer(self, dataset_id: str, version_id: str, query: LegacyQuery) -> Response:
        model = self._find(dataset_id, version_id)
        if isinstance(model, StubResponse):
            return Response(to_json(model), mimetype=JSON)
        return self._infer(self._image(query), model, query)

    def _image(self, query: LegacyQuery) -> Given:
        if query.image is not None:
            return Given(url=query.image)
        if request.method != "POST":
            raise MalformedRequest("there is no image; give its URL as the query parameter 'image'")
        return read_image(request, self._services.settings.max_image_bytes)

    def _find(self, dataset_id: str, version_id: str) -> ModelCard | StubResponse:
        """The model, or what stands for a dataset that has no version yet: as upstream, its version 0.

        Raises:
            ModelNotFound: there is neither.
        """
        model_id = f"{dataset_id}/{version_id}"
        known = self._services.cards.by_name()
        if version_id == _STUB_VERSION and model_id not in known:
            for name, card in known.items():
                if name == dataset_id or name.startswith(f"{dataset_id}/"):
                    return StubResponse(model_id=model_id, task_type=task_of(card))
        return self._services.cards.find(model_id)

    def _infer(self, given: Given, card: ModelCard, query: LegacyQuery) -> Response:
        task = task_of(card)
        has_picture = query.format is not AnswerFormat.JSON
        detections = DetectionOptions(
            min_score=query.confidence,
            max_overlap=query.overlap,
            most=query.max_detections,
            outline_detail=query.outline_detail,
        )
        picture = PictureOptions(labels=query.labels, stroke=query.stroke) if has_picture else None
        submission = submission_of(given, card, task, asked=query, detections=detections, picture=picture)
        with told_where(PLACES):
            accepted = self._calls.submit(g.caller.tenant, [submission])
        [job] = self._calls.succeeded(accepted)
        if query.format is AnswerFormat.IMAGE:
            return Response(self._answers.picture(job), mimetype=JPEG, headers=headers_of(job))
        return respond(job, self._answers.of_task(job, task, query.response_mask_format))
