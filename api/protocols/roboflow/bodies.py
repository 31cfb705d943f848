"""JSON bodies of v1, and where Roboflow's clients put their key: in the query, or in such a body."""

import re
from dataclasses import replace
from typing import TypeVar

from flask import Request, g
from pydantic import BaseModel, JsonValue, ValidationError

from api.body import BROKEN_OFF, parse_body
from api.errors import faults_of
from api.protocols.roboflow.paths import V1_PARTS, is_ours
from maskline.errors import Fault, InvalidRequest, MalformedRequest

Body = TypeVar("Body", bound=BaseModel)
_KEY = "api_key"


def key_in(request: Request) -> str | None:
    """The key of a request to this protocol's routes, if it has one."""
    if not is_ours(request):
        return None
    if key := request.args.get(_KEY):
        return key
    if request.method != "POST" or request.path[1:].split("/")[0] not in V1_PARTS:
        return None
    body = json_of(request)
    value = body.get(_KEY) if isinstance(body, dict) else None
    return value if isinstance(value, str) else None


def json_of(request: Request) -> JsonValue:
    """The JSON body of a request of v1, read once.

    Raises:
        MalformedRequest: it is no JSON, or cut off.
        RequestEntityTooLarge: (Werkzeug's) it is larger than is taken.
    """
    if "roboflow_body" not in g:
        try:
            g.roboflow_body = parse_body(request.get_data(cache=False) or b"{}")
        except BROKEN_OFF as error:
            raise MalformedRequest("the body is cut off, or its chunks are damaged") from error
    body: JsonValue = g.roboflow_body
    return body


def read_json_as(model: type[Body], request: Request) -> Body:
    """The JSON body of a request of v1 as ``model``.

    Raises:
        MalformedRequest: it is no JSON, or cut off.
        InvalidRequest: with every fault.
        RequestEntityTooLarge: (Werkzeug's) it is larger than is taken.
    """
    try:
        return model.model_validate(json_of(request))
    except ValidationError as error:
        raise InvalidRequest([_untagged(fault) for fault in faults_of(error)]) from error


def _untagged(fault: Fault) -> Fault:
    """The fault, without the tag of a union's member in its place."""
    return replace(fault, pointer=re.sub(r"/\[\w+\]", "", fault.pointer))
