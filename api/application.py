"""The Flask application: every protocol of the folder, behind one door."""

import logging
import pkgutil
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from http import HTTPStatus
from importlib import import_module
from types import ModuleType
from typing import Any

import structlog
from flask import Flask, Response, g, request

from api import batch_results, batches, keys, models, protocols, service_routes, webhooks
from api.authentication import KeyBearer, authenticate, key_of
from api.body import BROKEN_OFF
from api.cors import Cors
from api.errors import install_error_handlers
from api.limits import tell_limits
from api.scopes import scopes_of
from api.security_headers import guard
from api.services import Services
from api.waiting import leave_seat

_DRAINED_IMAGES = 4  # as many of the largest size does a refused request get to send
_CHUNK_BYTES = 1 << 18

logger = structlog.get_logger(module=__name__)


def create_app(services: Services) -> Flask:
    """The API over these services."""
    app = _Application(__name__, static_folder=None)
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.config["MAX_FORM_MEMORY_SIZE"] = None  # max_content_length, set by each view, bounds it
    app.config["MAX_CONTENT_LENGTH"] = services.settings.max_image_bytes * 2
    spoken = [
        import_module(f"{protocols.__name__}.{module.name}")
        for module in pkgutil.iter_modules(protocols.__path__)
    ]
    _install_door(app, services, [protocol for protocol in spoken if hasattr(protocol, "key_in")])
    install_error_handlers(app, [protocol for protocol in spoken if hasattr(protocol, "speaks_to")])
    service_routes.install_docs(app)
    for routes in (
        models,
        keys,
        webhooks,
        batches,
        batch_results,
        service_routes,
        *sorted(spoken, key=_takes_the_rest),
    ):
        app.register_blueprint(routes.make_blueprint(services))
    return app


class _Application(Flask):
    """Flask whose views and hooks are all plain functions, and not examined for that at each request."""

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        return func


def _takes_the_rest(protocol: ModuleType) -> bool:
    return hasattr(protocol, "TAKES_THE_REST")


def _install_door(app: Flask, services: Services, bearers: Sequence[KeyBearer]) -> None:
    admin_key = services.settings.admin_key
    admin_key_text = admin_key.get_secret_value() if admin_key else None
    needed_scope = scopes_of(app)
    cors = Cors(services.settings.cors_origins)
    if admin_key is None:
        logger.warning(
            "no key is asked for: everybody on this machine is the administrator; set MASKLINE_ADMIN_KEY"
        )

    @app.before_request
    def enter() -> Response | None:
        asked = request._get_current_object()  # type: ignore[attr-defined]  # each use of a proxy costs
        g.began = time.perf_counter()
        g.request_id = request_id = asked.headers.get("X-Request-Id", "")[:128] or _new_request_id()
        structlog.contextvars.clear_contextvars()
        job_id = (asked.view_args or {}).get("job_id")
        known = {"job": job_id} if job_id else {}
        structlog.contextvars.bind_contextvars(request=request_id, **known)
        if preflight := cors.answer_preflight(asked):
            return preflight
        endpoint = asked.endpoint
        scope = needed_scope(endpoint, asked.method) if endpoint else None
        if endpoint and scope is None:
            return None
        elsewhere = (bearer.key_in(asked, services.settings.max_image_bytes) for bearer in bearers)
        key = key_of(asked) or next(filter(None, elsewhere), None)
        g.caller = caller = authenticate(key, admin_key_text, services.keys)
        if scope is not None:  # else there is no such route, which only those with a key are told
            caller.require(scope)
        return None

    @app.teardown_request
    def rise(_: BaseException | None) -> None:
        leave_seat()

    @app.after_request
    def leave(response: Response) -> Response:
        if response.status_code >= HTTPStatus.BAD_REQUEST:
            _drain(_DRAINED_IMAGES * services.settings.max_image_bytes)
        tell_limits(response)
        response.headers.add("X-Request-Id", g.request_id)
        guard(response)
        cors.allow(request, response)
        is_look = request.method == "GET" and response.status_code < HTTPStatus.BAD_REQUEST
        if not is_look or logger.is_enabled_for(logging.DEBUG):
            (logger.debug if is_look else logger.info)(
                "request",
                method=request.method,
                route=request.url_rule.rule if request.url_rule else None,
                status=response.status_code,
                tenant=g.caller.tenant if "caller" in g else None,
                ms=round((time.perf_counter() - g.began) * 1000, 1),
            )
        return response


def _new_request_id() -> str:
    return f"{random.getrandbits(64):016x}"  # no secret


def _drain(most_bytes: int) -> None:
    """Read what a refused request still sends, within reason.

    Otherwise gunicorn drops the connection, and the client sees that instead of this answer, or of its next.
    """
    body = request.environ["wsgi.input"]
    with suppress(OSError, *BROKEN_OFF):
        while most_bytes > 0 and (chunk := body.read(min(most_bytes, _CHUNK_BYTES))):
            most_bytes -= len(chunk)
