"""Errors as Google writes them: ``google.rpc.Status`` in JSON, which its clients turn into exceptions."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from flask import Request
from pydantic import JsonValue

from api.errors import faults_moved
from maskline.errors import (
    Fault,
    ImageTooLarge,
    ImageUnreachable,
    ImageUnreadable,
    InvalidRequest,
    UnsupportedImageType,
)
from maskline.resources import FaultResource, Problem
from maskline.wire import WireModel

_PATHS = ("/v1/projects/", "/v1beta1/", "/ui/")
_TYPES = "type.googleapis.com/google.rpc."

STATUSES = {413: 400, 415: 400, 422: 400}
"""Google answers INVALID_ARGUMENT for them all; of 413 and 422 its clients make an error without a class."""

_CODES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    405: "UNIMPLEMENTED",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


class Status(WireModel):
    """``google.rpc.Status``."""

    code: int
    """The HTTP status."""
    message: str
    """What was wrong, and what would be right."""
    status: str
    """Name of the code of ``google.rpc.Code``."""
    details: tuple[dict[str, JsonValue], ...] = ()
    """``google.rpc.ErrorInfo``, whose ``reason`` is Maskline's code; ``BadRequest``, with every fault."""


class ErrorBody(WireModel):
    """The body of every error."""

    error: Status
    """What was wrong."""


def speaks_to(request: Request) -> bool:
    """Whether the request is of Google's clients."""
    return request.path.startswith(_PATHS)


def tell(problem: Problem) -> JsonValue:
    """The error's body; its status is the HTTP one."""
    info: dict[str, JsonValue] = {
        "@type": f"{_TYPES}ErrorInfo",
        "reason": problem.code.upper(),
        "domain": "maskline",
        "metadata": {"request": problem.instance or ""},
    }
    details = (info, _violations(problem.errors)) if problem.errors else (info,)
    code = _CODES.get(problem.status, "UNKNOWN")
    status = Status(code=problem.status, message=problem.detail, status=code, details=details)
    return ErrorBody(error=status).model_dump(by_alias=True)


def _violations(faults: tuple[FaultResource, ...]) -> dict[str, JsonValue]:
    return {
        "@type": f"{_TYPES}BadRequest",
        "fieldViolations": [
            {"field": fault.parameter or _field(fault.pointer or ""), "description": fault.detail}
            for fault in faults
        ],
    }


def _field(pointer: str) -> str:
    """``/instances/0/content`` as Google writes it: ``instances[0].content``."""
    path = "".join(f"[{part}]" if part.isdigit() else f".{part}" for part in pointer.split("/")[1:])
    return path.removeprefix(".")


@contextmanager
def of_instance(number: int) -> Iterator[None]:
    """Say of errors that they are of an instance, in the words of the request that it came with."""
    try:
        with faults_moved(lambda fault: _pointer(number, fault)):
            yield
    except (ImageUnreadable, ImageTooLarge, UnsupportedImageType, ImageUnreachable) as error:
        raise InvalidRequest([Fault(f"/instances/{number}/content", error.message)]) from error


def _pointer(number: int, fault: Fault) -> str:
    """The native API's pointer as one into ``instances``; parameters are the whole request's."""
    if fault.pointer.startswith("/parameters"):
        return fault.pointer
    return f"/instances/{number}" + re.sub(r"^/image/\w+", "/content", fault.pointer)
