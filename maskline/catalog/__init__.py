"""Which models there are: the catalog that Maskline ships, and an operator's own file over it."""

from importlib.resources import files
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import Field, JsonValue, TypeAdapter

from maskline.wire import WireModel


class ModelSpec(WireModel):
    """One entry of a catalog file: a family, and what it needs to become a model."""

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$", max_length=256)]
    """Name of the model in requests."""
    family: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    """Name of a file in ``worker/families``."""
    display_name: str
    """Name for people."""
    description: str = ""
    """A sentence or two for people."""
    license: str = ""
    """SPDX id of the weights, or of the algorithm where there are none."""
    options: dict[str, JsonValue] = Field(default_factory=dict)
    """The family's own settings for this model."""
    max_batch_size: Annotated[int, Field(ge=1)] = 1
    """How many waiting images the model runs together."""


_SPECS = TypeAdapter(tuple[ModelSpec, ...])


def load_catalog(own_file: Path | None = None) -> dict[str, ModelSpec]:
    """The models by id; an entry of ``own_file`` replaces a shipped one with the same id.

    Raises:
        OSError: ``own_file`` can't be read.
        ValueError: a file is not a catalog; the message says where.
    """
    texts = [files(__name__).joinpath("catalog.yaml").read_text("utf-8")]
    if own_file is not None:
        texts.append(own_file.read_text("utf-8"))
    return {
        spec.id: spec for text in texts for spec in _SPECS.validate_python(yaml.safe_load(text)["models"])
    }
