"""Filled polygons against pycocotools, to the pixel."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pycocotools import mask as coco

from maskline.datasets.outlines import fill_polygons

SIDES = st.integers(1, 40)
NUMBERS = st.one_of(st.integers(-10, 50), st.floats(-10, 50).map(lambda number: round(number, 2)))
POLYGONS = st.lists(
    st.lists(NUMBERS, min_size=6, max_size=16).filter(lambda one: len(one) % 2 == 0), min_size=1
)


@given(POLYGONS, SIDES, SIDES)
@example([[0, 0, 40, 0, 40, 40, 0, 40]], 40, 40)
@example([[3, 3, 3, 3, 3, 3]], 5, 5)
@example([[1, 1, 9, 1, 9, 9], [2, 0, 12, 3, 1, 14, 7.5, 6.5]], 10, 12)
def test_they_are_as_coco_fills_them(polygons: list[list[float]], width: int, height: int) -> None:
    theirs = coco.merge(coco.frPyObjects([list(map(float, one)) for one in polygons], height, width))
    ours = fill_polygons(polygons, width, height)
    decoded = coco.decode({"size": list(ours.size), "counts": ours.counts.encode()})
    assert np.array_equal(decoded, coco.decode(theirs))


@pytest.mark.parametrize("seed", range(20))
def test_large_outlines_too(seed: int) -> None:
    random = np.random.default_rng(seed)
    angles = np.linspace(0, 2 * np.pi, random.integers(5, 60), endpoint=False)
    radius = random.uniform(100, 300, angles.size)
    centre = random.uniform(0, 640, 2)
    outline = np.stack([centre[0] + radius * np.cos(angles), centre[1] + radius * np.sin(angles)], 1)
    flat = [round(float(number), 2) for number in outline.ravel()]
    theirs = coco.decode(coco.merge(coco.frPyObjects([flat], 480, 640)))
    ours = fill_polygons([flat], 640, 480)
    assert np.array_equal(coco.decode({"size": [480, 640], "counts": ours.counts.encode()}), theirs)
