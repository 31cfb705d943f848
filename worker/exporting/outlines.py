"""Outlines of masks, where a format or a reader has no masks. Holes are lost: each part is filled."""

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.masks import polygons
from worker.packed_mask import Mask, PackedMask

Contour = NDArray[np.int32]  #: int32 (points, 1, 2)
Outline = list[tuple[float, float]]  #: (x, y), at least three, the first not repeated at the end

_LEAST_POINTS = 3
_HALF_A_PIXEL = 1.0  # in the lattice below
_TOLERANCE = 0.03  # of the area


def edge_outlines(mask: Mask) -> list[Outline]:
    """The outlines of a mask's parts along the edges of their pixels, largest first.

    Args:
        mask: bool (H, W).

    Returns:
        points from (0, 0), the image's upper left corner, to (W, H), its lower right one; for readers to whom
        a pixel is a square, as COCO, CVAT and Label Studio. No point of the edge is farther than half a pixel
        from the outline.
    """
    packed = PackedMask.pack(mask)
    if not packed.columns:
        return []
    lattice = _lattice(packed.box())
    contours, _ = cv2.findContours(lattice, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    traced = [_simplified(np.asarray(contour, np.int32)) for contour in contours]
    traced.sort(key=_area, reverse=True)
    return [
        [(packed.left + x / 2, packed.top + y / 2) for x, y in contour.reshape(-1, 2).tolist()]
        for contour in traced
    ]


def _simplified(contour: Contour) -> Contour:
    """The contour with fewer points; a thin one, that would become another shape, as it is."""
    simple = np.asarray(cv2.approxPolyDP(contour, _HALF_A_PIXEL, closed=True), np.int32)
    area = _area(contour)
    return simple if abs(_area(simple) - area) <= _TOLERANCE * area else contour


def _area(contour: Contour) -> float:
    return cv2.contourArea(contour)


def _lattice(box: Mask) -> NDArray[np.uint8]:
    """uint8 (2 rows + 1, 2 columns + 1): the corners, edges and middles of the mask's pixels.

    The outermost points of a part are the edges of its pixels.
    """
    rows, columns = box.shape
    lattice = np.zeros((2 * rows + 1, 2 * columns + 1), np.uint8)
    fourfold = np.repeat(np.repeat(box.view(np.uint8), 2, axis=0), 2, axis=1)
    for down in (0, 1):
        for right in (0, 1):
            lattice[down : down + 2 * rows, right : right + 2 * columns] |= fourfold
    return lattice


def pixel_outlines(mask: Mask) -> list[list[tuple[int, int]]]:
    """The outlines of a mask's parts through the middles of their outermost pixels, the largest first.

    Args:
        mask: bool (H, W).

    Returns:
        ``(x, y)`` of pixels; for readers that fill an outline together with the pixels on it, as OpenCV does:
        filled so, a part without holes is what it was. Where a part has fewer pixels than a polygon needs,
        the last comes again.
    """
    return [outer + outer[-1:] * (_LEAST_POINTS - len(outer)) for outer, _ in polygons(mask)]
