"""JSON bodies of v1, and where Roboflow's clients put their key: in the query, or in such a body."""

import re
from dataclasses import replace
from typing import TypeVar

from flask import Request, g
from pydantic import BaseModel, JsonValue, ValidationError

from api.body import parse_body, read_body
from api.errors import faults_of
from api.intake import most_json_bytes
from api.protocols.roboflow.paths import V1_PARTS, is_ours
from maskline.errors import Fault, InvalidRequest

Body = TypeVar("Body", bound=BaseModel)
_KEY = "api_key"
_KEPT = "roboflow_body"


def key_in(request: Request, max_image_bytes: int) -> str | None:
    """The key of a request to this protocol's routes, if it has one."""
    if not is_ours(request):
        return None
    if key := request.args.get(_KEY):
        return key
    if request.method != "POST" or request.path[1:].split("/")[0] not in V1_PARTS:
        return None
    body = _json_of(request, max_image_bytes)
    value = body.get(_KEY) if isinstance(body, dict) else None
    return value if isinstance(value, str) else None


def read_json_as(model: type[Body], request: Request, max_image_bytes: int) -> Body:
    """The JSON body of a request of v1 as ``model``; all images in it together are as large as one may be.

    Raises:
        MalformedRequest: it is no JSON, or cut off.
        InvalidRequest: with every fault.
        RequestEntityTooLarge: (Werkzeug's) it is larger than is taken.
    """
    body = _json_of(request, max_image_bytes)
    g.pop(_KEPT)  # it may hold images, which nothing should while their jobs run
    try:
        return model.model_validate(body)
    except ValidationError as error:
        raise InvalidRequest([_untagged(fault) for fault in faults_of(error)]) from error


def _json_of(request: Request, max_image_bytes: int) -> JsonValue:
    """The body, read once: for the key, and for the rest."""
    if _KEPT not in g:
        setattr(g, _KEPT, parse_body(read_body(request, most_json_bytes(max_image_bytes)) or b"{}"))
    body: JsonValue = g.get(_KEPT)
    return body


def _untagged(fault: Fault) -> Fault:
    """The fault, without the tag of a union's member in its place."""
    return replace(fault, pointer=re.sub(r"/\[\w+\]", "", fault.pointer))
