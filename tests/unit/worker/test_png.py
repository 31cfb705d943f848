from io import BytesIO
from random import Random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image

from worker.png import encode_grayscale_png, encode_mask_png, encode_palette_png

SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40)


@given(hnp.arrays(np.uint8, SHAPES))
def test_gray_pixels_come_back(values: NDArray[np.uint8]) -> None:
    image = Image.open(BytesIO(encode_grayscale_png(values)))
    assert image.mode == "L"
    assert np.array_equal(np.asarray(image), values)


@given(hnp.arrays(np.bool_, SHAPES))
def test_a_mask_comes_back_black_and_white(mask: NDArray[np.bool_]) -> None:
    image = Image.open(BytesIO(encode_mask_png(mask)))
    assert image.mode == "L"
    assert np.array_equal(np.asarray(image), np.where(mask, 255, 0))


@given(hnp.arrays(np.uint16, SHAPES))
def test_sixteen_bits_come_back(values: NDArray[np.uint16]) -> None:
    image = Image.open(BytesIO(encode_grayscale_png(values)))
    assert image.mode == "I;16"
    assert np.array_equal(np.asarray(image), values)


@given(hnp.arrays(np.uint8, SHAPES), st.randoms())
def test_palette_pixels_and_colors_come_back(values: NDArray[np.uint8], random: Random) -> None:
    palette = [tuple(random.randrange(256) for _ in range(3)) for _ in range(int(values.max()) + 1)]
    image = Image.open(BytesIO(encode_palette_png(values, palette)))  # type: ignore[arg-type]
    assert image.mode == "P"
    assert np.array_equal(np.asarray(image), values)
    expected = np.array(palette, np.uint8)[values]
    assert np.array_equal(np.asarray(image.convert("RGB")), expected)


@given(hnp.arrays(np.uint8, SHAPES))
def test_a_view_is_written_like_its_copy(values: NDArray[np.uint8]) -> None:
    turned = np.asfortranarray(values)[::-1]
    assert encode_grayscale_png(turned) == encode_grayscale_png(np.ascontiguousarray(turned))


def test_the_file_is_valid_for_another_reader() -> None:
    """OpenCV's libpng checks every checksum."""
    import cv2

    values = np.random.default_rng(0).integers(0, 256, (33, 57), np.uint8)
    data = np.frombuffer(encode_grayscale_png(values), np.uint8)
    decoded = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    assert decoded is not None
    assert np.array_equal(decoded, values)
