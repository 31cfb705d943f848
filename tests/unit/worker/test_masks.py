from base64 import b64decode
from io import BytesIO
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco

from maskline.results import AnnotationSpec
from worker.colors import annotation_specs, distinct_color, rgb
from worker.family import Segmentation, SegmentMask
from worker.masks import (
    Composer,
    decode_rle,
    encode_rle,
    palette_of,
    polygons,
    render_category_mask,
    render_confidence_mask,
    to_segment_pictures,
    to_segments,
)
from worker.overlay import render_overlay
from worker.packed_mask import PackedMask

MASKS = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=24))
PLANES = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 5), st.integers(1, 12), st.integers(1, 12)),
    elements=st.floats(0, 1, width=32),
)


@given(PLANES, st.floats(0, 1))
def test_maps_mean_what_they_say(planes: NDArray[np.float32], threshold: float) -> None:
    """Against the definition, pixel by pixel."""
    composer = Composer(planes.shape[1], planes.shape[2], max_id=len(planes))
    for category_id, plane in enumerate(planes, 1):
        composer.add(category_id, plane)
    category_map, confidence_map = composer.maps(threshold)
    for y, x in np.ndindex(*planes.shape[1:]):
        column = planes[:, y, x]
        best = column.max()
        if best < np.float32(threshold) or best == 0:
            expected = 0, 1 - best
        else:
            expected = int(column.argmax()) + 1, best
        assert category_map[y, x] == expected[0]
        assert confidence_map[y, x] == np.rint(np.float32(expected[1]) * np.float32(255))


def test_a_plane_of_a_part_counts_there_alone() -> None:
    composer = Composer(4, 5, max_id=300)
    composer.add(300, np.full((2, 2), 0.75, np.float32), x=3, y=1)
    category_map, confidence_map = composer.maps(0.5)
    assert category_map.dtype == np.uint16
    assert np.argwhere(category_map == 300).tolist() == [[1, 3], [1, 4], [2, 3], [2, 4]]
    assert set(confidence_map[category_map == 300]) == {191}
    assert set(confidence_map[category_map == 0]) == {255}


@given(
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    windows=st.lists(st.tuples(*[st.integers(0, 12)] * 4), max_size=4),
    threshold=st.floats(0, 1),
)
def test_parts_make_the_maps_that_whole_planes_make(
    size: tuple[int, int], windows: list[tuple[int, ...]], threshold: float
) -> None:
    of_parts, of_planes = (Composer(*size, max_id=4) for _ in range(2))
    for category_id, (x, y, width, height) in enumerate(windows, 1):
        plane = np.zeros(size, np.float32)
        part = plane[y : y + height, x : x + width]
        part[:] = np.random.default_rng(category_id).random(part.shape, np.float32)
        of_parts.add(category_id, part.copy(), min(x, size[1]), min(y, size[0]))
        of_planes.add(category_id, plane)
    for mine, whole in zip(of_parts.maps(threshold), of_planes.maps(threshold), strict=True):
        assert np.array_equal(mine, whole)


@given(MASKS)
def test_run_lengths_are_those_of_coco(mask: NDArray[np.bool_]) -> None:
    packed = PackedMask.pack(mask)
    rle = encode_rle(packed)
    theirs = coco.encode(np.asfortranarray(mask.view(np.uint8)))
    assert (list(rle.size), rle.counts) == (theirs["size"], theirs["counts"].decode())
    assert np.array_equal(decode_rle(rle), mask)
    if mask.any():
        assert coco.toBbox(theirs).tolist() == list(packed.bbox)
    else:
        assert packed.bbox == (0, 0, 0, 0)


@given(MASKS)
def test_polygons_hold_every_part_and_every_hole(mask: NDArray[np.bool_]) -> None:
    import cv2

    parts = polygons(mask)
    painted = np.zeros(mask.shape, np.uint8)
    for outer, _ in parts:
        cv2.fillPoly(painted, [np.array(outer)], 1)
    filled = painted.astype(bool)
    assert (filled | ~mask).all(), "a pixel of the mask is in no part"
    for _, holes in parts:
        for hole in holes:
            assert mask[tuple(np.array(hole).T[::-1])].all(), "a hole's contour runs over the mask"
    count, _ = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    assert len(parts) == count - 1


def segmentation(ids: list[int]) -> Segmentation:
    category_map = np.zeros((4, 6), np.uint16 if max(ids) > 255 else np.uint8)
    for i, category_id in enumerate(ids):
        category_map[i, i:] = category_id
    return Segmentation(
        category_map=category_map,
        confidence_map=np.arange(24, dtype=np.uint8).reshape(4, 6),
        segments=tuple(
            SegmentMask(label=f"c{i}", category_id=i, score=0.5, packed=PackedMask.pack(category_map == i))
            for i in ids
        ),
        annotation_specs=(
            AnnotationSpec(id=0, display_name="background", color="#000000"),
            *(AnnotationSpec(id=i, display_name=f"c{i}", color=distinct_color(i)) for i in ids),
        ),
    )


def test_up_to_255_categories_are_a_palette() -> None:
    made = segmentation([1, 255])
    image = Image.open(BytesIO(render_category_mask(made)))
    assert image.mode == "P"
    assert np.array_equal(np.asarray(image), made.category_map)
    colors = np.asarray(image.convert("RGB"))
    assert tuple(colors[0, 0]) == rgb(distinct_color(1))
    assert tuple(colors[1, 5]) == rgb(distinct_color(255))


def test_more_than_255_categories_are_sixteen_bit_gray() -> None:
    made = segmentation([1, 256, 40_000])
    image = Image.open(BytesIO(render_category_mask(made)))
    assert image.mode == "I;16"
    assert np.array_equal(np.asarray(image), made.category_map)


def test_the_confidence_mask_is_one_channel_of_eight_bits() -> None:
    made = segmentation([1])
    image = Image.open(BytesIO(render_confidence_mask(made)))
    assert image.mode == "L"
    assert np.array_equal(np.asarray(image), made.confidence_map)


def test_segments_carry_box_area_and_mask() -> None:
    made = segmentation([3, 7])
    listed = to_segments(made)
    assert (listed.width, listed.height) == (6, 4)
    assert [segment.id for segment in listed.segments] == [1, 2]
    second = listed.segments[1]
    assert (second.label, second.category_id, second.bbox, second.area) == ("c7", 7, (1, 1, 5, 1), 5)


def test_segments_carry_their_masks_as_pictures() -> None:
    made = segmentation([3, 7])
    listed, pictures = to_segments(made), to_segment_pictures(made)
    assert (pictures.width, pictures.height) == (6, 4)
    for one, picture, segment in zip(listed.segments, pictures.segments, made.segments, strict=True):
        assert (picture.label, picture.category_id, picture.score) == (one.label, one.category_id, one.score)
        image = Image.open(BytesIO(b64decode(picture.mask, validate=True)))
        assert image.mode == "L"
        assert np.array_equal(np.asarray(image), np.where(segment.mask, 255, 0))


def test_colors_differ_and_stay() -> None:
    colors = [distinct_color(i) for i in range(1, 256)]
    assert len(set(colors)) == 255
    assert "#000000" not in colors
    assert colors[:2] == ["#f24c35", "#3556f2"]
    near = [np.abs(np.subtract(rgb(a), rgb(b))).max() for a, b in pairwise(colors)]
    assert min(near) > 40


def test_a_palette_fills_the_gaps() -> None:
    specs = [AnnotationSpec(id=2, display_name="a", color="#010203")]
    assert palette_of(specs) == [(0, 0, 0), (0, 0, 0), (1, 2, 3)]


def test_an_overlay_tints_the_regions_and_keeps_the_rest_recognisable() -> None:
    image = np.full((60, 60, 3), 100, np.uint8)
    category_map = np.zeros((60, 60), np.uint8)
    category_map[10:50, 10:50] = 1
    specs = annotation_specs(["a"])
    picture = np.asarray(Image.open(BytesIO(render_overlay(image, category_map, specs))))
    assert picture.shape == image.shape
    tint = np.array(rgb(specs[1].color))
    assert np.abs(picture[30, 30] - (100 + tint) / 2).max() <= 1
    assert tuple(picture[2, 2]) == (75, 75, 75)
    assert tuple(picture[10, 30]) != tuple(picture[30, 30]), "there is an outline"


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (7, 3)])
def test_an_overlay_of_a_tiny_image_is_drawn(shape: tuple[int, int]) -> None:
    category_map = np.ones(shape, np.uint8)
    png = render_overlay(np.zeros((*shape, 3), np.uint8), category_map, annotation_specs(["a"]))
    assert np.asarray(Image.open(BytesIO(png))).shape == (*shape, 3)


@given(
    size=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    window=st.tuples(st.integers(0, 29), st.integers(0, 29), st.integers(0, 30), st.integers(0, 30)),
    seed=st.integers(0, 99),
)
def test_a_packed_mask_is_the_mask(size: tuple[int, int], window: tuple[int, ...], seed: int) -> None:
    x, y, width, height = window
    whole = np.zeros(size, np.bool_)
    part = whole[y : y + height, x : x + width]
    part[:] = np.random.default_rng(seed).random(part.shape) < 0.1
    assert np.array_equal(PackedMask.pack(whole).unpack(), whole)
    assert np.array_equal(PackedMask.pack(part.copy(), x, y, size).unpack(), whole)
