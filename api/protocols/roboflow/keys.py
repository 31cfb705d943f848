"""Where Roboflow's clients put their key: in the query, or in the JSON body of v1."""

from flask import Request, g
from pydantic import JsonValue

from api.body import BROKEN_OFF, parse_body
from api.protocols.roboflow.paths import V1_PARTS, is_ours
from maskline.errors import MalformedRequest

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
