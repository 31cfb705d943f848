"""Outlines, filled again by the libraries whose way of filling they are made for."""

from itertools import chain

import cv2
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from pycocotools import mask as coco
from scipy.ndimage import binary_fill_holes, label

from tests.labelled_images import Mask, disc, iou
from worker.exporting.outlines import edge_outlines, pixel_outlines

MASKS = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=24))
SHAPES = st.builds(
    lambda seed, side: blobs(np.random.default_rng(seed).random((side, side))),
    st.integers(0, 1 << 30),
    st.integers(24, 96),
)
TOUCHING = np.ones((3, 3))  # corners too


def blobs(noise: NDArray[np.float64]) -> Mask:
    return np.asarray(cv2.GaussianBlur(noise, (0, 0), len(noise) / 8) > 0.5)


def filled(mask: Mask) -> Mask:
    """Each part without its holes; those that another part is in count as holes too."""
    numbers, count = label(mask, structure=TOUCHING)
    parts = [binary_fill_holes(numbers == number) for number in range(1, count + 1)]
    return np.any([np.zeros_like(mask), *parts], axis=0)


@given(MASKS)
def test_pixel_outlines_are_filled_to_the_same_pixels(mask: Mask) -> None:
    outlines = pixel_outlines(mask)
    assert len(outlines) == label(mask, structure=TOUCHING)[1]
    assert all(len(outline) >= 3 for outline in outlines)
    drawn = np.zeros(mask.shape, np.uint8)
    for outline in outlines:
        cv2.fillPoly(drawn, [np.array(outline)], 1)
    assert np.array_equal(drawn.astype(bool), filled(mask))


@given(MASKS)
def test_edge_outlines_are_polygons_within_the_image(mask: Mask) -> None:
    height, width = mask.shape
    for outline in edge_outlines(mask):
        assert len(outline) >= 3
        assert all(0 <= x <= width and 0 <= y <= height for x, y in outline)
    assert bool(edge_outlines(mask)) == mask.any()


@given(SHAPES)
def test_edge_outlines_are_near_the_mask(mask: Mask) -> None:
    wanted = filled(mask)
    assert iou(rasterised(mask), wanted) >= 0.9


def test_a_rectangle_is_its_four_corners() -> None:
    mask = np.zeros((20, 30), bool)
    mask[4:9, 10:30] = True
    assert {tuple(one) for one in edge_outlines(mask)[0]} == {(10, 4), (30, 4), (30, 9), (10, 9)}


def test_a_disc_takes_few_points() -> None:
    [outline] = edge_outlines(disc(40))
    assert len(outline) <= 60  # of 148 that the edges of its pixels have
    assert iou(rasterised(disc(40)), disc(40)) >= 0.98


def rasterised(mask: Mask) -> Mask:
    """The outlines, filled by pycocotools."""
    outlines = [list(chain.from_iterable(outline)) for outline in edge_outlines(mask)]
    if not outlines:
        return np.zeros_like(mask)
    return np.asarray(coco.decode(coco.merge(coco.frPyObjects(outlines, *mask.shape))), bool)
