"""What Pydantic finds wrong, in plain words: where it is, and what would be right."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, ValidationError
from pydantic_core import CoreSchema, ErrorDetails, core_schema


@dataclass(frozen=True, slots=True)
class Right:
    """Stands beside a type, and says what would be right whenever a value is not of it."""

    words: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:  # noqa: ANN401 (a type)
        return core_schema.custom_error_schema(handler(source), "wrong", custom_error_message=self.words)


def tell(error: ValidationError, *within: str | int) -> str:
    """Every fault, in one line. ``within``: where the value that was read is itself."""
    return "; ".join(
        ": ".join(filter(None, (place((*within, *fault["loc"])), words(fault))))
        for fault in error.errors(include_url=False)
    )


def place(location: Sequence[str | int]) -> str:
    """Where a fault is, as ``labels[3].color``.

    A part in brackets is no place, but the tag of a union's member, and is left out.
    """
    places = (part for part in location if not str(part).startswith("["))
    return "".join(f"[{one}]" if isinstance(one, int) else f".{one}" for one in places).removeprefix(".")


def pointer(*parts: str | int) -> str:
    """A JSON pointer (RFC 6901) to where a fault is; a part in brackets is left out, as by ``place``."""
    places = (str(part) for part in parts if not str(part).startswith("["))
    return "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in places)


def words(fault: ErrorDetails) -> str:
    """What is wrong, or what would be right."""
    if fault["type"] == "missing" and isinstance(fault["loc"][-1], int):
        return "the list is too short"
    return _WORDS.get(fault["type"]) or _sentence(fault["msg"])


# Pydantic's type of a fault -> our words, where its own speak of Python.
_WORDS = {
    "missing": "this field is required",
    "extra_forbidden": "there is no such field",
    "tuple_type": "give a list",
    "model_type": "give fields with their values",
    "dict_type": "give fields with their values",
}


def _sentence(message: str) -> str:
    message = message.removeprefix("Value error, ")
    message = re.sub(r"^[A-Z]\w+ should", "it should", message).replace(" after validation", "")
    return message[:1].lower() + message[1:]
