"""A folder of images, without labels."""

from collections.abc import Iterator
from pathlib import PurePosixPath

from maskline.datasets.source import DatasetFiles, Effect, Problem, Sourced, SourcedItem

EXTENSIONS = frozenset(
    {
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif"),
        *(".avif", ".heic", ".heif"),
    }
)  #: of the formats that Maskline takes, whatever their case


def is_image_name(name: str) -> bool:
    """Whether a file of this name should be an image."""
    return PurePosixPath(name).suffix.lower() in EXTENSIONS


def read_folder(files: DatasetFiles) -> Iterator[Sourced]:
    """The images of a folder, by their names; files that are none by their extension are passed over."""
    position = 0
    for name in files.names():
        if is_image_name(name):
            position += 1
            yield SourcedItem(position=position, id=name, image=files.address(name))
        else:
            yield Problem(
                where=name,
                message="its name does not end as that of an image, such as .jpg or .png",
                effect=Effect.PASSED_OVER,
            )
