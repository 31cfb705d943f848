"""Masks as pure functions: from probabilities to maps, from maps to files, from segments to run lengths.

A category map holds, for each pixel, the id of its most likely category, or 0 where none reaches the
confidence threshold. A confidence map holds the probability that the category map is right: for a foreground
pixel that category's probability, for background one minus the largest foreground probability.
"""

from base64 import b64encode
from collections.abc import Iterable, Sequence
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

from maskline.results import (
    BACKGROUND_ID,
    MAX_PALETTE_ID,
    AnnotationSpec,
    Segment,
    SegmentList,
    SegmentPicture,
    SegmentPictureList,
)
from maskline.run_lengths import RunLengthMask
from worker.colors import rgb
from worker.family import CategoryMap, ConfidenceMap, Segmentation, SegmentMask
from worker.packed_mask import Mask, PackedMask
from worker.png import Rgb, encode_grayscale_png, encode_mask_png, encode_palette_png
from worker.strips import strips
from worker.window import Window

Probabilities = NDArray[np.float32]
Polygon = list[tuple[int, int]]
Number = TypeVar("Number", bound=np.generic)


class Composer:
    """Builds both maps from one plane of probabilities after another, keeping only the best so far."""

    def __init__(self, height: int, width: int, max_id: int) -> None:
        """``max_id``: the largest annotation spec id that will come."""
        self._image = Window(0, 0, width, height)
        self._window = Window(0, 0, 0, 0)  # that the planes hold; outside it is background
        self._best = np.zeros((0, 0), np.float32)
        self._best_id = np.zeros((0, 0), np.uint8 if max_id <= MAX_PALETTE_ID else np.uint16)
        self._highest_id = BACKGROUND_ID
        self._has_own_planes = False  # the first mask's are its caller's

    def add(self, category_id: int, probabilities: Probabilities, x: int = 0, y: int = 0) -> None:
        """Count a category's probabilities.

        Args:
            category_id: 1 or more; of equally likely categories the lowest id counts.
            probabilities: float32 (h, w), 0..1, of the part of the image whose top left corner is (x, y); to
                be left as they are until the maps are made.
            x: pixels from the left.
            y: pixels from the top.
        """
        height, width = probabilities.shape
        if not probabilities.size:
            return
        window = Window(x, y, x + width, y + height)
        if not self._window.area:
            self._begin(category_id, probabilities, window)
            return
        if not self._has_own_planes:
            self._see_all()
        best, best_id = self._best[window.slices], self._best_id[window.slices]
        may_tie = category_id < self._highest_id
        self._highest_id = max(self._highest_id, category_id)
        for rows in strips(height, best[:1].nbytes):
            better = probabilities[rows] > best[rows]
            if may_tie:
                better |= (probabilities[rows] == best[rows]) & (best_id[rows] > category_id)
            np.maximum(best[rows], probabilities[rows], out=best[rows])
            _set(best_id[rows], category_id, where=better)

    def _begin(self, category_id: int, probabilities: Probabilities, window: Window) -> None:
        """The first mask: if it stays the only one, nothing is to be compared, nor held of the rest."""
        self._window, self._best = window, probabilities
        self._best_id = (probabilities > 0).astype(self._best_id.dtype)
        self._best_id *= self._best_id.dtype.type(category_id)
        self._highest_id = category_id

    def _see_all(self) -> None:
        self._best, self._best_id = (self._in_image(plane) for plane in (self._best, self._best_id))
        self._window, self._has_own_planes = self._image, True

    def _in_image(self, plane: NDArray[Number]) -> NDArray[Number]:
        """A copy of a plane, with zeros where it has no pixels."""
        whole = np.zeros(self._image.size, plane.dtype)
        whole[self._window.slices] = plane
        return whole

    def maps(self, confidence_threshold: float) -> tuple[CategoryMap, ConfidenceMap]:
        """The category map and the confidence map; to be called once, at the end."""
        confidence_map = np.full(self._image.size, 255, np.uint8)
        confidence = confidence_map[self._window.slices]
        # A pixel that no category claims at all stays background even under a threshold of 0.
        least = max(np.float32(confidence_threshold), np.finfo(np.float32).smallest_subnormal)
        for rows in strips(len(self._best), self._best[:1].nbytes):
            best, best_id = self._best[rows], self._best_id[rows]
            is_background = best < least
            best_id *= (~is_background).view(np.uint8)
            confidence[rows] = to_confidence(is_background - best)
        category_map = self._best_id if self._window == self._image else self._in_image(self._best_id)
        return category_map, confidence_map


def _set(ids: CategoryMap, category_id: int, *, where: Mask) -> None:
    """``ids[where] = category_id``, without a branch for each pixel: many times as fast."""
    cv2.copyTo(np.full_like(ids, category_id), where.view(np.uint8), ids)


def to_confidence(probabilities: Probabilities) -> ConfidenceMap:
    """uint8 (H, W): 255 times the probabilities, to the nearest, whatever their sign."""
    return np.asarray(cv2.convertScaleAbs(probabilities, alpha=255), np.uint8)


def encode_rle(mask: PackedMask) -> RunLengthMask:
    """The mask as COCO's compressed run lengths, from the pixels of its bounding box alone."""
    height, width = mask.height, mask.width
    # Column by column, and above each a pixel in which the run before it ends.
    pixels = np.zeros(mask.columns * (mask.rows + 1) + 1, np.bool_)
    if mask.columns:
        by_columns = cv2.transpose(mask.box().view(np.uint8)).view(np.bool_)
        pixels[:-1].reshape(mask.columns, -1)[:, 1:] = by_columns
    columns, rows = np.divmod(np.flatnonzero(pixels[1:] != pixels[:-1]), mask.rows + 1)
    changes = (mask.left + columns) * height + mask.top + rows
    # A run that reaches a column's end may go on at the next one's beginning.
    goes_on = np.flatnonzero(changes[1:] == changes[:-1])
    changes = np.delete(changes, (goes_on, goes_on + 1))
    lengths = np.diff(changes, prepend=0, append=height * width)
    if lengths.size > 1 and not lengths[-1]:
        lengths = lengths[:-1]
    encoded = coco.frPyObjects({"size": [height, width], "counts": lengths}, height, width)
    return RunLengthMask(size=(height, width), counts=encoded["counts"].decode("ascii"))


def decode_rle(rle: RunLengthMask) -> Mask:
    """bool (H, W), in memory column by column.

    Raises:
        ValueError: the run lengths are none, or do not fit the size.
    """
    lengths = rle.run_lengths()
    height, width = rle.size
    return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(width, height).T


def polygons(mask: Mask) -> list[tuple[Polygon, list[Polygon]]]:
    """The parts of a mask, that of the most pixels first: its outer contour, and those of the holes in it.

    A contour's points are ``(x, y)`` of the outermost pixels on its line, in order, not repeated at the end.
    """
    contours, hierarchy = cv2.findContours(mask.view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    if hierarchy is None:
        return []
    points = [[(int(x), int(y)) for x, y in contour.reshape(-1, 2)] for contour in contours]
    parents = hierarchy.reshape(-1, 4)[:, 3]
    holes: dict[int, list[Polygon]] = {}
    for i, parent in enumerate(parents):
        if parent >= 0:
            holes.setdefault(int(parent), []).append(points[i])
    outer = [i for i, parent in enumerate(parents) if parent < 0]
    if len(outer) > 1:
        _, parts, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
        pixels = {i: int(stats[parts[points[i][0][::-1]], cv2.CC_STAT_AREA]) for i in outer}
        outer.sort(key=lambda i: -pixels[i])
    return [(points[i], holes.get(i, [])) for i in outer]


def to_segments(segmentation: Segmentation) -> SegmentList:
    """The segments with their boxes, areas and run lengths."""
    height, width = segmentation.category_map.shape
    segments = tuple(to_segment(i, segment) for i, segment in enumerate(segmentation.segments, 1))
    return SegmentList(width=width, height=height, segments=segments)


def to_segment(number: int, segment: SegmentMask) -> Segment:
    """The segment with its box, area and run lengths."""
    packed = segment.packed
    return Segment(
        id=number,
        label=segment.label,
        category_id=segment.category_id,
        score=_score(segment),
        bbox=packed.bbox,
        area=packed.area,
        segmentation=encode_rle(packed),
    )


def to_segment_pictures(segmentation: Segmentation) -> SegmentPictureList:
    """The segments, each with its mask as a picture."""
    height, width = segmentation.category_map.shape
    segments = tuple(
        SegmentPicture(
            label=segment.label,
            category_id=segment.category_id,
            score=_score(segment),
            mask=b64encode(encode_mask_png(segment.mask)).decode("ascii"),
        )
        for segment in segmentation.segments
    )
    return SegmentPictureList(width=width, height=height, segments=segments)


def _score(segment: SegmentMask) -> float:
    return min(1.0, max(0.0, round(segment.score, 6)))


def palette_of(annotation_specs: Iterable[AnnotationSpec]) -> Sequence[Rgb]:
    """The colours by id, up to the largest id; an id without a spec is black."""
    colors = {spec.id: rgb(spec.color) for spec in annotation_specs}
    return [colors.get(i, (0, 0, 0)) for i in range(max(colors, default=0) + 1)]


def render_category_mask(segmentation: Segmentation) -> bytes:
    """The category mask: a palette PNG, or 16-bit grayscale where an id is above 255."""
    category_map = segmentation.category_map
    if category_map.dtype == np.uint16:
        return encode_grayscale_png(category_map)
    return encode_palette_png(
        category_map.astype(np.uint8, copy=False), palette_of(segmentation.annotation_specs)
    )


def render_confidence_mask(segmentation: Segmentation) -> bytes:
    """The confidence mask: an 8-bit grayscale PNG."""
    return encode_grayscale_png(segmentation.confidence_map)
