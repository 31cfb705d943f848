"""A data set's folder on this machine."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from maskline.datasets.local import LocalFiles
from maskline.image_header import ImageLimits

LIMITS = ImageLimits(max_bytes=1 << 20, max_pixels=1 << 20, max_side=1 << 12)

SaveImage = Callable[..., Path]


@pytest.fixture
def files(tmp_path: Path) -> LocalFiles:
    return LocalFiles(tmp_path, LIMITS)


@pytest.fixture
def save_image(tmp_path: Path) -> SaveImage:
    def save(name: str, width: int = 20, height: int = 10) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (width, height)).save(path)
        return path

    return save
