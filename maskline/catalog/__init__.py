"""Which models there are: the catalog that Maskline ships, and an operator's own file over it."""

from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Self

import yaml
from pydantic import (
    Discriminator,
    Field,
    JsonValue,
    Tag,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from maskline.plain_words import Right, tell
from maskline.results import Endpoint
from maskline.wire import Color, WireModel

ModelId = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$", max_length=256),
    Right("give letters, digits and . _ / -, the first a letter or digit, at most 256 in all"),
]
FamilyName = Annotated[
    str, Field(pattern=r"^[a-z][a-z0-9_]*$"), Right("give the name of a family, such as transformers")
]
FileUrl = Annotated[
    str, Field(pattern=r"^https?://[^\s]+/[^\s/]+$"), Right("give the http or https URL of a file")
]
Sha256 = Annotated[
    str, Field(pattern="^[0-9a-f]{64}$"), Right("give a SHA-256 as 64 digits of 0 to 9 and a to f")
]
HubName = Annotated[
    str, Field(pattern=r"^[\w.-]+/[\w.-]+$"), Right("give the name of a model on the hub, as OWNER/NAME")
]


class Weights(WireModel):
    """Where a model's weights come from; exactly one of ``url``, ``path`` and ``hub``."""

    url: FileUrl | None = None
    """Of one file."""
    sha256: Sha256 | None = None
    """Of that file, in hex; a file from a URL must have it."""
    size: Annotated[int, Field(ge=1)] | None = None
    """Of that file, in bytes."""
    path: Path | None = None
    """A file or folder of yours; a relative one begins at the working folder."""
    hub: HubName | None = None
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
    """One class of a model; in a catalog its name alone will do."""

    name: Annotated[str, Field(min_length=1)]
    """For people."""
    color: Color | None = None
    """Left out: one that is told apart well from those of its neighbours."""
    stuff: bool = False
    """Whether it has no instances, as sky or grass."""

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: object) -> object:
        if isinstance(value, bool | int | float):
            raise ValueError("this is no text to YAML; put the name in quotes")
        return {"name": value} if isinstance(value, str) else value

    @field_validator("color", mode="before")
    @classmethod
    def _to_lower(cls, color: object) -> object:
        return color.lower() if isinstance(color, str) else color


class LabelList(StrEnum):
    """The lists of classes that come with Maskline."""

    ADE20K = "ade20k"
    COCO_PANOPTIC = "coco_panoptic"


def _tag_of_labels(value: object) -> str:
    return "[own]" if isinstance(value, list | tuple) else "[shipped]"


Labels = Annotated[
    Annotated[LabelList, Right(f"give {', '.join(LabelList)} or a list of classes"), Tag("[shipped]")]
    | Annotated[tuple[ClassLabel, ...], Tag("[own]")],
    Discriminator(_tag_of_labels),
]


class ModelSpec(WireModel):
    """One entry of a catalog file: a family, and what it needs to become a model."""

    id: ModelId
    """Name of the model in requests."""
    aliases: tuple[ModelId, ...] = ()
    """Other names of it in requests, such as programs have that were written for another service."""
    endpoints: tuple[Endpoint, ...] = ()
    """Names of it with defaults of their own, for clients of Vertex AI."""
    family: FamilyName
    """Name of a file in ``worker/families``."""
    display_name: str
    """Name for people."""
    description: str = ""
    """A sentence or two for people."""
    license: str = ""
    """SPDX id of the weights, or of the algorithm where there are none."""
    weights: Weights | None = None
    """None: the family needs none."""
    labels: Labels | None = None
    """The model's classes in the order of its head: a shipped list by its name, or a list of your own. None:
    the weights tell, or the requests do."""
    options: dict[str, JsonValue] = Field(default_factory=dict)
    """The family's own settings for this model."""
    max_batch_size: Annotated[int, Field(ge=1)] = 1
    """How many waiting images the model runs together."""

    def classes(self) -> tuple[ClassLabel, ...]:
        """The labels, read from their list; none where the entry names none."""
        if isinstance(self.labels, LabelList):
            text = files(__name__).joinpath("labels", f"{self.labels}.yaml").read_text("utf-8")
            return _CLASSES.validate_python(yaml.safe_load(text))
        return self.labels or ()


class NotACatalog(ValueError):
    """A file that can't be read as a catalog; the message says which, and why, in one line."""


_CLASSES = TypeAdapter(tuple[ClassLabel, ...])


def load_catalog(own_file: Path | None = None) -> dict[str, ModelSpec]:
    """The models by id; an entry of ``own_file`` replaces a shipped one with the same id.

    Raises:
        NotACatalog: ``own_file`` is none, or can't be read.
    """
    specs = _read(files(__name__).joinpath("catalog.yaml").read_text("utf-8"), "the shipped catalog")
    if own_file is not None:
        specs += _read(_text_of(own_file), str(own_file))
    return {spec.id: spec for spec in specs}


def _text_of(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except OSError as error:
        raise NotACatalog(f"the catalog {file} can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise NotACatalog(f"the catalog {file} is no text in UTF-8") from error


def _read(text: str, origin: str) -> tuple[ModelSpec, ...]:
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise NotACatalog(f"{origin} is no YAML: {_first_fault(error)}") from error
    models = document.get("models", ...) if isinstance(document, dict) else ...
    if models is not None and not isinstance(models, list):
        raise NotACatalog(f"{origin} is no catalog; it has to have a list under 'models'")
    specs: dict[str, ModelSpec] = {}
    faults = []
    for position, entry in enumerate(models or (), 1):
        try:
            spec = ModelSpec.model_validate(entry)
        except ValidationError as error:
            faults.append(f"{_name_of(entry, position)}: {tell(error)}")
            continue
        if spec.id in specs:
            faults.append(f"{spec.id}: id: two models have it")
        specs[spec.id] = spec
    if faults:
        raise NotACatalog(f"{origin}: {'; '.join(faults)}")
    return tuple(specs.values())


def _first_fault(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}: {error.problem}"
    return str(error).splitlines()[0]


def _name_of(entry: object, position: int) -> str:
    name = entry.get("id") if isinstance(entry, dict) else None
    return name if isinstance(name, str) else f"model {position} of the list"


def add_to_catalog(own_file: Path, spec: ModelSpec) -> None:
    """Write an entry at the end of a catalog file, made if there is none; the rest of it stays as it is.

    Raises:
        OSError: the file can't be written.
        ValueError: it is not a catalog, has the model already, something comes after its models, or there is
            no folder for it.
    """
    if not own_file.absolute().parent.is_dir():
        raise ValueError(f"there is no folder {own_file.parent} to put it into")
    text = _text_of(own_file) if own_file.exists() else "models:\n"
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
