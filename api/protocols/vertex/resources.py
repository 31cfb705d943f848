"""Endpoints and models as Google shows them: get and list."""

from collections.abc import Iterable

from flask import Response
from pydantic import JsonValue

from api.openapi import operation
from api.protocols.vertex.deployments import VERSION, Deployment, Deployments, resource_id
from api.protocols.vertex.errors import ErrorBody
from api.protocols.vertex.listing import ListQuery, page_of
from api.protocols.vertex.routes import JSON, Route, parent_of
from maskline.batches import ItemForm
from maskline.results import AnnotationSpec, ModelCard
from maskline.wire import WireModel

# A catalog does not tell when its models were made, and the clients take a resource without a time for one
# that is not there yet.
_TIME = "1970-01-01T00:00:00Z"
_SCHEMAS = "gs://google-cloud-aiplatform/schema/predict"


class RgbColor(WireModel):
    """``google.type.Color``, each part from 0 to 1; one that is 0 is left out."""

    red: float | None = None
    """From 0 to 1."""
    green: float | None = None
    """From 0 to 1."""
    blue: float | None = None
    """From 0 to 1."""


class AnnotationSpecColor(WireModel):
    """One entry of ``annotationSpecColors``: the colour that an annotation spec has in a category mask."""

    id: str
    """The pixel value in the category mask."""
    display_name: str
    """Name of the category."""
    color: RgbColor
    """The palette's entry for ``id``."""


class ModelMetadata(WireModel):
    """What a model's clients must know to read its masks."""

    model: str
    """Id of the model in the native API."""
    annotation_spec_colors: tuple[AnnotationSpecColor, ...]
    """Background and every category; empty: they come with requests, and are told with the predictions."""
    subtasks: tuple[str, ...]
    """What it can do; the first is the default."""
    prompt_kinds: tuple[str, ...]
    """What the ``prompts`` of an instance may hold; empty: it takes none."""
    parameters_schema: dict[str, JsonValue]
    """JSON Schema of ``parameters``."""


class DeployedModelRef(WireModel):
    """Where a model is deployed."""

    endpoint: str
    """Resource name of the endpoint."""
    deployed_model_id: str
    """Id of the model there."""


class PredictSchemata(WireModel):
    """Google's documents about what goes in and out."""

    instance_schema_uri: str = f"{_SCHEMAS}/instance/image_segmentation_1.0.0.yaml"
    """Of an instance."""
    parameters_schema_uri: str = f"{_SCHEMAS}/params/image_segmentation_1.0.0.yaml"
    """Of the parameters."""
    prediction_schema_uri: str = f"{_SCHEMAS}/prediction/image_segmentation_1.0.0.yaml"
    """Of a prediction."""


class VertexModel(WireModel):
    """``google.cloud.aiplatform.v1.Model``."""

    name: str
    """Resource name."""
    version_id: str = VERSION
    """Always the same: models have no versions."""
    version_aliases: tuple[str, ...] = ("default",)
    """Other names of the version."""
    display_name: str
    """Name for people."""
    description: str
    """A sentence or two for people."""
    predict_schemata: PredictSchemata = PredictSchemata()
    """What goes in and out."""
    metadata: ModelMetadata
    """Which colour is which annotation spec, and what the model takes."""
    supported_input_storage_formats: tuple[str, ...] = tuple(ItemForm)
    """Of batch prediction jobs."""
    supported_output_storage_formats: tuple[str, ...] = (ItemForm.JSONL,)
    """Of batch prediction jobs."""
    create_time: str = _TIME
    """Not known: 1970."""
    update_time: str = _TIME
    """Not known: 1970."""
    deployed_models: tuple[DeployedModelRef, ...]
    """Its endpoints."""


class DeployedModel(WireModel):
    """The model of an endpoint."""

    id: str
    """The model's id in resource names."""
    model: str
    """Resource name of the model."""
    model_version_id: str = VERSION
    """Always the same: models have no versions."""
    display_name: str
    """Name of the model for people."""
    create_time: str = _TIME
    """Not known: 1970."""


class VertexEndpoint(WireModel):
    """``google.cloud.aiplatform.v1.Endpoint``."""

    name: str
    """Resource name."""
    display_name: str
    """Name for people."""
    description: str
    """A sentence or two for people."""
    deployed_models: tuple[DeployedModel]
    """The one model behind it."""
    traffic_split: dict[str, int]
    """All of it to that model."""
    create_time: str = _TIME
    """Not known: 1970."""
    update_time: str = _TIME
    """Not known: 1970."""
    dedicated_endpoint_enabled: bool = False
    """Never: its clients would call a host of Google's."""


class VertexModelPage(WireModel):
    """A page of models."""

    models: tuple[VertexModel, ...]
    """By id."""
    next_page_token: str | None = None
    """Absent on the last page."""


class VertexEndpointPage(WireModel):
    """A page of endpoints."""

    endpoints: tuple[VertexEndpoint, ...]
    """By id."""
    next_page_token: str | None = None
    """Absent on the last page."""


def routes(deployments: Deployments) -> list[Route]:
    """The routes."""
    views = _Views(deployments)
    return [
        ("GET", "endpoints", views.list_endpoints),
        ("GET", "endpoints/<endpoint>", views.get_endpoint),
        ("GET", "models", views.list_vertex_models),
        ("GET", "models/<model>", views.get_vertex_model),
    ]


class _Views:
    def __init__(self, deployments: Deployments) -> None:
        self._deployments = deployments

    @operation(
        "An endpoint: a name for a model with defaults of its own; every model is one too",
        tag="Vertex AI",
        answers={200: {JSON: VertexEndpoint}},
        problems=(404,),
        problem=ErrorBody,
    )
    def get_endpoint(self, project: str, location: str, endpoint: str) -> Response:
        resource = _endpoint(parent_of(project, location), self._deployments.find(endpoint))
        return Response(resource.to_json(), mimetype=JSON)

    @operation(
        "List the endpoints; filters: `endpoint`, `displayName`",
        tag="Vertex AI",
        query=ListQuery,
        answers={200: {JSON: VertexEndpointPage}},
        problems=(400,),
        problem=ErrorBody,
    )
    def list_endpoints(self, project: str, location: str, query: ListQuery) -> Response:
        page, token = page_of(
            self._deployments.all(),
            query,
            id_of=lambda one: one.id,
            fields={"endpoint": lambda one: one.id, "displayName": lambda one: one.display_name},
        )
        endpoints = tuple(_endpoint(parent_of(project, location), one) for one in page)
        return Response(
            VertexEndpointPage(endpoints=endpoints, next_page_token=token).to_json(), mimetype=JSON
        )

    @operation(
        "A model; its metadata tell which colour is which annotation spec",
        tag="Vertex AI",
        answers={200: {JSON: VertexModel}},
        problems=(404,),
        problem=ErrorBody,
    )
    def get_vertex_model(self, project: str, location: str, model: str) -> Response:
        card = self._deployments.find_model(model)
        resource = self._model(parent_of(project, location), card)
        return Response(resource.to_json(), mimetype=JSON)

    @operation(
        "List the models; filters: `model`, `displayName`",
        tag="Vertex AI",
        query=ListQuery,
        answers={200: {JSON: VertexModelPage}},
        problems=(400,),
        problem=ErrorBody,
    )
    def list_vertex_models(self, project: str, location: str, query: ListQuery) -> Response:
        page, token = page_of(
            self._deployments.models(),
            query,
            id_of=lambda card: resource_id(card.id),
            fields={
                "model": lambda card: resource_id(card.id),
                "displayName": lambda card: card.display_name,
            },
        )
        models = tuple(self._model(parent_of(project, location), card) for card in page)
        return Response(VertexModelPage(models=models, next_page_token=token).to_json(), mimetype=JSON)

    def _model(self, location: str, card: ModelCard) -> VertexModel:
        return VertexModel(
            name=f"{location}/models/{resource_id(card.id)}",
            display_name=card.display_name,
            description=card.description,
            metadata=ModelMetadata(
                model=card.id,
                annotation_spec_colors=colors_of(card.annotation_specs),
                subtasks=card.subtasks,
                prompt_kinds=card.prompt_kinds,
                parameters_schema=card.parameters_schema,
            ),
            deployed_models=tuple(
                DeployedModelRef(
                    endpoint=f"{location}/endpoints/{one.id}", deployed_model_id=resource_id(card.id)
                )
                for one in self._deployments.endpoints_of(card)
            ),
        )


def _endpoint(location: str, deployment: Deployment) -> VertexEndpoint:
    card = deployment.card
    deployed = DeployedModel(
        id=resource_id(card.id),
        model=f"{location}/models/{resource_id(card.id)}",
        display_name=card.display_name,
    )
    return VertexEndpoint(
        name=f"{location}/endpoints/{deployment.id}",
        display_name=deployment.display_name,
        description=card.description,
        deployed_models=(deployed,),
        traffic_split={deployed.id: 100},
    )


def colors_of(specs: Iterable[AnnotationSpec]) -> tuple[AnnotationSpecColor, ...]:
    """The annotation specs as Google writes them."""
    return tuple(
        AnnotationSpecColor(id=str(spec.id), display_name=spec.display_name, color=_rgb(spec.color))
        for spec in specs
    )


def _rgb(color: str) -> RgbColor:
    red, green, blue = (round(part / 255, 6) or None for part in bytes.fromhex(color.removeprefix("#")))
    return RgbColor(red=red, green=green, blue=blue)
