"""Routes about the service itself: health, metrics, documentation, and the artifacts behind signed URLs."""

from importlib.metadata import version

from flask import Blueprint, Flask, Response, current_app, jsonify, redirect
from flask_swagger_ui import get_swaggerui_blueprint

from api.artifact_urls import ARTIFACT_PATH, ArtifactUrls
from api.openapi import BINARY, make_document, operation
from api.services import Services
from maskline.errors import DependencyError
from maskline.resources import HealthResource
from maskline.wire import WireModel

_JSON = "application/json"
DOCS_PATH = "/docs"
DOCUMENT_PATH = "/openapi.json"


_MEDIA_TYPES = {"png": "image/png", "jsonl": "application/jsonl", "zip": "application/zip"}


class ArtifactQuery(WireModel):
    """Query of a signed URL."""

    expires: int
    """When the URL ends, in seconds since 1970."""
    signature: str
    """Over the key and that time."""


def make_blueprint(services: Services) -> Blueprint:
    """``/healthz``, ``/readyz``, ``/openapi.json`` and ``/v1/artifacts``."""
    blueprint = Blueprint("service", __name__)
    urls = ArtifactUrls(services)

    @blueprint.get("/healthz")
    @operation(
        "Whether this process lives", tag="service", answers={200: {_JSON: HealthResource}}, is_open=True
    )
    def get_health() -> Response:
        return Response(HealthResource(status="ok").to_json(), mimetype=_JSON)

    @blueprint.get("/readyz")
    @operation(
        "Whether the servers under it answer",
        tag="service",
        answers={200: {_JSON: HealthResource}, 503: {_JSON: HealthResource}},
        is_open=True,
    )
    def get_readiness() -> Response:
        dependencies, workers = _check(services)
        is_ready = all(state == "ok" for state in dependencies.values())
        health = HealthResource(
            status="ok" if is_ready else "unavailable", dependencies=dependencies, workers=workers
        )
        return Response(health.to_json(), 200 if is_ready else 503, mimetype=_JSON)

    @blueprint.get(DOCUMENT_PATH)
    def get_document() -> Response:
        return jsonify(make_document(current_app, version("maskline")))

    @blueprint.get(f"{ARTIFACT_PATH}/<path:key>")
    @operation(
        "An artifact behind a signed URL",
        tag="results",
        query=ArtifactQuery,
        answers={200: {"image/png": BINARY}},
        problems=(404, 422),
        is_open=True,
    )
    def get_artifact(key: str, query: ArtifactQuery) -> Response:
        urls.check(key, query.expires, query.signature)
        size, chunks = services.artifacts.stream(key)
        media_type = _MEDIA_TYPES.get(key.rpartition(".")[2], _JSON)
        headers = {"Content-Length": str(size), "Cache-Control": "private, no-store"}
        return Response(chunks, mimetype=media_type, headers=headers)

    return blueprint


def install_docs(app: Flask) -> None:
    """Serve the documentation page (Swagger UI, from its package, nothing from elsewhere), and lead there."""
    app.add_url_rule("/", "index", lambda: redirect(f"{DOCS_PATH}/"))
    app.register_blueprint(get_swaggerui_blueprint(DOCS_PATH, DOCUMENT_PATH, {"app_name": "Maskline"}))


def _check(services: Services) -> tuple[dict[str, str], int | None]:
    dependencies = {}
    workers = None
    try:
        workers = services.models.workers()
        services.jobs.check()
        dependencies["redis"] = "ok"
    except DependencyError as error:
        dependencies["redis"] = error.message
    try:
        services.artifacts.check()
        dependencies["s3"] = "ok"
    except DependencyError as error:
        dependencies["s3"] = error.message
    return dependencies, workers
