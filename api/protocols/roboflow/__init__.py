"""Roboflow Inference: the calls of ``inference_sdk``'s client in both its modes, and of SAM.

The form is that of the Roboflow Inference server's OpenAPI document (version 1.2.3) and of ``inference-sdk``
1.8.3; ``docs/roboflow.md`` says what Maskline does with each field.

v0 is one call, ``POST /{dataset_id}/{version_id}``, with the image as its body and the rest in the query. v1
is ``/model/…`` for the models that there are, and ``/infer/…`` in JSON.
"""

from flask import Blueprint

from api.protocols.roboflow import infer, legacy, models, sam
from api.protocols.roboflow.bodies import key_in
from api.protocols.roboflow.dialect import STATUSES, speaks_to, tell
from api.protocols.roboflow.paths import DATASET, dataset_converter
from api.services import Services

__all__ = ["STATUSES", "TAKES_THE_REST", "key_in", "make_blueprint", "speaks_to", "tell"]

TAKES_THE_REST = True


def make_blueprint(services: Services) -> Blueprint:
    """The routes."""
    blueprint = Blueprint("roboflow", __name__)
    blueprint.record_once(
        lambda state: state.app.url_map.converters.update({DATASET: dataset_converter(state.app.url_map)})
    )
    for part in (legacy, models, infer, sam):
        part.add_routes(blueprint, services)
    return blueprint
