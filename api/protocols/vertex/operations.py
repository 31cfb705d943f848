"""Long-running operations. All of Maskline's have ended when they are told of, so none is kept."""

import re
import secrets

from flask import Response
from pydantic import JsonValue

from api.openapi import operation
from api.protocols.vertex.errors import ErrorBody
from api.protocols.vertex.routes import JSON, Nothing, Route, parent_of
from maskline.errors import JobNotFound
from maskline.wire import WireModel

_ID = re.compile("delete-[0-9a-f]{16}")
_TYPES = "type.googleapis.com/google."


class Operation(WireModel):
    """``google.longrunning.Operation``."""

    name: str
    """Resource name."""
    done: bool = True
    """Always."""
    metadata: dict[str, JsonValue]
    """Its type."""
    response: dict[str, JsonValue]
    """``google.protobuf.Empty``."""


class OperationPage(WireModel):
    """A page of operations."""

    operations: tuple[Operation, ...] = ()
    """None: those that have ended are not kept."""


def ended_operation(project: str, location: str, name: str | None = None) -> Operation:
    """The operation of this name, or a new one: a deletion that is done."""
    name = name or f"delete-{secrets.token_hex(8)}"
    return Operation(
        name=f"{parent_of(project, location)}/operations/{name}",
        metadata={"@type": f"{_TYPES}cloud.aiplatform.v1.DeleteOperationMetadata"},
        response={"@type": f"{_TYPES}protobuf.Empty"},
    )


def routes() -> list[Route]:
    """The routes."""
    return [
        ("GET", "operations", list_operations),
        ("GET", "operations/<name>", get_operation),
        ("DELETE", "operations/<name>", delete_operation),
        ("POST", "operations/<name>:wait", wait_operation),
        ("POST", "operations/<name>:cancel", cancel_operation),
    ]


@operation("List the operations that go on: none", tag="Vertex AI", answers={200: {JSON: OperationPage}})
def list_operations(project: str, location: str) -> Response:
    """Nothing."""
    return Response(OperationPage().to_json(), mimetype=JSON)


def _known(name: str) -> str:
    if not _ID.fullmatch(name):
        raise JobNotFound(f"there is no operation {name!r}")
    return name


_one = operation(
    "An operation, which has ended",
    tag="Vertex AI",
    answers={200: {JSON: Operation}},
    problems=(404,),
    problem=ErrorBody,
)
_none = operation(
    "Nothing: the operation has ended",
    tag="Vertex AI",
    answers={200: {JSON: Nothing}},
    problems=(404,),
    problem=ErrorBody,
)


@_one
def get_operation(project: str, location: str, name: str) -> Response:
    """It has ended."""
    return Response(ended_operation(project, location, _known(name)).to_json(), mimetype=JSON)


@_one
def wait_operation(project: str, location: str, name: str) -> Response:
    """It has ended."""
    return Response(ended_operation(project, location, _known(name)).to_json(), mimetype=JSON)


@_none
def delete_operation(project: str, location: str, name: str) -> Response:
    """There is nothing to forget."""
    _known(name)
    return Response(Nothing().to_json(), mimetype=JSON)


@_none
def cancel_operation(project: str, location: str, name: str) -> Response:
    """There is nothing to cancel."""
    _known(name)
    return Response(Nothing().to_json(), mimetype=JSON)
