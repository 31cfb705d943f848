"""Online prediction: the instances of a call run together, and the masks are in its answer."""

import base64
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from typing import Annotated
from urllib.parse import quote

from flask import Response, g, request
from pydantic import Field, JsonValue

from api.artifact_urls import ArtifactUrls
from api.body import decode_base64, parse_body, read_body, validate
from api.intake import Submission, Upload, most_json_bytes, upload_of_base64
from api.openapi import operation
from api.presenter import Masks, Presenter
from api.protocols.vertex.deployments import VERSION, Deployment, Deployments, resource_id
from api.protocols.vertex.errors import ErrorBody, of_instance
from api.protocols.vertex.resources import AnnotationSpecColor, colors_of
from api.protocols.vertex.routes import JSON, Route, parent_of
from api.services import Services
from api.submission import Checked
from api.synchronous import SynchronousCalls, require_success
from maskline.errors import Fault, InvalidRequest
from maskline.jobs import Job
from maskline.requests import MAX_PROMPTS, Output, Priority, Prompt, SegmentationRequest, Subtask
from maskline.results import ModelCard, Prediction
from maskline.wire import FreeObject, WireModel

_DEFAULT_CONFIDENCE_THRESHOLD = 0.5  # of ImageSegmentationPredictionParams
_MAX_INSTANCES = 64
_PROBLEMS = (400, 404, 429, 500, 504)


_PLAIN_IN_HEADERS = "/:@ "


class Instance(WireModel):
    """``ImageSegmentationPredictionInstance``, and the prompts that promptable models take."""

    content: str
    """The image's bytes in base64 (standard alphabet)."""
    mime_type: str | None = None
    """Ignored: the bytes themselves tell."""
    prompts: Annotated[tuple[Prompt, ...], Field(max_length=MAX_PROMPTS)] = ()
    """What to cut out, as in the native API; none: everything. Google's own service has no such field."""


class PredictRequest(WireModel):
    """The body of a prediction."""

    instances: Annotated[list[Instance], Field(min_length=1, max_length=_MAX_INSTANCES)]
    """The images."""
    parameters: FreeObject | None = None
    """``confidenceThreshold`` (0 to 1; default 0.5, or the endpoint's), and the model family's own."""
    labels: dict[str, str] | None = None
    """Ignored."""


class HttpBody(WireModel):
    """``google.api.HttpBody``: a body within a body."""

    content_type: str = JSON
    """Its media type."""
    data: str = ""
    """Its bytes in base64."""
    extensions: tuple[JsonValue, ...] = ()
    """Ignored."""


class RawPredictRequest(WireModel):
    """What ``PredictionServiceClient.raw_predict`` sends; others send the inner body alone."""

    http_body: HttpBody
    """The body of a prediction, in JSON."""


class PredictionMetadata(WireModel):
    """What Maskline tells beside the predictions."""

    jobs: tuple[str, ...]
    """Ids of the jobs, one for each instance; the native API has them at ``/v1/jobs/{id}``."""
    annotation_spec_colors: tuple[tuple[AnnotationSpecColor, ...], ...] | None = None
    """For each instance, of models whose categories come with the requests: what the pixel values mean."""


class PredictResponse(WireModel):
    """The answer."""

    predictions: tuple[Prediction, ...]
    """One for each instance, in the same order."""
    deployed_model_id: str
    """Of the model that answered."""
    model: str
    """Resource name of the model."""
    model_display_name: str
    """Name of the model for people."""
    model_version_id: str = VERSION
    """Always the same: models have no versions."""
    metadata: PredictionMetadata
    """Of the jobs behind the predictions."""


def routes(services: Services, deployments: Deployments) -> list[Route]:
    """The routes."""
    views = _Views(services, deployments)
    endpoint, published = "endpoints/<endpoint>", "publishers/<publisher>/models/<model>"
    return [
        ("POST", f"{endpoint}:predict", views.predict),
        ("POST", f"{published}:predict", views.predict_published),
        ("POST", f"{endpoint}:rawPredict", views.raw_predict),
        ("POST", f"{published}:rawPredict", views.raw_predict_published),
    ]


_documented = operation(
    "Segment images, and answer with their masks",
    tag="Vertex AI",
    bodies={JSON: PredictRequest},
    answers={200: {JSON: PredictResponse}},
    problems=_PROBLEMS,
    problem=ErrorBody,
)
_raw_documented = operation(
    "Segment images; the body is that of a prediction, or wrapped in `httpBody`, and so is the answer",
    tag="Vertex AI",
    bodies={JSON: RawPredictRequest},
    answers={200: {JSON: HttpBody}},
    problems=_PROBLEMS,
    problem=ErrorBody,
)


class _Views:
    def __init__(self, services: Services, deployments: Deployments) -> None:
        self._services = services
        self._deployments = deployments
        self._calls = SynchronousCalls(services)
        self._presenter = Presenter(services, ArtifactUrls(services))
        self._max_bytes = most_json_bytes(services.settings.max_image_bytes)

    @_documented
    def predict(self, project: str, location: str, endpoint: str) -> Response:
        return self._predict(parent_of(project, location), self._deployments.find(endpoint))

    @_documented
    def predict_published(self, project: str, location: str, publisher: str, model: str) -> Response:
        deployment = self._deployments.find_published(publisher, model)
        return self._predict(parent_of(project, location), deployment)

    @_raw_documented
    def raw_predict(self, project: str, location: str, endpoint: str) -> Response:
        return self._raw_predict(parent_of(project, location), self._deployments.find(endpoint))

    @_raw_documented
    def raw_predict_published(self, project: str, location: str, publisher: str, model: str) -> Response:
        deployment = self._deployments.find_published(publisher, model)
        return self._raw_predict(parent_of(project, location), deployment)

    def _predict(self, location: str, deployment: Deployment) -> Response:
        jobs = self._accept(deployment, parse_body(read_body(request, self._max_bytes)))
        return Response(self._answer(location, deployment, jobs).to_json(), mimetype=JSON)

    def _raw_predict(self, location: str, deployment: Deployment) -> Response:
        jobs, is_wrapped = self._accept_raw(deployment)
        answer = self._answer(location, deployment, jobs)
        text = answer.to_json()
        headers = {
            "X-Vertex-AI-Deployed-Model-Id": answer.deployed_model_id,
            "X-Vertex-AI-Model": answer.model,
            "X-Vertex-AI-Model-Version-Id": answer.model_version_id,
        }
        headers = {name: quote(value, safe=_PLAIN_IN_HEADERS) for name, value in headers.items()}
        if is_wrapped:
            text = HttpBody(content_type=JSON, data=base64.b64encode(text.encode()).decode()).to_json()
        return Response(text, headers=headers, mimetype=JSON)

    def _accept_raw(self, deployment: Deployment) -> tuple[list[Job], bool]:
        body = parse_body(read_body(request, self._max_bytes * 4 // 3))
        is_wrapped = isinstance(body, dict) and "httpBody" in body
        return self._accept(deployment, _unwrap(body) if is_wrapped else body), is_wrapped

    def _accept(self, deployment: Deployment, body: JsonValue) -> list[Job]:
        """The job of each instance; none is accepted where anything is wrong with one.

        Ends before the wait, so that nothing holds the images during it.
        """
        asked = validate(body, PredictRequest)
        uploads = _uploads(asked.instances)
        with ExitStack() as opened:
            checked: list[Checked] = []
            for number, (instance, upload) in enumerate(zip(asked.instances, uploads, strict=True)):
                asked_for = request_for(
                    deployment.card,
                    {**deployment.parameters, **(asked.parameters or {})},
                    subtask=deployment.subtask,
                    prompts=instance.prompts,
                )
                submission = Submission(request=asked_for, upload=upload)
                opened.enter_context(closing(submission))
                with of_instance(number):
                    checked.append(self._calls.check(submission))
            return self._calls.accept(g.caller.tenant, checked)

    def _answer(self, location: str, deployment: Deployment, accepted: list[Job]) -> PredictResponse:
        jobs = self._calls.wait(accepted)
        for number, job in enumerate(jobs):
            with of_instance(number):
                require_success(job)
        card = deployment.card
        return PredictResponse(
            predictions=tuple(self._presenter.prediction(job, Masks.INLINE) for job in jobs),
            deployed_model_id=resource_id(card.id),
            model=f"{location}/models/{resource_id(card.id)}",
            model_display_name=card.display_name,
            metadata=self._metadata(deployment, jobs),
        )

    def _metadata(self, deployment: Deployment, jobs: Sequence[Job]) -> PredictionMetadata:
        ids = tuple(job.id for job in jobs)
        if deployment.card.annotation_specs:  # which are the model's metadata
            return PredictionMetadata(jobs=ids)
        results = [self._services.result_of(job) for job in jobs]
        colors = tuple(colors_of(result.annotation_specs) for result in results)
        return PredictionMetadata(jobs=ids, annotation_spec_colors=colors)


def _unwrap(body: JsonValue) -> JsonValue:
    wrapped = validate(body, RawPredictRequest)
    try:
        inner = decode_base64(wrapped.http_body.data)
    except ValueError as error:
        raise InvalidRequest([Fault("/httpBody/data", str(error))]) from error
    return parse_body(inner)


def _uploads(instances: Sequence[Instance]) -> list[Upload]:
    """The images; what is wrong with any is told at once."""
    uploads, faults = [], []
    for number, instance in enumerate(instances):
        try:
            uploads.append(upload_of_base64(instance.content))
        except ValueError as error:
            faults.append(Fault(f"/instances/{number}/content", str(error)))
    if faults:
        raise InvalidRequest(faults)
    return uploads


def request_for(
    card: ModelCard,
    parameters: Mapping[str, JsonValue],
    *,
    subtask: Subtask | None = None,
    prompts: tuple[Prompt, ...] = (),
    priority: Priority = Priority.INTERACTIVE,
) -> SegmentationRequest:
    """The job of an image: both masks, with Google's default for the threshold."""
    return SegmentationRequest(
        model=card.id,
        subtask=subtask,
        prompts=prompts,
        parameters={"confidenceThreshold": _DEFAULT_CONFIDENCE_THRESHOLD, **parameters},
        outputs=(Output.CATEGORY_MASK, Output.CONFIDENCE_MASK),
        priority=priority,
    )
