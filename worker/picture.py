"""A picture of detections: the image, each detection tinted, outlined, and named if that is wanted."""

from collections.abc import Iterable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from maskline.requests import PictureOptions
from maskline.results import AnnotationSpec
from worker.colors import rgb
from worker.family import Image, SegmentMask

_OPACITY = 0.4
_JPEG_QUALITY = 92
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_FONT_HEIGHT = 22.0  # pixels of a capital letter at scale 1
_TEXT_PER_SIDE = 1 / 50  # height of a letter, as a part of the longer side
_LEAST_TEXT = 8.0  # pixels
_PADDING = 0.5  # around a label, as a part of the height of its letters
_DARK, _BRIGHT = (0, 0, 0), (255, 255, 255)
_LUMINANCE = np.array([0.299, 0.587, 0.114])
_HALF_BRIGHT = 140

Rgb = tuple[int, int, int]


def render_picture(
    image: Image,
    segments: Iterable[SegmentMask],
    annotation_specs: Iterable[AnnotationSpec],
    options: PictureOptions,
) -> bytes:
    """A JPEG of the image's size.

    Args:
        image: uint8 (H, W, 3), RGB.
        segments: the best first; it is drawn over the others.
        annotation_specs: their colours.
        options: whether there are labels, and how wide the outlines are.
    """
    colors = {spec.id: rgb(spec.color) for spec in annotation_specs}
    drawn = [(segment, colors[segment.category_id]) for segment in segments][::-1]
    picture = image.copy()
    for segment, color in drawn:
        _tint(picture, segment, color)
        _outline(picture, segment, color, options.stroke)
    if options.labels:
        for segment, color in drawn:
            _name(picture, segment, color)
    _, encoded = cv2.imencode(
        ".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    )
    return encoded.tobytes()


def _tint(picture: Image, segment: SegmentMask, color: Rgb) -> None:
    packed = segment.packed
    mask = packed.box()
    window = picture[packed.top : packed.top + packed.rows, packed.left : packed.left + packed.columns]
    tinted = window[mask] * (1 - _OPACITY) + np.array(color) * _OPACITY
    window[mask] = tinted.round().astype(np.uint8)


def _outline(picture: Image, segment: SegmentMask, color: Rgb, stroke: int) -> None:
    packed = segment.packed
    contours, _ = cv2.findContours(
        packed.box().view(np.uint8),
        cv2.RETR_CCOMP,
        cv2.CHAIN_APPROX_SIMPLE,
        offset=(packed.left, packed.top),
    )
    cv2.drawContours(picture, contours, -1, color, stroke)


def _name(picture: Image, segment: SegmentMask, color: Rgb) -> None:
    """Write label and score over the upper left corner of the box, or under it where there is no room."""
    text = f"{segment.label} {segment.score:.2f}"
    height, width = picture.shape[:2]
    letter = max(_LEAST_TEXT, max(height, width) * _TEXT_PER_SIDE)
    scale, thickness = letter / _FONT_HEIGHT, max(1, round(letter / 10))
    (text_width, text_height), below = cv2.getTextSize(text, _FONT, scale, thickness)
    padding = round(letter * _PADDING)
    box_width, box_height = text_width + 2 * padding, text_height + below + 2 * padding
    left = max(0, min(segment.packed.left, width - box_width))
    top = segment.packed.top - box_height
    if top < 0:
        top = min(segment.packed.top, max(0, height - box_height))
    cv2.rectangle(picture, (left, top), (left + box_width, top + box_height), color, cv2.FILLED)
    origin = left + padding, top + padding + text_height
    cv2.putText(picture, text, origin, _FONT, scale, _readable_on(color), thickness, cv2.LINE_AA)


def _readable_on(color: Sequence[int]) -> Rgb:
    luminance: NDArray[np.float64] = np.asarray(color) @ _LUMINANCE
    return _DARK if luminance > _HALF_BRIGHT else _BRIGHT
