"""Which models there are: the catalog that Maskline ships, and an operator's own file over it."""

from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import Field, JsonValue, TypeAdapter, model_validator

from maskline.wire import Color, WireModel


class Weights(WireModel):
    """Where a model's weights come from; exactly one of ``url``, ``path`` and ``hub``."""

    url: Annotated[str, Field(pattern=r"^https?://[^\s]+/[^\s/]+$")] | None = None
    """Of one file."""
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    """Of that file, in hex; a file from a URL must have it."""
    size: Annotated[int, Field(ge=1)] | None = None
    """Of that file, in bytes."""
    path: Path | None = None
    """A file or folder of yours; a relative one begins at the working folder."""
    hub: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")] | None = None
    """Name of a repository on the Hugging Face hub."""
    revision: str | None = None
    """Commit, tag or branch of that repository."""

    @model_validator(mode="after")
    def _exactly_one_source(self) -> Self:
        if sum(value is not None for value in (self.url, self.path, self.hub)) != 1:
            raise ValueError("give exactly one of url, path and hub")
        if self.url is not None and self.sha256 is None:
            raise ValueError("weights from a URL need their sha256")
        return self


class ClassLabel(WireModel):
    """One class of a model."""

    name: Annotated[str, Field(min_length=1)]
    """For people."""
    color: Color | None = None
    """Left out: one that is told apart well from those of its neighbours."""
    stuff: bool = False
    """Whether it has no instances, as sky or grass."""


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
    weights: Weights | None = None
    """None: the family needs none."""
    labels: Literal["ade20k", "coco_panoptic"] | tuple[str | ClassLabel, ...] | None = None
    """The model's classes in the order of its head: a shipped list by its name, or a list of your own. None:
    the weights tell, or the requests do."""
    options: dict[str, JsonValue] = Field(default_factory=dict)
    """The family's own settings for this model."""
    max_batch_size: Annotated[int, Field(ge=1)] = 1
    """How many waiting images the model runs together."""

    def classes(self) -> tuple[ClassLabel, ...]:
        """The labels, read from their list; none where the entry names none."""
        if isinstance(self.labels, str):
            text = files(__name__).joinpath("labels", f"{self.labels}.yaml").read_text("utf-8")
            return _CLASSES.validate_python(yaml.safe_load(text))
        return tuple(
            ClassLabel(name=label) if isinstance(label, str) else label for label in self.labels or ()
        )


class NotACatalog(ValueError):
    """A file that has another form than a catalog."""


_CLASSES = TypeAdapter(tuple[ClassLabel, ...])
_SPECS = TypeAdapter(tuple[ModelSpec, ...])


def load_catalog(own_file: Path | None = None) -> dict[str, ModelSpec]:
    """The models by id; an entry of ``own_file`` replaces a shipped one with the same id.

    Raises:
        OSError: ``own_file`` can't be read.
        ValueError: a file is not a catalog; the message says where.
    """
    specs = _read(files(__name__).joinpath("catalog.yaml").read_text("utf-8"), "the shipped catalog")
    if own_file is not None:
        specs += _read(own_file.read_text("utf-8"), str(own_file))
    return {spec.id: spec for spec in specs}


def _read(text: str, origin: str) -> tuple[ModelSpec, ...]:
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise NotACatalog(f"{origin} is no YAML: {error}") from error
    models = document.get("models", ...) if isinstance(document, dict) else ...
    if models is not None and not isinstance(models, list):
        raise NotACatalog(f"{origin} is no catalog; it has to have a list under 'models'")
    return _SPECS.validate_python(models or ())


def add_to_catalog(own_file: Path, spec: ModelSpec) -> None:
    """Write an entry at the end of a catalog file, made if there is none; the rest of it stays as it is.

    Raises:
        OSError: the file can't be read or written.
        ValueError: it is not a catalog, has the model already, or something comes after its models.
    """
    text = own_file.read_text("utf-8") if own_file.exists() else "models:\n"
    before = _read(text, str(own_file))
    if spec.id in {one.id for one in before}:
        raise ValueError(f"{own_file} has {spec.id!r} already; change it there")
    entry = spec.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    block = yaml.safe_dump([entry], sort_keys=False, allow_unicode=True)
    text = text.rstrip("\n") + "\n" + "".join(f"  {line}\n" for line in block.splitlines())
    try:
        is_added = _read(text, str(own_file)) == (*before, spec)
    except ValueError:
        is_added = False
    if not is_added:
        raise ValueError(f"{own_file} can't be added to; put this under its models:\n{block}")
    own_file.write_text(text, "utf-8")
