"""Detections against torchvision's suppression and OpenCV's filling, and the picture of them."""

from io import BytesIO
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from torchvision.ops import batched_nms

from maskline.errors import OutputUnavailable
from maskline.requests import DetectionOptions, PictureOptions
from maskline.results import DetectionList
from tests.factories import picture
from worker.colors import annotation_specs, rgb
from worker.detections import choose, to_detections
from worker.family import Segmentation, SegmentMask
from worker.masks import decode_rle
from worker.packed_mask import PackedMask
from worker.picture import render_picture

SIZE = 64, 96
SPECS = annotation_specs(["a", "b", "c"])

boxes = st.tuples(st.integers(0, 80), st.integers(0, 50), st.integers(1, 16), st.integers(1, 14))
segments_drawn = st.lists(st.tuples(boxes, st.integers(1, 3), st.integers(0, 1000)), max_size=20)


def rectangle(x: int, y: int, width: int, height: int) -> NDArray[np.bool_]:
    mask = np.zeros(SIZE, np.bool_)
    mask[y : y + height, x : x + width] = True
    return mask


def segment(mask: NDArray[np.bool_], category_id: int = 1, score: float = 0.9) -> SegmentMask:
    label = SPECS[category_id].display_name
    return SegmentMask(label=label, category_id=category_id, score=score, packed=PackedMask.pack(mask))


def detections(*segments: SegmentMask, **options: float) -> DetectionList:
    chosen = DetectionOptions.model_validate(options)
    nothing = np.zeros(SIZE, np.uint8)
    made = Segmentation(
        category_map=nothing, confidence_map=nothing, segments=segments, annotation_specs=SPECS
    )
    listed = to_detections(choose(segments, chosen), made, chosen)
    return DetectionList.model_validate_json(listed.to_json())


@settings(deadline=None, max_examples=60)
@given(drawn=segments_drawn, threshold=st.sampled_from([0.0, 0.3, 0.7, 1.0]), across=st.booleans())
def test_what_is_covered_is_left_out_as_torchvision_does(
    drawn: list[tuple[tuple[int, int, int, int], int, int]], threshold: float, across: bool
) -> None:
    # Scores differ, as ties have no agreed order.
    segments = [
        segment(rectangle(*box), category, (s + i / 100) / 1001) for i, (box, category, s) in enumerate(drawn)
    ]
    chosen = choose(segments, DetectionOptions(max_overlap=threshold, across_categories=across))
    corners = torch.tensor([[x, y, x + w, y + h] for (x, y, w, h), _, _ in drawn], dtype=torch.float64)
    kept = batched_nms(
        corners.reshape(-1, 4),
        torch.tensor([one.score for one in segments], dtype=torch.float64),
        torch.tensor([0 if across else one.category_id for one in segments]),
        threshold,
    )
    assert [number - 1 for number in chosen] == kept.tolist()


def test_what_is_chosen() -> None:
    segments = [
        segment(rectangle(0, 0, 9, 9), 1, 0.5),
        segment(rectangle(20, 0, 9, 9), 2, 0.9),
        segment(np.zeros(SIZE, np.bool_), 1, 0.99),
        segment(rectangle(40, 0, 9, 9), 3, 0.2),
        segment(rectangle(60, 0, 9, 9), 2, 0.7),
    ]
    assert list(choose(segments, DetectionOptions())) == [2, 5, 1, 4]
    assert list(choose(segments, DetectionOptions(min_score=0.5))) == [2, 5, 1]
    assert list(choose(segments, DetectionOptions(most=2))) == [2, 5]
    assert list(choose(segments, DetectionOptions(labels=("a", "c")))) == [1, 4]
    assert list(choose([], DetectionOptions())) == []


@pytest.mark.parametrize("seed", range(5))
def test_outlines_filled_are_the_parts(seed: int) -> None:
    noise = np.random.default_rng(seed).random(SIZE).astype(np.float32)
    mask = cv2.GaussianBlur(noise, (0, 0), 3) > 0.5
    [one] = detections(segment(mask)).detections
    filled = np.zeros(SIZE, np.uint8)
    cv2.fillPoly(filled, [np.array(polygon) for polygon in one.polygons], 1)
    whole = decode_rle(one.segmentation)
    assert np.array_equal(whole, mask)
    holes = (filled > 0) & ~mask
    contours, hierarchy = cv2.findContours(mask.view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    assert (filled > 0)[mask].all()
    assert holes.any() == bool((hierarchy[0, :, 3] >= 0).any())
    count, parts = cv2.connectedComponents(mask.view(np.uint8), connectivity=8)
    pixels = [int((parts == parts[y, x]).sum()) for (x, y), *_ in one.polygons]
    assert pixels == sorted(pixels, reverse=True)
    assert len(contours) >= len(pixels) == count - 1 > 1


def test_the_first_part_is_that_of_the_most_pixels() -> None:
    mask = rectangle(2, 2, 60, 1) | rectangle(2, 20, 6, 6)  # a line encloses nothing
    [one] = detections(segment(mask)).detections
    assert {y for _, y in one.polygons[0]} == {2}


@pytest.mark.parametrize("detail", [0, 0.3, 0.9, 1])
def test_outlines_of_any_detail_reach_the_box(detail: float) -> None:
    [one] = detections(segment(rectangle(7, 5, 33, 21)), outlineDetail=detail).detections
    xs, ys = zip(*one.polygons[0], strict=True)
    assert (min(xs), min(ys), max(xs), max(ys)) == (7, 5, 39, 25)


def test_a_speck_is_a_polygon_too() -> None:
    [one] = detections(segment(rectangle(5, 7, 1, 1))).detections
    assert one.polygons == (((5, 7),) * 3,)
    assert one.bbox == (5, 7, 1, 1)


def test_less_detail_is_fewer_points_near_the_same_place() -> None:
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    disc = np.asarray((x - 50) ** 2 + (y - 30) ** 2 <= 25**2)
    fine, coarse = (detections(segment(disc), outlineDetail=d).detections[0] for d in (1, 0))
    assert len(coarse.polygons[0]) < len(fine.polygons[0]) / 2
    filled = np.zeros(SIZE, np.uint8)
    cv2.fillPoly(filled, [np.array(coarse.polygons[0])], 1)
    assert np.count_nonzero(filled & disc) > 0.8 * np.count_nonzero(disc)
    assert coarse.segmentation == fine.segmentation


def drawn(image: NDArray[np.uint8], segments: list[SegmentMask], **options: Any) -> NDArray[np.int_]:
    jpeg = render_picture(image, segments, SPECS, PictureOptions(**options))
    return np.asarray(Image.open(BytesIO(jpeg))).astype(int)


def test_each_detection_is_tinted_and_outlined_in_its_color() -> None:
    image = np.full((*SIZE, 3), 128, np.uint8)
    large, small = rectangle(16, 8, 48, 48), rectangle(32, 24, 16, 16)
    picture_of = drawn(image, [segment(small, 2), segment(large, 1)], stroke=3)
    one, two = (np.array(rgb(SPECS[i].color)) for i in (1, 2))
    for (row, column), color in (
        ((0, 0), image[0, 0]),
        ((16, 24), 0.6 * 128 + 0.4 * one),
        ((32, 40), 0.6 * 128 + 0.4 * two),  # the smaller is over the larger
    ):
        assert np.abs(picture_of[row : row + 4, column : column + 4] - color).mean() < 8, (row, column)
    outline = cv2.morphologyEx(large.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
    assert np.abs(picture_of[outline] - one).mean() < 25


def test_a_picture_of_nothing_is_the_image() -> None:
    image = np.full((*SIZE, 3), 77, np.uint8)
    assert np.abs(drawn(image, [], labels=True) - image).max() < 3


def test_labels_are_written_where_there_is_room() -> None:
    image = np.full((*SIZE, 3), 128, np.uint8)
    one = segment(rectangle(70, 0, 20, 20))
    plain, named = (drawn(image, [one], labels=labels) for labels in (False, True))
    changed = np.abs(plain - named).max(axis=2) > 40
    rows, columns = np.nonzero(changed)
    assert changed.sum() > 50
    assert columns.min() < 70  # moved to the left of its box, for it would not fit beside the edge
    assert rows.max() < 30


def test_the_image_is_not_changed() -> None:
    image = picture(*SIZE)
    render_picture(image, [segment(rectangle(1, 1, 30, 30))], SPECS, PictureOptions())
    assert np.array_equal(image, picture(*SIZE))


def test_an_image_too_long_for_a_jpeg_is_told() -> None:
    with pytest.raises(OutputUnavailable, match="70000 x 1 pixels"):
        render_picture(np.zeros((1, 70000, 3), np.uint8), [], SPECS, PictureOptions())
