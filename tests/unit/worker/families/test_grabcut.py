"""GrabCut against known truth, against OpenCV's own cut, and against its promises on any prompt."""

from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from maskline.catalog import load_catalog
from maskline.requests import Prompt, PromptKind, Subtask
from tests.factories import DISC_BOX, disc_mask, picture
from worker.families.grabcut import GrabCut, Parameters, describe
from worker.family import Segmentation, SegmentationInput

RGB = picture()


def segment(image: NDArray[np.uint8], *prompts: Prompt, **parameters: Any) -> Segmentation:
    one = SegmentationInput(
        image=image,
        image_key="",
        prompts=prompts,
        subtask=Subtask.INSTANCE,
        parameters=Parameters(**parameters),
    )
    [segmentation] = GrabCut().segment([one])
    return segmentation


def iou(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float((one & other).sum() / max(1, (one | other).sum()))


def photo(photos: Path, name: str) -> NDArray[np.uint8]:
    return np.asarray(Image.open(BytesIO((photos / name).read_bytes())).convert("RGB"))


def same(one: Segmentation, other: Segmentation) -> bool:
    return (
        one.category_map.tobytes() == other.category_map.tobytes()
        and one.confidence_map.tobytes() == other.confidence_map.tobytes()
        and [s.score for s in one.segments] == [s.score for s in other.segments]
        and all(np.array_equal(a.mask, b.mask) for a, b in zip(one.segments, other.segments, strict=True))
    )


@pytest.mark.parametrize(
    "prompt",
    [
        Prompt(label="disc", box=DISC_BOX),
        Prompt(label="disc", box=(0, 0, 96, 64)),
        Prompt(label="disc", points=((40, 32),)),
        Prompt(label="disc", points=((40, 32), (85, 50)), point_labels=(1, 0)),
    ],
    ids=["box", "whole image", "point", "points"],
)
def test_a_known_object_is_found(prompt: Prompt) -> None:
    found = segment(RGB, prompt)
    assert iou(found.category_map == 1, disc_mask()) > 0.95
    [segment_] = found.segments
    assert segment_.label == "disc"
    assert np.array_equal(segment_.mask, found.category_map == 1)
    assert segment_.score > 0.9


def test_the_card_offers_no_masks() -> None:
    assert describe(load_catalog()["grabcut"]).prompt_kinds == (PromptKind.BOX, PromptKind.POINTS)


def test_the_cut_is_that_of_opencv() -> None:
    """On an image that is cut at its own size, with the same box and surroundings."""
    found = segment(RGB, Prompt(label="disc", box=DISC_BOX), iterations=5)
    x_min, y_min, x_max, y_max = (round(value) for value in DISC_BOX)
    left, top, right, bottom = x_min - 11, 0, x_max + 12, 64
    window = np.ascontiguousarray(RGB[top:bottom, left:right])
    mask = np.zeros(window.shape[:2], np.uint8)
    box = (x_min - left, y_min - top, x_max - x_min, y_max - y_min)
    cv2.setRNGSeed(1)
    cv2.grabCut(window, mask, box, np.zeros((1, 65)), np.zeros((1, 65)), 5, cv2.GC_INIT_WITH_RECT)
    theirs = np.isin(mask, (cv2.GC_FGD, cv2.GC_PR_FGD))
    assert iou(found.category_map[top:bottom, left:right] == 1, theirs) > 0.99


def test_several_labels_and_several_objects_of_one_label() -> None:
    image = np.concatenate([RGB, RGB], axis=1)
    left, right = DISC_BOX, (DISC_BOX[0] + 96, DISC_BOX[1], DISC_BOX[2] + 96, DISC_BOX[3])
    apart = segment(image, Prompt(label="a", box=left), Prompt(label="b", box=right))
    assert [spec.display_name for spec in apart.annotation_specs] == ["background", "a", "b"]
    assert iou(apart.category_map[:, :96] == 1, disc_mask()) > 0.95
    assert iou(apart.category_map[:, 96:] == 2, disc_mask()) > 0.95
    together = segment(image, Prompt(label="a", box=left), Prompt(label="a", box=right))
    assert [spec.display_name for spec in together.annotation_specs] == ["background", "a"]
    assert len(together.segments) == 2
    assert np.array_equal(together.category_map != 0, apart.category_map != 0)


def test_a_point_beside_the_object_is_left_out() -> None:
    image = RGB.copy()
    image[10:25, 70:90] = (200, 40, 30)  # a patch in the disc's colour
    box = Prompt(label="disc", box=(10, 5, 94, 60))
    with_patch = segment(image, box)
    assert with_patch.category_map[17, 80] == 1
    without = segment(image, Prompt(label="disc", box=box.box, points=((80, 17),), point_labels=(0,)))
    assert without.category_map[17, 80] == 0
    assert without.category_map[32, 40] == 1


def test_nothing_lies_outside_the_box() -> None:
    box = (17.0, 9.0, 40.0, 55.0)
    found = segment(RGB, Prompt(label="half", box=box))
    outside = np.ones(found.category_map.shape, bool)
    outside[9:55, 17:40] = False
    assert not found.category_map[outside].any()
    assert (found.confidence_map[outside] == 255).all()


@pytest.mark.parametrize(
    ("name", "prompt", "least", "most"),
    [
        ("coffee.png", Prompt(label="cup", box=(168, 10, 425, 215)), 25_000, 45_000),
        ("astronaut.png", Prompt(label="shuttle", box=(345, 0, 462, 292)), 10_000, 24_000),
    ],
)
def test_a_photo_is_cut_sensibly(photos: Path, name: str, prompt: Prompt, least: int, most: int) -> None:
    found = segment(photo(photos, name), prompt)
    assert least < (found.category_map == 1).sum() < most


def test_a_large_photo_is_cut_like_a_small_one(photos: Path) -> None:
    small = photo(photos, "coffee.png")
    large = cv2.resize(small, None, fx=5, fy=5, interpolation=cv2.INTER_CUBIC)
    box = np.array((168, 10, 425, 215))
    found = segment(np.asarray(large, np.uint8), Prompt(label="cup", box=tuple(box * 5)))
    expected = segment(small, Prompt(label="cup", box=tuple(box)))
    shrunk = cv2.resize(found.category_map, (600, 400), interpolation=cv2.INTER_NEAREST)
    assert iou(shrunk == 1, expected.category_map == 1) > 0.95


def test_the_result_is_the_same_whatever_ran_before_and_in_whatever_thread(photos: Path) -> None:
    image = photo(photos, "coffee.png")
    prompt = Prompt(label="cup", box=(168, 10, 425, 215))
    first = segment(image, prompt)
    segment(RGB)
    cv2.setRNGSeed(99)
    with ThreadPoolExecutor(4) as threads:
        others = list(threads.map(lambda _: segment(image, prompt), range(4)))
    assert all(same(first, other) for other in others)


def test_automatic_mode_finds_objects_largest_first(photos: Path) -> None:
    for image in (RGB, photo(photos, "coffee.png"), photo(photos, "astronaut.png")):
        found = segment(image)
        areas = [int(segment_.mask.sum()) for segment_ in found.segments]
        assert areas
        assert areas == sorted(areas, reverse=True)
        names = [spec.display_name for spec in found.annotation_specs]
        assert names == ["background", *(f"segment-{i}" for i in range(1, len(areas) + 1))]
        assert min(areas) >= 0.005 * image.shape[0] * image.shape[1]
    assert iou(segment(RGB).category_map == 1, disc_mask()) > 0.9
    assert len(segment(photo(photos, "coffee.png"), max_segments=1).segments) == 1


SIZES = st.integers(1, 40)
UNIT = st.floats(0, 1)


@st.composite
def prompts(draw: st.DrawFn, height: int, width: int) -> list[Prompt]:
    made = []
    for _ in range(draw(st.integers(0, 3))):
        label = draw(st.sampled_from("ab"))
        points = draw(st.lists(st.tuples(UNIT, UNIT), max_size=3))
        if draw(st.booleans()) or not points:
            x = sorted((draw(UNIT) * width, draw(UNIT) * width))
            y = sorted((draw(UNIT) * height, draw(UNIT) * height))
            box = (x[0], y[0], max(x[1], x[0] + 1e-6), max(y[1], y[0] + 1e-6))
        else:
            box = None
        labels = [1, *draw(st.lists(st.integers(0, 1), min_size=len(points), max_size=len(points)))][
            : len(points)
        ]
        made.append(
            Prompt(
                label=label,
                box=box,
                points=tuple((x * width, y * height) for x, y in points),
                point_labels=tuple(labels),
            )
        )
    return made


@settings(max_examples=150, deadline=None)
@given(st.data(), SIZES, SIZES, UNIT, st.sampled_from(["noise", "flat", "halves"]))
def test_the_promises_hold_for_any_prompt(
    data: st.DataObject, height: int, width: int, threshold: float, kind: str
) -> None:
    rng = np.random.default_rng(height * 41 + width)
    image = rng.integers(0, 256, (height, width, 3), np.uint8)
    if kind == "flat":
        image[...] = 77
    elif kind == "halves":
        image[: height // 2] = 10
        image[height // 2 :] = 240
    asked = data.draw(prompts(height, width))
    found = segment(image, *asked, confidence_threshold=threshold, iterations=1)
    assert found.category_map.shape == found.confidence_map.shape == (height, width)
    assert found.category_map.dtype == np.uint8
    assert found.confidence_map.dtype == np.uint8
    known = {spec.id for spec in found.annotation_specs}
    assert set(np.unique(found.category_map)) <= known
    foreground = found.category_map != 0
    assert (found.confidence_map[foreground] >= np.floor(threshold * 255)).all()
    assert (found.confidence_map[~foreground] >= np.floor((1 - threshold) * 255)).all()
    labels = {spec.display_name for spec in found.annotation_specs[1:]}
    if asked:
        assert labels == {prompt.label for prompt in asked}
    for segment_ in found.segments:
        assert segment_.mask.any()
        assert 0 < segment_.score <= 1
        assert segment_.label in labels
