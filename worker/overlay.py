"""A picture for people: the image, each category tinted in its colour, each region with a crisp outline."""

from collections.abc import Iterable

import cv2
import numpy as np
from numpy.typing import NDArray

from maskline.results import BACKGROUND_ID, AnnotationSpec
from worker.colors import rgb
from worker.family import CategoryMap, Image
from worker.png import encode_rgb_png

_OPACITY = 0.5
_DIMMED = 0.75  # brightness of the background, so that the regions stand out
_LINE_PER_SIDE = 1 / 400  # width of an outline, as a part of the longer side


def render_overlay(
    image: Image, category_map: CategoryMap, annotation_specs: Iterable[AnnotationSpec]
) -> bytes:
    """A PNG of the image's size.

    Args:
        image: uint8 (H, W, 3), RGB.
        category_map: uint8 or uint16 (H, W).
        annotation_specs: those of the map; the background's colour is not used.
    """
    specs = list(annotation_specs)
    colors = np.zeros((max(spec.id for spec in specs) + 1, 3), np.uint8)
    for spec in specs:
        colors[spec.id] = rgb(spec.color)
    tint = colors.take(category_map, axis=0)
    background = category_map == BACKGROUND_ID
    picture = cv2.addWeighted(image, 1 - _OPACITY, tint, _OPACITY, 0)
    cv2.copyTo(cv2.convertScaleAbs(image, alpha=_DIMMED), background.view(np.uint8), picture)
    colors[BACKGROUND_ID] = 255
    edge = _outlines(category_map)
    picture[edge] = colors[category_map[edge]]
    return encode_rgb_png(np.asarray(picture, np.uint8))


def _outlines(category_map: CategoryMap) -> NDArray[np.bool_]:
    """bool (H, W): the pixels within a line's width of another category."""
    width = max(1, round(max(category_map.shape) * _LINE_PER_SIDE))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * width + 1, 2 * width + 1))
    return np.asarray(cv2.dilate(category_map, kernel) != cv2.erode(category_map, kernel))
