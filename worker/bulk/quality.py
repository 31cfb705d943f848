"""What is worth a look: flags of an item whose masks may be wrong."""

from collections.abc import Sequence

import cv2
import numpy as np

from maskline.batch_results import ReviewFlag, ReviewReason, ReviewThresholds
from maskline.requests import Prompt
from maskline.results import BACKGROUND_ID, Segment
from worker.family import Segmentation


def mean_confidence(segmentation: Segmentation) -> float:
    """Mean of the confidence map, 0..1."""
    return float(round(cv2.mean(segmentation.confidence_map)[0] / 255, 6))


def flags_of(
    segmentation: Segmentation,
    segments: Sequence[Segment],
    confidence: float,
    prompts: Sequence[Prompt],
    thresholds: ReviewThresholds,
) -> tuple[ReviewFlag, ...]:
    """Why somebody should look at an item; none: nothing stands out.

    ``segments`` and ``confidence``: those of ``segmentation``, measured.
    """
    pixels = segmentation.category_map.size
    flags = []
    if confidence < thresholds.min_confidence:
        detail = f"the masks are right with a probability of {confidence:.3f} on average"
        flags.append(ReviewFlag(reason=ReviewReason.LOW_CONFIDENCE, detail=detail))
    if not np.any(segmentation.category_map != BACKGROUND_ID):
        flags.append(ReviewFlag(reason=ReviewReason.EMPTY_MASK, detail="there is nothing but background"))
    for segment in segments:
        if 0 < segment.area < thresholds.min_segment_area * pixels:
            detail = f"segment {segment.id} ({segment.label}) has {segment.area} of {pixels} pixels"
            flags.append(ReviewFlag(reason=ReviewReason.TINY_SEGMENT, detail=detail))
    found = {segment.label for segment in segments if segment.area}
    for label in dict.fromkeys(prompt.label for prompt in prompts):
        if label not in found:
            detail = f"the prompts for {label} gave no segment"
            flags.append(ReviewFlag(reason=ReviewReason.PROMPT_WITHOUT_SEGMENT, detail=detail))
    return tuple(flags)
