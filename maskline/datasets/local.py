"""Data sets on this machine."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from maskline.image_header import ImageLimits, read_header


class LocalFiles:
    """A folder as ``DatasetFiles``. Names may lead out of it, as in ``../images/a.jpg``."""

    def __init__(self, folder: Path, limits: ImageLimits, pattern: str = "**/*") -> None:
        """``pattern``: of the names that are listed, as ``Path.glob`` takes it."""
        self._folder = folder
        self._limits = limits
        self._pattern = pattern

    def names(self) -> Iterator[str]:
        """All files but hidden ones, sorted."""
        paths = (path for path in self._folder.glob(self._pattern) if path.is_file())
        names = (path.relative_to(self._folder).as_posix() for path in paths)
        yield from sorted(name for name in names if not any(part[0] == "." for part in name.split("/")))

    def open(self, name: str) -> BinaryIO:
        """A file, to be read from its beginning."""
        return self.address(name).open("rb")

    def address(self, name: str) -> Path:
        """The file of an image."""
        path = self._folder / name
        if not os.path.isfile(path):  # unlike Path.is_file it takes any name
            raise FileNotFoundError(f"there is no file {name!r}")
        return path

    def image_size(self, name: str) -> tuple[int, int]:
        """Width and height of an image in pixels, once it is upright."""
        with self.open(name) as file:
            return read_header(file, self._limits).size
