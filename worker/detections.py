"""Detections: the segments that a request wants, without those that others cover, with their outlines."""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from maskline.requests import DetectionOptions
from maskline.results import Detection, DetectionList
from worker.family import Segmentation, SegmentMask
from worker.masks import Polygon, polygons, to_segment
from worker.packed_mask import Mask, PackedMask

_LEAST_SCALE = 0.25  # of the image, at which outlines are followed where no detail is wanted
_LEAST_POINTS = 3  # clients take what has fewer for no polygon


def choose(segments: Sequence[SegmentMask], options: DetectionOptions) -> Mapping[int, SegmentMask]:
    """The segments that become detections, best first, by their number from 1; empty ones never do."""
    numbered = {
        number: segment
        for number, segment in enumerate(segments, 1)
        if segment.packed.columns
        and segment.score >= options.min_score
        and (not options.labels or segment.label in options.labels)
    }
    best_first = sorted(numbered, key=lambda number: -numbered[number].score)
    kept = _without_covered([numbered[number] for number in best_first], options)
    return {best_first[i]: numbered[best_first[i]] for i in kept}


def to_detections(
    chosen: Mapping[int, SegmentMask], segmentation: Segmentation, options: DetectionOptions
) -> DetectionList:
    """The detections with their boxes, areas, run lengths and outlines."""
    height, width = segmentation.category_map.shape
    scale = _LEAST_SCALE + (1 - _LEAST_SCALE) * options.outline_detail
    detections = tuple(
        # Its parts were checked when they were made.
        Detection.model_construct(
            **dict(to_segment(number, segment)), polygons=_outlines(segment.packed, scale)
        )
        for number, segment in chosen.items()
    )
    return DetectionList.model_construct(width=width, height=height, detections=detections)


def _without_covered(segments: Sequence[SegmentMask], options: DetectionOptions) -> list[int]:
    """Non-maximum suppression: the indices that are kept, of segments in the order of their scores."""
    boxes = np.array([segment.packed.window for segment in segments], np.float64).reshape(-1, 4)
    categories = np.array([segment.category_id for segment in segments])
    kept: list[int] = []
    for i in range(len(segments)):
        if options.most is not None and len(kept) == options.most:
            break
        rivals = [j for j in kept if options.across_categories or categories[j] == categories[i]]
        if not rivals or _overlaps(boxes[i], boxes[rivals]).max() <= options.max_overlap:
            kept.append(i)
    return kept


def _overlaps(box: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """The intersection of a box with each of the others, by their union; boxes by their corners."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    common = np.clip(sides, 0, None).prod(axis=1)
    areas = (others[:, 2:] - others[:, :2]).prod(axis=1)
    return np.asarray(common / ((box[2:] - box[:2]).prod() + areas - common))


def _outlines(packed: PackedMask, scale: float) -> tuple[tuple[tuple[int, int], ...], ...]:
    """The outer contours, in pixels of the image, followed at ``scale`` times its size."""
    box = packed.box()
    traced = _shrunk(box, scale)
    return tuple(_placed(outer, packed, traced.shape) for outer, _ in polygons(traced))


def _shrunk(mask: Mask, scale: float) -> Mask:
    """The mask at ``scale`` times its size; itself, where nothing of it would be left."""
    height, width = (max(1, round(side * scale)) for side in mask.shape)
    if (height, width) == mask.shape:
        return mask
    shares = cv2.resize(mask.view(np.uint8) * np.uint8(255), (width, height), interpolation=cv2.INTER_AREA)
    small = np.asarray(shares) > 127
    return small if small.any() else mask


def _placed(polygon: Polygon, packed: PackedMask, traced: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    """The polygon in pixels of the image, whose ends are those of the box; ``traced``: height and width."""
    points = [
        (
            packed.left + _at(x, traced[1], packed.columns),
            packed.top + _at(y, traced[0], packed.rows),
        )
        for x, y in polygon
    ]
    return tuple(points + points[-1:] * (_LEAST_POINTS - len(points)))


def _at(place: int, short: int, length: int) -> int:
    """Where a pixel of a line of ``short`` lies on one of ``length``: the ends at the ends."""
    return round(place * (length - 1) / (short - 1)) if short > 1 else (length - 1) // 2
