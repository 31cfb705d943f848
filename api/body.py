"""Bodies of requests: one that breaks off is named, JSON is parsed strictly, and every fault is told."""

from typing import TypeVar

from gunicorn.http.errors import NoMoreData, ParseException
from pydantic import BaseModel, JsonValue, ValidationError
from pydantic_core import from_json

from api.errors import faults_of
from maskline.errors import InvalidRequest, MalformedRequest

Model = TypeVar("Model", bound=BaseModel)
BROKEN_OFF = (NoMoreData, ParseException)
"""What gunicorn raises while a body is read whose sender went away, or sent damaged chunks."""


def parse_json(text: str | bytes) -> JsonValue:
    """The value of a JSON text, within what all parsers agree on: no NaN, no half of a surrogate pair.

    Raises:
        ValueError: it is none, or nested too deeply.
    """
    value: JsonValue = from_json(text, allow_inf_nan=False)
    return value


def read_json(text: str | bytes, model: type[Model]) -> Model:
    """A JSON body as ``model``.

    Raises:
        MalformedRequest: it is not JSON.
        InvalidRequest: with every fault.
    """
    try:
        value = parse_json(text)
    except ValueError as error:
        raise MalformedRequest(f"the request is not JSON: {error}") from error
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise InvalidRequest(faults_of(error)) from error
