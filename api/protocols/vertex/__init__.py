"""Vertex AI's protocol: online and batch prediction, endpoints and models, in Google's JSON over HTTP.

The wire format is that of ``google-cloud-aiplatform`` over its REST transport, and of its documents
``ImageSegmentationPredictionInstance``, ``…Params`` and ``…Result``.
"""

from flask import Blueprint

from api.protocols.vertex import batch_jobs, operations, prediction, resources
from api.protocols.vertex.deployments import Deployments
from api.protocols.vertex.errors import STATUSES, speaks_to, tell
from api.protocols.vertex.routes import Route
from api.services import Services

__all__ = ["STATUSES", "make_blueprint", "speaks_to", "tell"]

_VERSIONS = ("v1", "v1beta1")


def make_blueprint(services: Services) -> Blueprint:
    """The routes, under each version of Google's API."""
    blueprint = Blueprint("vertex", __name__)
    deployments = Deployments(services.cards)
    routes = [
        *prediction.routes(services, deployments),
        *resources.routes(deployments),
        *batch_jobs.routes(services, deployments),
        *operations.routes(),
    ]
    for version in _VERSIONS:
        _add(blueprint, version, routes)
    _add(blueprint, "ui", operations.routes())  # where Google's clients call operations
    return blueprint


def _add(blueprint: Blueprint, version: str, routes: list[Route]) -> None:
    for method, rule, view in routes:
        path = f"/{version}/projects/<project>/locations/<location>/{rule}"
        blueprint.add_url_rule(path, f"{view.__name__}_{version}", view, methods=[method])
