"""v1: which models there are, and what the client asks of the server before it sends an image."""

import socket
from importlib.metadata import version
from typing import Annotated
from uuid import NAMESPACE_DNS, uuid5

from flask import Blueprint, Response, request
from pydantic import Field

from api.openapi import operation
from api.protocols.roboflow.answers import JSON, to_json
from api.protocols.roboflow.bodies import read_json_as
from api.protocols.roboflow.dialect import RoboflowError
from api.protocols.roboflow.fields import Fields, Keyed
from api.protocols.roboflow.tasks import Task, task_of
from api.services import Services

_TAG = "Roboflow"


class ServerVersionInfo(Fields):
    """What runs here."""

    name: str
    """Of the software."""
    version: str
    """Of the software."""
    uuid: str
    """Of the machine."""


class ModelDescriptionEntity(Fields):
    """A model by one of its names."""

    model_id: str
    """Its id, or an alias of it."""
    task_type: Task
    """What it is for."""


class ModelsDescriptions(Fields):
    """All models."""

    models: list[ModelDescriptionEntity]
    """Each by its id, and again by each of its aliases."""


class ModelRequest(Keyed):
    """Body of ``POST /model/add`` and ``/model/remove``."""

    model_id: Annotated[str, Field(min_length=1, max_length=256)]
    """Id or alias of a model."""


def add_routes(blueprint: Blueprint, services: Services) -> None:
    """``/info`` and ``/model/…``."""
    views = _ModelViews(services)
    for rule, method, view in (
        ("/info", "GET", views.get_server_info),
        ("/model/registry", "GET", views.list_registry),
        ("/model/add", "POST", views.add_model),
        ("/model/remove", "POST", views.remove_model),
        ("/model/clear", "POST", views.clear_models),
    ):
        blueprint.add_url_rule(rule, view.__name__, view, methods=[method])


class _ModelViews:
    """Workers load and drop models as they need them: here nothing is loaded, and nothing dropped."""

    def __init__(self, services: Services) -> None:
        self._cards = services.cards
        self._max_image_bytes = services.settings.max_image_bytes

    @operation(
        "What runs here (Roboflow)",
        tag=_TAG,
        answers={200: {JSON: ServerVersionInfo}},
        problem=RoboflowError,
        is_open=True,
    )
    def get_server_info(self) -> Response:
        info = ServerVersionInfo(
            name="Maskline", version=version("maskline"), uuid=str(uuid5(NAMESPACE_DNS, socket.gethostname()))
        )
        return Response(to_json(info), mimetype=JSON)

    @operation(
        "List the models and their tasks (Roboflow)",
        tag=_TAG,
        answers={200: {JSON: ModelsDescriptions}},
        problem=RoboflowError,
    )
    def list_registry(self) -> Response:
        return self._registry()

    @operation(
        "Ask for a model; workers load it when it is used (Roboflow)",
        tag=_TAG,
        bodies={JSON: ModelRequest},
        answers={200: {JSON: ModelsDescriptions}},
        problems=(400, 404, 422),
        problem=RoboflowError,
    )
    def add_model(self) -> Response:
        return self._registry_with_asked()

    @operation(
        "Let go of a model; workers drop those that nobody uses (Roboflow)",
        tag=_TAG,
        bodies={JSON: ModelRequest},
        answers={200: {JSON: ModelsDescriptions}},
        problems=(400, 404, 422),
        problem=RoboflowError,
    )
    def remove_model(self) -> Response:
        return self._registry_with_asked()

    @operation(
        "Let go of all models; workers drop those that nobody uses (Roboflow)",
        tag=_TAG,
        answers={200: {JSON: ModelsDescriptions}},
        problem=RoboflowError,
    )
    def clear_models(self) -> Response:
        return self._registry()

    def _registry_with_asked(self) -> Response:
        self._cards.find(read_json_as(ModelRequest, request, self._max_image_bytes).model_id)
        return self._registry()

    def _registry(self) -> Response:
        models = [
            ModelDescriptionEntity(model_id=name, task_type=task_of(card))
            for name, card in self._cards.by_name().items()
        ]
        return Response(to_json(ModelsDescriptions(models=models)), mimetype=JSON)
