"""The Hugging Face inference API, task image-segmentation.

https://huggingface.co/docs/api-inference/tasks/image-segmentation describes it; ``huggingface_hub`` and
``@huggingface/inference`` speak it. The parameters mean what those of the image-segmentation pipeline of
``transformers`` do, and have its defaults.
"""

from contextlib import closing
from dataclasses import dataclass
from typing import Annotated

from flask import Blueprint, Request, Response, g, request
from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter, ValidationError

from api.body import broken_off_told, read_body, read_json
from api.errors import faults_of
from api.intake import (
    ImageUrl,
    Submission,
    Upload,
    bare_base64,
    most_json_bytes,
    take_upload,
    upload_of_base64,
)
from api.openapi import BINARY, JsonSchema, operation
from api.services import Services
from api.synchronous import SynchronousCalls
from maskline.artifacts import Artifact, result_key
from maskline.errors import Fault, InvalidRequest, ModelNotReady, UnsupportedMediaType
from maskline.jobs import Job
from maskline.requests import Output, SegmentationRequest, Subtask
from maskline.resources import Problem
from maskline.results import ModelCard, SegmentPictureList

JSON = "application/json"
STATUSES = {422: 400}  #: the Python client has ``BadRequestError`` for 400, and no name for 422

_MODELS = "/models/<path:model_id>"
_FOLDERS = ("/models/", "/hf-inference/", "/status/")
_TYPICAL_START_S = 20.0  # until a worker that is started now offers its models
_PIPELINE_ORDER = (Subtask.PANOPTIC, Subtask.INSTANCE, Subtask.SEMANTIC)
_OUTPUTS = (*SegmentationRequest.model_fields["outputs"].default, Output.SEGMENT_MASKS)
_IMAGE_URL: TypeAdapter[str] = TypeAdapter(ImageUrl)
_FLAGS = {"1": True, "true": True, "0": False, "false": False}

Threshold = Annotated[float, Field(ge=0, le=1)]


class _FromClient(BaseModel):
    """What a client sends; clients put more into it than is for the task, and that is left out."""

    model_config = ConfigDict(extra="ignore", frozen=True, use_attribute_docstrings=True)


class ImageSegmentationParameters(_FromClient):
    """Parameters of the task; ``null`` is the same as left out."""

    subtask: Subtask | None = None
    """Left out: the first of panoptic, instance and semantic that the model can do."""
    threshold: Threshold | None = None
    """Segments with a lower score are left out, but none of the subtask semantic. Left out: 0.9 for models of
    ``transformers``, for others 0."""
    mask_threshold: Threshold | None = None
    """For models of ``transformers``: from which probability on a pixel counts for the area that a segment
    claims. Left out: 0.5."""
    overlap_mask_area_threshold: Threshold | None = None
    """For models of ``transformers``: a segment that keeps no more than this part of the area that it claims,
    because others cover it, is left out. Left out: 0.5."""


class ImageSegmentationOptions(_FromClient):
    """What the headers of the same names say too; those come first."""

    use_cache: bool | None = None
    """Whether an earlier equal request's result will do; left out: yes."""
    wait_for_model: bool | None = None
    """Whether to wait for a worker that has the model; left out: no."""


class ImageSegmentationInput(_FromClient):
    """An image with parameters; without parameters the image itself can be the body."""

    inputs: str
    """The image in base64, or its http or https URL."""
    parameters: ImageSegmentationParameters | None = None
    """Left out: the defaults."""
    options: ImageSegmentationOptions | None = None
    """Left out: as the headers say."""


class ImageSegmentationElement(BaseModel):
    """A segment."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    label: str
    """Of the segment."""
    mask: str
    """Base64 of a black-and-white PNG of the image's size."""
    score: float | None = None
    """How sure the model is of it; absent for the subtask semantic."""


class HuggingFaceError(BaseModel):
    """An error, as the clients read it."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    error: str
    """What was wrong, and what would be right."""
    estimated_time: float | None = None
    """Seconds until the model is there, roughly; only where it is not ready."""


class HuggingFaceModel(BaseModel):
    """A model, and whether it can run now."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    """Name of the model."""
    pipeline_tag: str = "image-segmentation"
    """The task."""
    loaded: bool
    """Whether a living worker offers it."""
    state: str
    """``Loaded`` if a living worker offers it, else ``Loadable``."""
    framework: str
    """Maskline's model family."""
    compute_type: str = "worker"
    """On what it runs: what its worker has."""


_ANSWER = TypeAdapter(list[ImageSegmentationElement])
_ANSWER_SCHEMA: JsonSchema = {"type": "array", "items": ImageSegmentationElement.model_json_schema()}
_NO_PARAMETERS, _NO_OPTIONS = ImageSegmentationParameters(), ImageSegmentationOptions()


def speaks_to(request: Request) -> bool:
    """Whether the request is of these clients."""
    return f"{request.path}/".startswith(_FOLDERS) or (request.path == "/" and request.method == "POST")


def tell(problem: Problem) -> JsonValue:
    """``{"error": text}``; of a model that is not ready also when it may be."""
    told: dict[str, JsonValue] = {"error": problem.detail}
    if problem.code == ModelNotReady.code:
        told["estimated_time"] = _TYPICAL_START_S
    return told


def make_blueprint(services: Services) -> Blueprint:
    """The routes of the hosted service, by its old host and by its router, and of a single endpoint."""
    views = _Views(services)
    blueprint = Blueprint("hugging_face", __name__)
    blueprint.add_url_rule("/", "segment_by_default", views.segment, methods=["POST"])
    for prefix, name in (("", "models"), ("/hf-inference", "router")):
        for rule, method, endpoint, view in (
            (_MODELS, "POST", "segment", views.segment),
            (_MODELS, "GET", "model", views.get_model),
            (f"{_MODELS}/info", "GET", "info", views.get_model),
            (f"{_MODELS}/health", "GET", "health", views.get_health),
        ):
            blueprint.add_url_rule(f"{prefix}{rule}", f"{name}_{endpoint}", view, methods=[method])
    blueprint.add_url_rule("/status/<path:model_id>", "status", views.get_model, methods=["GET"])
    return blueprint


@dataclass(frozen=True, kw_only=True, slots=True)
class _Call:
    upload: Upload | None = None
    url: str | None = None
    parameters: ImageSegmentationParameters
    options: ImageSegmentationOptions

    def close(self) -> None:
        if self.upload is not None:
            self.upload.file.close()


class _Views:
    def __init__(self, services: Services) -> None:
        self._services = services
        self._max_image_bytes = services.settings.max_image_bytes
        self._calls = SynchronousCalls(services)

    @operation(
        "Segment an image, and wait for the result",
        tag="Hugging Face",
        headers={
            "x-use-cache": "Whether an earlier equal request's result will do: `true` (default) or `false`",
            "x-wait-for-model": "Whether to wait for a worker with the model: `true` or `false` (default)",
        },
        bodies={JSON: ImageSegmentationInput, "image/*": BINARY},
        answers={200: {JSON: _ANSWER_SCHEMA}},
        problems=(400, 404, 413, 415, 429, 504),
        problem=HuggingFaceError,
    )
    def segment(self, model_id: str | None = None) -> Response:
        card = self._services.cards.find(model_id or self._services.settings.default_model)
        call = _read_call(request, self._max_image_bytes)
        with closing(call):
            uses_cache = _flag("x-use-cache", call.options.use_cache, default=True)
            waits = _flag("x-wait-for-model", call.options.wait_for_model, default=False)
            asked = _request_for(card, call.parameters, uses_cache=uses_cache)
            submission = Submission(request=asked, upload=call.upload, url=call.url)
            job = self._calls.run_once(g.caller.tenant, submission, waits_for_model=waits)
        least_score = 0.0 if "threshold" in card.parameter_names else call.parameters.threshold or 0.0
        return Response(_ANSWER.dump_json(self._answer(job, least_score), exclude_none=True), mimetype=JSON)

    def _answer(self, job: Job, least_score: float) -> list[ImageSegmentationElement]:
        key = result_key(job.id, job.attempt, Artifact.SEGMENT_MASKS)
        pictures = SegmentPictureList.model_validate_json(self._services.artifacts.get(key))
        if job.request.subtask is Subtask.SEMANTIC:
            return [ImageSegmentationElement(label=one.label, mask=one.mask) for one in pictures.segments]
        return [
            ImageSegmentationElement(label=one.label, mask=one.mask, score=one.score)
            for one in pictures.segments
            if one.score >= least_score
        ]

    @operation(
        "A model, and whether it can run now",
        tag="Hugging Face",
        answers={200: {JSON: HuggingFaceModel}},
        problems=(404,),
        problem=HuggingFaceError,
    )
    def get_model(self, model_id: str) -> Response:
        card = self._services.cards.find(model_id)
        is_ready = card.id in self._services.models.available()
        told = HuggingFaceModel(
            id=model_id, loaded=is_ready, state="Loaded" if is_ready else "Loadable", framework=card.family
        )
        return Response(told.model_dump_json(), mimetype=JSON)

    @operation(
        "Whether a model can run now: 200 or 503",
        tag="Hugging Face",
        answers={200: {JSON: HuggingFaceModel}},
        problems=(404,),
        problem=HuggingFaceError,
    )
    def get_health(self, model_id: str) -> Response:
        self._calls.require_ready(self._services.cards.find(model_id))
        return self.get_model(model_id)


def _read_call(request: Request, max_image_bytes: int) -> _Call:
    """What a body holds: JSON, or an image, whatever else its content type may say.

    Clients guess the type from a file's name, or give none, even to JSON; but no image begins with a brace.

    Raises:
        MalformedRequest: the body is cut off, or is not the JSON that it should be.
        InvalidRequest: fields are wrong.
        UnsupportedMediaType: the body is a form.
        RequestEntityTooLarge: (Werkzeug's) the body is larger than an image may be.
    """
    if request.mimetype == JSON:
        return _from_json(read_body(request, most_json_bytes(max_image_bytes)))
    if request.mimetype == "multipart/form-data":
        raise UnsupportedMediaType("multipart is not taken here; send the image's bytes as the body")
    request.max_content_length = max_image_bytes
    with broken_off_told():
        upload = take_upload(request.stream, request.content_length)
    begins_as_json = upload.file.read(1) == b"{"
    upload.file.seek(0)
    if begins_as_json:
        return _from_json(upload.file.read())
    return _Call(upload=upload, parameters=_NO_PARAMETERS, options=_NO_OPTIONS)


def _from_json(text: bytes) -> _Call:
    body = read_json(text, ImageSegmentationInput)
    is_url = body.inputs.startswith(("http://", "https://"))
    return _Call(
        url=_checked_url(body.inputs) if is_url else None,
        upload=None if is_url else _decoded(body.inputs),
        parameters=body.parameters or _NO_PARAMETERS,
        options=body.options or _NO_OPTIONS,
    )


def _checked_url(inputs: str) -> str:
    try:
        return _IMAGE_URL.validate_python(inputs)
    except ValidationError as error:
        raise InvalidRequest([Fault("/inputs", fault.detail) for fault in faults_of(error)]) from error


def _decoded(inputs: str) -> Upload:
    """The image in base64, as a data URL or with line breaks too.

    Raises:
        InvalidRequest: it is none.
    """
    try:
        return upload_of_base64(bare_base64(inputs))
    except ValueError as error:
        raise InvalidRequest([Fault("/inputs", f"{error}; or give an http or https URL")]) from error


def _request_for(
    card: ModelCard, asked: ImageSegmentationParameters, *, uses_cache: bool
) -> SegmentationRequest:
    """The pipeline's parameters as those of the model's family, as far as it has them."""
    meant: dict[str, JsonValue] = {
        "threshold": 0.9 if asked.threshold is None else asked.threshold,
        "maskThreshold": 0.5 if asked.mask_threshold is None else asked.mask_threshold,
        "overlapMaskAreaThreshold": (
            0.5 if asked.overlap_mask_area_threshold is None else asked.overlap_mask_area_threshold
        ),
        "fuseStuff": False,
        "overlapping": False,
    }
    return SegmentationRequest(
        model=card.id,
        subtask=asked.subtask or next(subtask for subtask in _PIPELINE_ORDER if subtask in card.subtasks),
        parameters={name: value for name, value in meant.items() if name in card.parameter_names},
        outputs=_OUTPUTS,
        use_cache=uses_cache,
    )


def _flag(header: str, option: bool | None, *, default: bool) -> bool:
    """What a header says, else what the option in the body does.

    Raises:
        InvalidRequest: the header is neither true nor false.
    """
    value = request.headers.get(header)
    if value is None:
        return default if option is None else option
    if value.lower() not in _FLAGS:
        raise InvalidRequest([Fault("", f"{value!r} is neither true nor false", parameter=header)])
    return _FLAGS[value.lower()]
