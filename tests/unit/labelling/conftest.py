"""A service, a data set and a folder for its results."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from maskline.client import Client
from tests.unit.labelling.service import Service
from tests.unit.worker.bulk.world import image_of


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def client(service: Service) -> Iterator[Client]:
    with service.client() as connected:
        yield connected


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of twelve images: two of each pair have the same name but for the extension."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for number in range(12):
        name = f"{'more/' * (number % 2)}{number // 2}.{'png' if number % 4 < 2 else 'jpg'}"
        (folder / name).write_bytes(image_of(number))
    return folder
