"""What all tests share: pictures, and processes that Ctrl-C reaches."""

import signal
from pathlib import Path

import pytest

from maskline.cli import demo
from tests.factories import encoded, picture

# A shell that runs the tests in the background has it ignored, and processes inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def photos() -> Path:
    """The folder with scikit-image's photos."""
    return demo.photos()


@pytest.fixture(scope="session")
def coffee(photos: Path) -> bytes:
    """A photo of 600 x 400 pixels."""
    return (photos / "coffee.png").read_bytes()


@pytest.fixture(scope="session")
def disc() -> bytes:
    """A PNG of 96 x 64 pixels: a red disc at (40, 32) of radius 20 on a noisy green ground."""
    return encoded(picture(), "PNG")
