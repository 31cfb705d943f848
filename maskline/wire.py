"""The base of every Pydantic model that crosses a process: camelCase outside, snake_case inside."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from maskline.plain_words import Right

Color = Annotated[str, Field(pattern=r"^#[0-9a-f]{6}$"), Right('give a colour as "#rrggbb"')]
"""``#rrggbb``, as in annotation specs."""


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
