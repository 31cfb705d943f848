"""Brush masks against Label Studio's own reader and writer."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from label_studio_sdk.converter import brush
from numpy.typing import NDArray
from pycocotools import mask as coco

from maskline.brush_masks import to_brush
from maskline.run_lengths import RunLengthMask

BITS = st.integers(0, 1)
MASKS = st.tuples(st.integers(1, 12), st.integers(1, 12)).flatmap(
    lambda size: st.lists(BITS, min_size=size[0] * size[1], max_size=size[0] * size[1]).map(
        lambda bits: np.array(bits, np.uint8).reshape(size)
    )
)


def run_lengths(mask: NDArray[np.uint8]) -> RunLengthMask:
    counts = coco.encode(np.asfortranarray(mask))["counts"].decode()
    return RunLengthMask(size=mask.shape, counts=counts)


def assert_read_as(mask: NDArray[np.uint8]) -> None:
    height, width = mask.shape
    read = brush.decode_rle(to_brush(run_lengths(mask))).reshape(height, width, 4)
    assert np.array_equal(read, np.repeat(mask[..., None] * 255, 4, axis=2))


@given(MASKS)
@example(np.ones((1, 1), np.uint8))
@example(np.zeros((3, 2), np.uint8))
@example(np.eye(5, dtype=np.uint8))
@example(np.array([[0, 1, 1], [1, 1, 0]], np.uint8))  # on over the end of a row
def test_label_studio_reads_the_mask(mask: NDArray[np.uint8]) -> None:
    assert_read_as(mask)


@pytest.mark.parametrize("is_on", [0, 1])
def test_runs_of_any_length_are_read(is_on: int) -> None:
    pixels = [1, 2, 3, 4, 5, 16, 17, 64, 65, 16384, 16385, 40000]
    mask = np.concatenate([np.full(length, (i + is_on) % 2, np.uint8) for i, length in enumerate(pixels)])
    assert_read_as(mask.reshape(1, -1))
    assert_read_as(mask.reshape(-1, 1))


@given(MASKS)
def test_it_is_what_label_studio_writes(mask: NDArray[np.uint8]) -> None:
    theirs = brush.mask2rle(mask * 255)
    ours = to_brush(run_lengths(mask))
    assert ours == theirs[: len(ours)]
    assert theirs[len(ours) :] in ([], [0])  # it adds a byte where the last one is full


def test_wrong_run_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="add up"):
        to_brush(RunLengthMask(size=(2, 2), counts="1"))
