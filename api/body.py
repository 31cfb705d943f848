"""Bodies of requests: one that breaks off is named, JSON is parsed strictly, and every fault is told."""

import base64
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from flask import Request
from gunicorn.http.errors import NoMoreData, ParseException
from pydantic import BaseModel, JsonValue, ValidationError
from pydantic_core import from_json
from werkzeug.exceptions import RequestEntityTooLarge

from api.errors import faults_of
from maskline.errors import Fault, InvalidRequest, MalformedRequest

Model = TypeVar("Model", bound=BaseModel)
BROKEN_OFF = (NoMoreData, ParseException)
"""What gunicorn raises while a body is read whose sender went away, or sent damaged chunks."""


@contextmanager
def broken_off_told() -> Iterator[None]:
    """Tell of a body that breaks off, while it is read, as ``MalformedRequest``."""
    try:
        yield
    except BROKEN_OFF as error:
        raise MalformedRequest("the body is cut off, or its chunks are damaged") from error


def read_body(request: Request, most_bytes: int) -> bytes:
    """The whole body, whatever its content type.

    Raises:
        MalformedRequest: it is cut off.
        RequestEntityTooLarge: (Werkzeug's) it is larger than ``most_bytes``.
    """
    request.max_content_length = most_bytes
    with broken_off_told():
        body = request.get_data(cache=False)
        # Werkzeug cuts a body without a length off at the limit, and does not tell.
        may_go_on = len(body) == most_bytes and request.content_length is None
        if may_go_on and request.environ["wsgi.input"].read(1):
            raise RequestEntityTooLarge
        return body


def parse_json(text: str | bytes) -> JsonValue:
    """The value of a JSON text, within what all parsers agree on: no NaN, no half of a surrogate pair.

    Raises:
        ValueError: it is none, or nested too deeply.
    """
    value: JsonValue = from_json(text, allow_inf_nan=False)
    return value


def parse_body(text: str | bytes) -> JsonValue:
    """The value of a JSON body.

    Raises:
        MalformedRequest: it is not JSON.
    """
    try:
        return parse_json(text)
    except ValueError as error:
        raise MalformedRequest(f"the request is not JSON: {error}") from error


def decode_base64(text: str) -> bytes:
    """The bytes behind base64.

    Raises:
        ValueError: it is none; the message is for the client.
    """
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise ValueError(
            f"not base64 ({error}); use the standard alphabet with padding, no prefix"
        ) from error


def read_json(text: str | bytes, model: type[Model]) -> Model:
    """A JSON body as ``model``.

    Raises:
        MalformedRequest: it is not JSON.
        InvalidRequest: with every fault.
    """
    return validate(parse_body(text), model)


def validate(value: JsonValue, model: type[Model]) -> Model:
    """A JSON value as ``model``.

    Raises:
        InvalidRequest: with every fault.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise InvalidRequest(faults_of(error)) from error


def salvage(value: JsonValue, model: type[Model], *, in_query: bool = False) -> tuple[Model, list[Fault]]:
    """What is right about ``value`` as ``model``, and the faults of the rest.

    So the checks that need a whole request can still be made, and all faults be told at once. A faulty
    prompt is replaced by one that is never at fault, for the others to keep their places.

    Raises:
        InvalidRequest: nothing can be made of it.
    """
    try:
        return model.model_validate(value), []
    except ValidationError as error:
        faults = faults_of(error, in_query=in_query)
        locations = [fault["loc"] for fault in error.errors(include_url=False)]
    if not isinstance(value, dict):
        raise InvalidRequest(faults)
    wrong_prompts = {location[1] for location in locations if location[0] == "prompts" and len(location) > 1}
    wrong_fields = {location[0] for location in locations if location[0] != "prompts" or len(location) == 1}
    rest = {name: field for name, field in value.items() if name not in wrong_fields}
    if isinstance(prompts := rest.get("prompts"), list):
        rest["prompts"] = [_HARMLESS if i in wrong_prompts else prompt for i, prompt in enumerate(prompts)]
    try:
        return model.model_validate(rest), faults
    except ValidationError:
        raise InvalidRequest(faults) from None


def is_beside(fault: Fault, known: Iterable[Fault]) -> bool:
    """Whether a fault is of another field, or another prompt, than each of those that are known."""
    return all(not f"{fault.pointer}/".startswith(f"{_field(other)}/") for other in known if _field(other))


def _field(fault: Fault) -> str:
    if fault.parameter is not None:
        return f"/{fault.parameter}"
    parts = fault.pointer.split("/")
    return "/".join(parts[:3] if parts[1:2] == ["prompts"] else parts[:2])


_HARMLESS: JsonValue = {"label": "-", "points": [[0, 0]]}
