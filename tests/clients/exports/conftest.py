"""Exports of one set of images, unpacked, for readers that we did not write."""

from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.labelled_images import sample
from worker.exporting.format import ExportOptions
from worker.exporting.labelled_image import LabelledImage
from worker.exporting.registry import export

Unpack = Callable[..., Path]


@pytest.fixture(scope="session")
def images(photos: Path) -> list[LabelledImage]:
    """Photos, hard shapes, and an image of nothing."""
    return sample(photos)


@pytest.fixture
def unpack(images: list[LabelledImage], tmp_path: Path) -> Unpack:
    """Exports the images in a format, with options, and gives the folder of what was in the archive."""

    def unpacked(format_name: str, options: ExportOptions | None = None) -> Path:
        archive, folder = tmp_path / "export.zip", tmp_path / "unpacked"
        with archive.open("wb") as file:
            export(format_name, images, file, options)
        with ZipFile(archive) as zipped:
            assert zipped.testzip() is None
            zipped.extractall(folder)
        return folder

    return unpacked
