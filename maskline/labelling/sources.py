"""What a data set is, by its name; how one of this machine is read, and how another is told of."""

from collections.abc import Iterator
from pathlib import Path

from maskline.batch_resources import BatchSource
from maskline.batches import PromptSource, SourceKind
from maskline.datasets.coco import read_coco
from maskline.datasets.folder import read_folder
from maskline.datasets.local import LocalFiles
from maskline.datasets.manifest import read_manifest
from maskline.datasets.source import NotADataset, Sourced
from maskline.datasets.yolo import DATA_FILE, read_yolo
from maskline.image_header import ImageLimits
from maskline.settings import Settings

_REMOTE = ("s3://", "gs://")
_WILD = frozenset("*?[")

_KINDS = {
    ".jsonl": SourceKind.LINES,
    ".json": SourceKind.COCO,
    ".yaml": SourceKind.YOLO,
    ".yml": SourceKind.YOLO,
}


def is_remote(source: str) -> bool:
    """Whether the service reads it by itself."""
    return source.startswith(_REMOTE)


def kind_of(source: str) -> SourceKind:
    """What a source is: by its extension, and by what is in a folder.

    Raises:
        FileNotFoundError: there is none.
        NotADataset: it is a file of another kind.
    """
    path = Path(source)
    if not is_remote(source):
        if path.is_dir():
            return SourceKind.YOLO if (path / DATA_FILE).exists() else SourceKind.IMAGES
        if not path.exists() and _WILD.isdisjoint(source):
            raise FileNotFoundError(
                f"there is no {source!r}; give a folder, a glob, a manifest or a bucket's URI"
            )
    for extension, kind in _KINDS.items():
        if source.endswith(extension):
            return kind
    if path.is_file():
        raise NotADataset(f"{source!r} is neither a folder nor a .jsonl, .json or .yaml file")
    return SourceKind.IMAGES


def remote_source(source: str, prompts: PromptSource) -> BatchSource:
    """How the service is told of what it reads by itself.

    Raises:
        pydantic.ValidationError: the URI names nothing in a bucket.
    """
    kind = kind_of(source)
    if kind is SourceKind.IMAGES:
        scheme, _, path = source.partition("://")
        wild = next((i for i, character in enumerate(path) if character in _WILD), len(path))
        folder = path.rfind("/", 0, wild) + 1 if wild < len(path) else len(path)
        return BatchSource(images=f"{scheme}://{path[:folder]}", pattern=path[folder:])
    if kind is SourceKind.YOLO:
        source = source.rpartition("/")[0] + "/"
    field = "manifest" if kind is SourceKind.LINES else kind.value
    return BatchSource.model_validate({field: source, "prompts": prompts.value})


def read_source(source: str, *, prompts: PromptSource, images: Path | None) -> Iterator[Sourced]:
    """The items of a data set of this machine. ``images``: the folder of a COCO document's images; left out:
    the document's own.

    Raises:
        NotADataset: it can't be read as a whole.
        OSError: a file can't be read.
    """
    limits = ImageLimits.from_settings(Settings())
    kind = kind_of(source)
    path = Path(source)
    if kind is SourceKind.YOLO:
        yield from read_yolo(LocalFiles(path if path.is_dir() else path.parent, limits), prompts=prompts)
    elif kind is SourceKind.IMAGES:
        folder, pattern = _split_glob(source)
        yield from read_folder(LocalFiles(folder, limits, pattern))
    else:
        files = LocalFiles(images or path.parent, limits)
        with path.open("rb") as document:
            if kind is SourceKind.LINES:
                yield from read_manifest(document, files)
            else:
                yield from read_coco(document, files, prompts=prompts)


def _split_glob(source: str) -> tuple[Path, str]:
    """The folder above the first wildcard, and the pattern below it."""
    parts = Path(source).parts
    wild = next((i for i, part in enumerate(parts) if not _WILD.isdisjoint(part)), None)
    if wild is None or Path(source).is_dir():
        return Path(source), "**/*"
    return Path(*parts[:wild]), "/".join(parts[wild:])
