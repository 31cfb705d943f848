from pathlib import Path

import pytest

from tests.labelled_images import sample
from worker.exporting.labelled_image import LabelledImage


@pytest.fixture(scope="session")
def images(photos: Path) -> list[LabelledImage]:
    """Photos, hard shapes, and an image of nothing."""
    return sample(photos)
