"""What is flagged for review."""

from dataclasses import replace

import numpy as np
import pytest

from maskline.batch_results import ReviewReason, ReviewThresholds
from maskline.requests import Prompt
from tests.unit.worker.bulk.world import HEIGHT, WIDTH, segmentation_of
from worker.bulk.quality import flags_of, mean_confidence
from worker.family import Segmentation
from worker.masks import to_segments

RED = np.full((HEIGHT, WIDTH, 3), 200, np.uint8)
DARK = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
THINGS = (Prompt(label="thing", points=((1, 1),)),)


def reasons(
    segmentation: Segmentation, prompts: tuple[Prompt, ...] = THINGS, **thresholds: float
) -> list[ReviewReason]:
    segments = to_segments(segmentation).segments
    confidence = mean_confidence(segmentation)
    flags = flags_of(segmentation, segments, confidence, prompts, ReviewThresholds(**thresholds))
    assert all(flag.detail for flag in flags)
    return [flag.reason for flag in flags]


def test_the_mean_confidence_is_numpy_s() -> None:
    values = np.random.default_rng(1).integers(0, 256, (31, 17)).astype(np.uint8)
    made = replace(segmentation_of(RED), confidence_map=values)
    assert mean_confidence(made) == pytest.approx(values.mean() / 255, abs=1e-6)


def test_what_is_good_is_not_flagged() -> None:
    assert reasons(segmentation_of(RED)) == []
    assert reasons(segmentation_of(RED), ()) == []


def test_masks_of_little_confidence() -> None:
    assert reasons(segmentation_of(RED, certainty=152)) == [ReviewReason.LOW_CONFIDENCE]
    assert reasons(segmentation_of(RED, certainty=153)) == []
    assert reasons(segmentation_of(RED, certainty=0), min_confidence=0) == []


def test_nothing_but_background() -> None:
    found = reasons(segmentation_of(DARK))
    assert found == [ReviewReason.EMPTY_MASK, ReviewReason.PROMPT_WITHOUT_SEGMENT]
    assert reasons(segmentation_of(DARK), ()) == [ReviewReason.EMPTY_MASK]


def test_a_tiny_segment() -> None:
    pixels = DARK.copy()
    pixels[2, 3] = 200
    assert reasons(segmentation_of(pixels), min_segment_area=1.5 / (HEIGHT * WIDTH)) == [
        ReviewReason.TINY_SEGMENT
    ]
    assert reasons(segmentation_of(pixels), min_segment_area=1 / (HEIGHT * WIDTH)) == []


def test_prompts_that_gave_nothing_are_told_once_for_each_label() -> None:
    prompts = tuple(Prompt(label=label, points=((1, 1),)) for label in ("cup", "thing", "cup", "hat"))
    assert reasons(segmentation_of(RED), prompts) == [ReviewReason.PROMPT_WITHOUT_SEGMENT] * 2
