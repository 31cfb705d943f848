"""JSON bodies of v1, and where Roboflow's clients put their key: in the query, or in such a body."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeVar

from flask import Request, g
from pydantic import BaseModel, ValidationError

from api.body import parse_body, read_body
from api.errors import faults_moved, faults_of
from api.intake import most_json_bytes
from api.protocols.roboflow.paths import V1_PARTS, is_ours
from maskline.errors import Fault, InvalidRequest

Body = TypeVar("Body", bound=BaseModel)
_KEY = "api_key"
_KEY_IN_JSON = re.compile(rb'"api_key"\s*:\s*"([^"\\]{1,256})"')
_KEPT = "roboflow_body"
_MAX_PLAIN_BYTES = 1 << 16  # of bodies that hold no image


def key_in(request: Request, max_image_bytes: int) -> str | None:
    """The key of a request to this protocol's routes, if it has one.

    A body is not parsed for it, for nobody knows yet whose it is: what looks like the key there will be
    checked, and the tree that a large body makes is many times its size.
    """
    if not is_ours(request):
        return None
    if key := request.args.get(_KEY):
        return key
    if request.method != "POST" or request.path[1:].split("/")[0] not in V1_PARTS:
        return None
    found = _KEY_IN_JSON.search(_read_once(request, max_image_bytes))
    return found[1].decode(errors="replace") if found else None


def read_json_as(model: type[Body], request: Request, max_image_bytes: int) -> Body:
    """The JSON body of a request of v1 as ``model``; all images in it together are as large as one may be.

    Raises:
        MalformedRequest: it is no JSON, or cut off.
        InvalidRequest: with every fault.
        RequestEntityTooLarge: (Werkzeug's) it is larger than is taken.
    """
    _read_once(request, max_image_bytes)
    body = g.pop(_KEPT)  # it may hold images, which nothing should while their jobs run
    try:
        return model.model_validate(parse_body(body or b"{}"))
    except ValidationError as error:
        raise InvalidRequest([_untagged(fault) for fault in faults_of(error)]) from error


@contextmanager
def told_where(places: Mapping[str, str]) -> Iterator[None]:
    """Tell of a job's faults where its client wrote the values.

    ``places``: beginnings of JSON pointers into the job's request, and what stands for them in the client's;
    the first that fits counts.
    """
    with faults_moved(lambda fault: _moved(fault.pointer, places)):
        yield


def _moved(pointer: str, places: Mapping[str, str]) -> str:
    for beginning, place in places.items():
        if f"{pointer}/".startswith(f"{beginning}/"):
            return place + pointer.removeprefix(beginning)
    return pointer


def _read_once(request: Request, max_image_bytes: int) -> bytes:
    """The body: for the key, and for the rest."""
    if _KEPT not in g:
        holds_no_image = request.path.startswith("/model/")
        most_bytes = _MAX_PLAIN_BYTES if holds_no_image else most_json_bytes(max_image_bytes)
        setattr(g, _KEPT, read_body(request, most_bytes))
    body: bytes = g.get(_KEPT)
    return body


def _untagged(fault: Fault) -> Fault:
    """The fault, without the tag of a union's member in its place."""
    return replace(fault, pointer=re.sub(r"/\[\w+\]", "", fault.pointer))
