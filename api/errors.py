"""Errors as HTTP: the one place where an error gets its status, and the body that its client can read."""

import http
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol

import structlog
from flask import Flask, Request, Response, g, request
from pydantic import JsonValue, ValidationError
from werkzeug.exceptions import HTTPException

from maskline import errors
from maskline.errors import Fault, InvalidRequest, ServiceError
from maskline.plain_words import pointer, words
from maskline.resources import FaultResource, Problem

logger = structlog.get_logger(module=__name__)

PROBLEM_MEDIA_TYPE = "application/problem+json"
PROBLEM_TYPE_BASE = "urn:maskline:problem:"
RETRY_AFTER_S = 2

STATUS_BY_ERROR: Mapping[type[ServiceError], int] = {
    errors.InvalidRequest: 422,
    errors.MalformedRequest: 400,
    errors.UnsupportedMediaType: 415,
    errors.ImageUnreadable: 422,
    errors.ImageTooLarge: 413,
    errors.UnsupportedImageType: 415,
    errors.ImageUnreachable: 422,
    errors.OutputUnavailable: 422,
    errors.IdempotencyKeyReused: 422,
    errors.ModelNotFound: 404,
    errors.JobNotFound: 404,
    errors.BatchNotFound: 404,
    errors.BatchNotFinished: 409,
    errors.BatchClosed: 409,
    errors.ExportFailed: 422,
    errors.ArtifactNotFound: 404,
    errors.KeyNotFound: 404,
    errors.WebhookNotFound: 404,
    errors.DeadLetterNotFound: 404,
    errors.TooManyWebhooks: 409,
    errors.WebhookDisabled: 409,
    errors.TooManySecrets: 409,
    errors.JobNotFinished: 409,
    errors.JobWithoutResult: 409,
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.RequestError: 400,
    errors.WaitOver: 504,
    errors.QueueFull: 429,
    errors.RateLimited: 429,
    errors.TooManyCalls: 429,
    errors.CapacityError: 503,
    errors.DependencyError: 503,
    errors.ServiceError: 500,
}

_CODE_BY_STATUS = {
    400: "malformed_request",
    404: "route_not_found",
    405: "method_not_allowed",
    413: "body_too_large",
    415: "unsupported_media_type",
}


def status_of(error: ServiceError) -> int:
    """The HTTP status of an error: that of the nearest class that has one."""
    return next(STATUS_BY_ERROR[cls] for cls in type(error).__mro__ if cls in STATUS_BY_ERROR)


class Dialect(Protocol):
    """How a protocol tells of errors: what a file of ``api/protocols`` may have beside its routes.

    One whose clients need another status for an error has a mapping ``STATUSES`` too, from Maskline's status
    to theirs.
    """

    def speaks_to(self, request: Request) -> bool:
        """Whether the request is of this protocol's clients, by its path; it may have no route."""
        ...

    def tell(self, problem: Problem) -> JsonValue:
        """The JSON body from which these clients read an error."""
        ...


def install_error_handlers(app: Flask, dialects: Sequence[Dialect]) -> None:
    """Answer every error of ``app``: in the dialect of its request, else as problem+json."""
    teller = _Teller(dialects)
    app.register_error_handler(ServiceError, teller.service_error)
    app.register_error_handler(HTTPException, teller.http_error)
    app.register_error_handler(Exception, teller.bug)


def faults_of(error: ValidationError, *, in_query: bool = False) -> list[Fault]:
    """Each fault that Pydantic found, with its JSON pointer or its query parameter."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    # A list that is short of what was faulty in it is told to be too short, too.
    inner = {fault["loc"][:level] for fault in found for level in range(len(fault["loc"]))}
    return [
        Fault(
            "" if in_query else pointer(*fault["loc"]),
            _WORDS.get(fault["type"]) or words(fault),
            parameter=str(fault["loc"][0]) if in_query and fault["loc"] else None,
        )
        for fault in found
        if not (fault["type"] == "too_short" and fault["loc"] in inner)
    ]


@contextmanager
def faults_moved(place: Callable[[Fault], str]) -> Iterator[None]:
    """Tell of faults where their client wrote the values; ``place``: the pointer to it."""
    try:
        yield
    except InvalidRequest as error:
        raise InvalidRequest([replace(fault, pointer=place(fault)) for fault in error.faults]) from error


# Pydantic's type of a fault -> what helps those who write JSON.
_WORDS = {
    "extra_forbidden": "there is no such field; see /openapi.json for those that there are",
    "tuple_type": "give a JSON array",
    "list_type": "give a JSON array",
    "model_type": "give a JSON object",
    "dict_type": "give a JSON object",
}


class _Teller:
    def __init__(self, dialects: Sequence[Dialect]) -> None:
        self._dialects = dialects

    def service_error(self, error: ServiceError) -> Response:
        status = status_of(error)
        if status >= 500 and not error.retryable and not isinstance(error, errors.WaitOver):
            logger.error("request failed", exc_info=error, code=error.code)
        headers = {}
        if error.retryable:
            wait_s = error.retry_after_s if isinstance(error, errors.RateLimited) else RETRY_AFTER_S
            headers["Retry-After"] = str(math.ceil(wait_s))
        if status == http.HTTPStatus.UNAUTHORIZED:
            headers["WWW-Authenticate"] = "Bearer"
        faults = error.faults if isinstance(error, InvalidRequest) else ()
        return self._answer(_problem(status, error.code, error.message, faults), headers)

    def http_error(self, error: HTTPException) -> Response:
        status = error.code or 500
        detail = error.description or http.HTTPStatus(status).phrase
        if status == http.HTTPStatus.NOT_FOUND:
            detail = f"there is nothing at {request.path}; see /openapi.json for the routes"
        elif status == http.HTTPStatus.METHOD_NOT_ALLOWED:
            methods = ", ".join(sorted(getattr(error, "valid_methods", None) or ()))
            detail = f"{request.method} is not for {request.path}; it takes {methods}"
        elif status == http.HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            detail = f"the body is larger than the {request.max_content_length} bytes that are taken"
        headers = {name: value for name, value in error.get_headers() if name == "Allow"}
        return self._answer(_problem(status, _CODE_BY_STATUS.get(status, "http_error"), detail), headers)

    def bug(self, error: Exception) -> Response:
        logger.error("request failed", exc_info=error)
        return self._answer(
            _problem(500, ServiceError.code, "something went wrong inside the service"), headers={}
        )

    def _answer(self, problem: Problem, headers: Mapping[str, str]) -> Response:
        for dialect in self._dialects:
            if dialect.speaks_to(request):
                statuses: Mapping[int, int] = getattr(dialect, "STATUSES", {})
                status = statuses.get(problem.status, problem.status)
                told = dialect.tell(problem.model_copy(update={"status": status}))
                return Response(json.dumps(told), status, headers, mimetype="application/json")
        return Response(problem.to_json(), problem.status, headers, mimetype=PROBLEM_MEDIA_TYPE)


def _problem(status: int, code: str, detail: str, faults: Sequence[Fault] = ()) -> Problem:
    return Problem(
        type=PROBLEM_TYPE_BASE + code,
        title=http.HTTPStatus(status).phrase,
        status=status,
        code=code,
        detail=detail,
        instance=g.get("request_id"),
        errors=tuple(
            FaultResource(
                pointer=fault.pointer if fault.parameter is None else None,
                parameter=fault.parameter,
                detail=fault.detail,
            )
            for fault in faults
        )
        or None,
    )
