"""What a data set of this machine is, by its name, and how it is read."""

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

from maskline.datasets.coco import read_coco
from maskline.datasets.folder import read_folder
from maskline.datasets.local import LocalFiles
from maskline.datasets.manifest import read_manifest
from maskline.datasets.source import NotADataset, PromptSource, Sourced
from maskline.datasets.yolo import DATA_FILE, read_yolo
from maskline.image_header import ImageLimits
from maskline.settings import Settings

_REMOTE = ("s3://", "gs://")
_WILD = frozenset("*?[")


class SourceForm(StrEnum):
    """What a source is."""

    IMAGES = "images"
    MANIFEST = "manifest"
    COCO = "coco"
    YOLO = "yolo"


def is_remote(source: str) -> bool:
    """Whether the service reads it by itself."""
    return source.startswith(_REMOTE)


def form_of(source: str) -> SourceForm:
    """What a source is: by its extension, and by what is in a folder.

    Raises:
        FileNotFoundError: there is none.
        NotADataset: it is a file of another kind.
    """
    if source.endswith(".jsonl"):
        return SourceForm.MANIFEST
    if source.endswith(".json"):
        return SourceForm.COCO
    if source.endswith((".yaml", ".yml")):
        return SourceForm.YOLO
    if is_remote(source) or not _WILD.isdisjoint(source):
        return SourceForm.IMAGES
    path = Path(source)
    if not path.exists():
        raise FileNotFoundError(
            f"there is no {source!r}; give a folder, a glob, a manifest or a bucket's URI"
        )
    if not path.is_dir():
        raise NotADataset(f"{source!r} is neither a folder nor a .jsonl, .json or .yaml file")
    return SourceForm.YOLO if (path / DATA_FILE).exists() else SourceForm.IMAGES


def read_source(source: str, *, prompts: PromptSource, images: Path | None) -> Iterator[Sourced]:
    """The items of a data set of this machine. ``images``: the folder of a COCO document's images; left out:
    the document's own.

    Raises:
        NotADataset: it can't be read as a whole.
        OSError: a file can't be read.
    """
    limits = ImageLimits.from_settings(Settings())
    form = form_of(source)
    path = Path(source)
    if form is SourceForm.YOLO:
        yield from read_yolo(LocalFiles(path if path.is_dir() else path.parent, limits), prompts=prompts)
    elif form is SourceForm.IMAGES:
        folder, pattern = _split_glob(source)
        yield from read_folder(LocalFiles(folder, limits, pattern))
    else:
        files = LocalFiles(images or path.parent, limits)
        with path.open("rb") as document:
            if form is SourceForm.MANIFEST:
                yield from read_manifest(document, files)
            else:
                yield from read_coco(document, files, prompts=prompts)


def _split_glob(source: str) -> tuple[Path, str]:
    """The folder above the first wildcard, and the pattern below it."""
    parts = Path(source).parts
    wild = next((i for i, part in enumerate(parts) if not _WILD.isdisjoint(part)), None)
    if wild is None:
        return Path(source), "**/*"
    return Path(*parts[:wild]), "/".join(parts[wild:])
