"""The routes that Label Studio calls, for the default model and for each model by its id."""

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

from flask import Blueprint, Response, g, request

from api.body import read_body, read_json
from api.errors import faults_moved
from api.intake import Submission, most_json_bytes
from api.openapi import operation
from api.protocols.label_studio.images import TaskImages
from api.protocols.label_studio.label_config import Control, find_control
from api.protocols.label_studio.messages import (
    BackendHealth,
    BackendSetup,
    BackendSetupRequest,
    BackendVersions,
    EventTaken,
    LabellingTask,
    LabelStudioError,
    PredictionRequest,
    Predictions,
    ProjectEvent,
    TaskFailure,
    TaskPrediction,
    ToLabelStudio,
)
from api.protocols.label_studio.prompts import DRAWN, prompts_of
from api.protocols.label_studio.regions import outputs_for, prediction_of, version_of
from api.services import Services
from api.submission import Submitter
from api.synchronous import SynchronousCalls, require_success
from api.waiting import take_seat, wait_seated
from maskline.errors import DependencyError, Fault, InvalidRequest, RequestError, ServiceError, WaitOver
from maskline.jobs import Job
from maskline.plain_words import pointer
from maskline.requests import Priority, SegmentationRequest
from maskline.results import ModelCard

ROOT = "/label-studio"
_JSON = "application/json"
_TAG = "Label Studio"
_MAX_EVENT_BYTES = 1 << 16  # of what comes without a key
_AT_ONCE = 32  # tasks of a call that are jobs at the same time
_PROBLEMS = (400, 404, 413, 415, 422, 429)


def make_blueprint(services: Services) -> Blueprint:
    """The routes, without and with a model's id: Label Studio keeps nothing of a URL but its path."""
    views = _Views(services)
    blueprint = Blueprint("label_studio", __name__, url_prefix=ROOT)
    for name, method, view in (
        ("health", "GET", views.get_health),
        ("setup", "POST", views.set_up),
        ("predict", "POST", views.predict),
        ("webhook", "POST", views.receive),
        ("versions", "GET", views.list_versions),
    ):
        blueprint.add_url_rule(f"/{name}", name, view, methods=[method])
        blueprint.add_url_rule(f"/<path:model_id>/{name}", f"model_{name}", view, methods=[method])
    return blueprint


@dataclass(frozen=True, kw_only=True, slots=True)
class _Asked:
    """What is asked of each task."""

    card: ModelCard
    control: Control
    request: SegmentationRequest


class _Views:
    def __init__(self, services: Services) -> None:
        self._services = services
        self._most_bytes = most_json_bytes(services.settings.max_image_bytes)
        self._calls = SynchronousCalls(services)
        self._submitter = Submitter(services)
        self._images = TaskImages(services.settings)

    @operation(
        "Whether the model can run now: 200 or 503",
        tag=_TAG,
        answers={200: {_JSON: BackendHealth}},
        problems=(404,),
        problem=LabelStudioError,
    )
    def get_health(self, model_id: str | None = None) -> Response:
        card = self._card(model_id)
        self._calls.require_ready(card)
        return _respond(BackendHealth(model_class=card.id))

    @operation(
        "Whether the labelling configuration can be filled in, and the model's version",
        tag=_TAG,
        bodies={_JSON: BackendSetupRequest},
        answers={200: {_JSON: BackendSetup}},
        problems=_PROBLEMS,
        problem=LabelStudioError,
    )
    def set_up(self, model_id: str | None = None) -> Response:
        card = self._card(model_id)
        asked = read_json(read_body(request, self._most_bytes), BackendSetupRequest)
        find_control(asked.label_config, "/schema")
        if asked.extra_params:
            detail = f"nothing is chosen here; a model is chosen by the backend's URL, as {ROOT}/{card.id}"
            raise InvalidRequest([Fault("/extra_params", detail)])
        return _respond(BackendSetup(model_version=version_of(card)))

    @operation(
        "The version of the model",
        tag=_TAG,
        answers={200: {_JSON: BackendVersions}},
        problems=(404,),
        problem=LabelStudioError,
    )
    def list_versions(self, model_id: str | None = None) -> Response:
        return _respond(BackendVersions(versions=[version_of(self._card(model_id))]))

    @operation(
        "Events of a project: taken, and nothing follows from them",
        tag=_TAG,
        bodies={_JSON: ProjectEvent},
        answers={200: {_JSON: EventTaken}},
        problems=(400, 413, 422),
        problem=LabelStudioError,
        is_open=True,  # Label Studio makes this webhook by itself, and without credentials
    )
    def receive(self, model_id: str | None = None) -> Response:
        event = read_json(read_body(request, _MAX_EVENT_BYTES), ProjectEvent)
        if event.action == "START_TRAINING":
            raise RequestError("Maskline does not train its models; there is nothing to start")
        return _respond(EventTaken())

    @operation(
        "Label tasks by themselves, or one task by what an annotator drew",
        tag=_TAG,
        bodies={_JSON: PredictionRequest},
        answers={200: {_JSON: Predictions}},
        problems=(*_PROBLEMS, 504),
        problem=LabelStudioError,
    )
    def predict(self, model_id: str | None = None) -> Response:
        card = self._card(model_id)
        asked = read_json(read_body(request, self._most_bytes), PredictionRequest)
        control = find_control(asked.label_config, "/label_config")
        drawn = asked.params.context.result if asked.params and asked.params.context else []
        if drawn and len(asked.tasks) != 1:
            raise InvalidRequest(
                [Fault("/tasks", f"what was drawn is of one task; there are {len(asked.tasks)}")]
            )
        of_each = _Asked(
            card=card,
            control=control,
            request=SegmentationRequest(
                model=card.id,
                prompts=prompts_of(drawn, control),
                outputs=outputs_for(control.shape),
                priority=Priority.INTERACTIVE if len(asked.tasks) == 1 else Priority.BULK,
            ),
        )
        take_seat(self._services)
        results = self._predict_each(asked.tasks, of_each)
        if drawn and isinstance(results[0], ServiceError):
            raise results[0]  # the annotator is told so; of other calls Label Studio logs what failed
        return _respond(
            Predictions(
                results=[_failure(one) if isinstance(one, ServiceError) else one for one in results],
                model_version=version_of(card),
            )
        )

    def _predict_each(
        self, tasks: Sequence[LabellingTask], asked: _Asked
    ) -> list[TaskPrediction | ServiceError]:
        """The prediction of each task, or why there is none, in the same order.

        Label Studio sends all tasks that were chosen in one call, so they run some at a time, and those that
        the service's limit leaves no time for are for the next call. Results are found again.

        Raises:
            DependencyError: Redis or S3 does not answer.
        """
        deadline = time.monotonic() + self._services.settings.max_wait
        results: list[TaskPrediction | ServiceError] = []
        for first in range(0, len(tasks), _AT_ONCE):
            some = enumerate(tasks[first : first + _AT_ONCE], first)
            accepted = [self._accept(number, task, asked, deadline) for number, task in some]
            results += [self._wait(one, asked, deadline) for one in accepted]
        return results

    def _accept(self, number: int, task: LabellingTask, asked: _Asked, deadline: float) -> Job | ServiceError:
        if time.monotonic() > deadline:
            return WaitOver("the call's time was over before this task; ask for it again")
        try:
            return self._submit(number, task, asked)
        except DependencyError:
            raise
        except ServiceError as error:
            return error

    def _submit(self, number: int, task: LabellingTask, asked: _Asked) -> Job:
        place = pointer("tasks", number, "data", asked.control.data_key)
        tenant = g.caller.tenant
        try:
            image = self._images.find(tenant, task.id, task.data.get(asked.control.data_key))
        except ValueError as error:
            raise InvalidRequest([Fault(place, str(error))]) from error
        submission = Submission(request=asked.request, upload=image.upload, url=image.url, uri=image.uri)
        with closing(submission), faults_moved(lambda fault: _moved(fault, place)):
            return self._submitter.submit(tenant, submission, None, reuses_result=True)

    def _wait(
        self, accepted: Job | ServiceError, asked: _Asked, deadline: float
    ) -> TaskPrediction | ServiceError:
        if isinstance(accepted, ServiceError):
            return accepted
        job = wait_seated(self._services, accepted, deadline - time.monotonic())
        try:
            require_success(job)
            return prediction_of(self._services.artifacts, job, asked.card, asked.control)
        except DependencyError:
            raise
        except ServiceError as error:
            return error

    def _card(self, model_id: str | None) -> ModelCard:
        return self._services.cards.find(model_id or self._services.settings.default_model)


def _moved(fault: Fault, place: str) -> str:
    """Where Label Studio wrote what is at fault: what was drawn, or the task's image."""
    return DRAWN if fault.pointer.startswith("/prompts") else place


def _failure(error: ServiceError) -> TaskFailure:
    return TaskFailure(error=error.message, code=error.code)


def _respond(answer: ToLabelStudio) -> Response:
    return Response(answer.model_dump_json(), mimetype=_JSON)
