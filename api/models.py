"""Routes that tell which models there are."""

from flask import Blueprint, Response

from api.openapi import operation
from api.services import Services
from maskline.resources import ModelPage, ModelResource

_JSON = "application/json"


def make_blueprint(services: Services) -> Blueprint:
    """``/v1/models``."""
    blueprint = Blueprint("models", __name__, url_prefix="/v1/models")

    @blueprint.get("")
    @operation("List the models", tag="models", answers={200: {_JSON: ModelPage}})
    def list_models() -> Response:
        available = services.models.available()
        page = ModelPage(
            models=tuple(
                ModelResource(**dict(card), available=card.id in available)
                for card in services.models.cards().values()
            ),
            default_model=services.settings.default_model,
        )
        return Response(page.to_json(), mimetype=_JSON)

    @blueprint.get("/<path:model_id>")
    @operation(
        "A model: its annotation specs with their colours, and the schema of its parameters",
        tag="models",
        answers={200: {_JSON: ModelResource}},
        problems=(404,),
    )
    def get_model(model_id: str) -> Response:
        card = services.cards.find(model_id)
        resource = ModelResource(**dict(card), available=card.id in services.models.available())
        return Response(resource.to_json(), mimetype=_JSON)

    return blueprint
