"""The base of every Pydantic model that crosses a process: camelCase outside, snake_case inside."""

from collections.abc import Iterable
from math import isfinite
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue
from pydantic.alias_generators import to_camel

from maskline.plain_words import Right

Color = Annotated[str, Field(pattern=r"^#[0-9a-f]{6}$"), Right('give a colour as "#rrggbb"')]
"""``#rrggbb``, as in annotation specs."""

MAX_LEVELS = 32  # far below where JSON parsers give up, for the value is written into other documents


def require_plain(value: JsonValue) -> None:
    """Return if the value, which was read from JSON, can be written as JSON again wherever it belongs.

    Raises:
        ValueError: it is within more than ``MAX_LEVELS`` arrays and objects, or has a number that is none in
            64 bits; the message is for the client.
    """
    level = [value]
    for _ in range(MAX_LEVELS + 1):
        if any(isinstance(one, float) and not isfinite(one) for one in level):
            raise ValueError("a number is too large")
        level = [part for one in level for part in _parts(one)]
        if not level:
            return
    raise ValueError(f"it has more than {MAX_LEVELS} arrays and objects within each other")


def _parts(value: JsonValue) -> Iterable[JsonValue]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _plain(value: dict[str, JsonValue]) -> dict[str, JsonValue]:
    require_plain(value)
    return value


FreeObject = Annotated[dict[str, JsonValue], AfterValidator(_plain)]
"""A JSON object of the caller's, as ``require_plain`` wants it."""


class WireModel(BaseModel):
    """Immutable, camelCase in JSON, and strict about names: an unknown field is an error."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
    )

    def to_json(self) -> str:
        """The wire form as JSON text: camelCase, fields that are None left out."""
        return self.model_dump_json(by_alias=True, exclude_none=True)

    def to_short_json(self) -> str:
        """The same without what is as by default; whoever reads it must have the same defaults."""
        return self.model_dump_json(by_alias=True, exclude_none=True, exclude_defaults=True)
