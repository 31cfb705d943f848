"""Errors as Roboflow's clients read them."""

from collections.abc import Mapping
from http import HTTPStatus

from flask import Request
from pydantic import BaseModel, Field, JsonValue

from api.protocols.roboflow.paths import is_ours
from maskline.resources import FaultResource, Problem

STATUSES: Mapping[int, int] = {HTTPStatus.GATEWAY_TIMEOUT: HTTPStatus.REQUEST_TIMEOUT}
"""The client repeats what was answered with a 504, up to three times: that would submit the job again."""


class ValidationError(BaseModel):
    """One fault, as FastAPI tells of it."""

    loc: list[str | int]
    """``query`` or ``body``, and the way to the value."""
    msg: str
    """What is wrong with it, and what would be right."""
    type: str
    """Maskline's name of the error."""


class RoboflowError(BaseModel):
    """An error of the Roboflow routes; the client shows the ``message``."""

    message: str
    """What was wrong, and what would be right."""
    detail: list[ValidationError] | None = Field(default=None)
    """For invalid requests: every fault."""


def speaks_to(request: Request) -> bool:
    """Whether a request is of Roboflow's clients."""
    return is_ours(request)


def tell(problem: Problem) -> JsonValue:
    """The body of an error (``HTTPValidationError`` with a ``message``, which the client prefers)."""
    faults = [_fault(fault, problem.code) for fault in problem.errors or ()]
    error = RoboflowError(message=problem.detail, detail=faults or None)
    told: JsonValue = error.model_dump(exclude_none=True)
    return told


def _fault(fault: FaultResource, code: str) -> ValidationError:
    way: list[str | int] = ["body", *filter(None, (fault.pointer or "").split("/"))]
    if fault.parameter is not None:
        way = ["query", fault.parameter]
    return ValidationError(loc=way, msg=fault.detail, type=code)
