"""A picture of detections: the image, each detection tinted, outlined, and named if that is wanted.

Drawn by ``supervision``, as Roboflow's users draw theirs.
"""

from collections.abc import Iterable, Sequence

import cv2
import numpy as np
import supervision as sv
from numpy.typing import NDArray
from supervision.detection.compact_mask import CompactMask

from maskline.errors import OutputUnavailable
from maskline.requests import PictureOptions
from maskline.results import AnnotationSpec
from worker.colors import rgb
from worker.family import Image, SegmentMask
from worker.packed_mask import PackedMask

_OPACITY = 0.4
_JPEG_QUALITY = 92
_LEAST_TEXT_SCALE = 0.4  # of OpenCV's fonts: the smallest that can be read
_PADDING_PER_SCALE = 10  # pixels around a label
_BLACK, _WHITE = "#000000", "#ffffff"
_LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601
_BRIGHT = 140  # of 255; from here on black is read better than white


def render_picture(
    image: Image,
    segments: Sequence[SegmentMask],
    annotation_specs: Iterable[AnnotationSpec],
    options: PictureOptions,
) -> bytes:
    """A JPEG of the image's size.

    Args:
        image: uint8 (H, W, 3), RGB.
        segments: none is empty; the smaller is drawn over the larger.
        annotation_specs: their colours.
        options: whether there are labels, and how wide the outlines are.

    Raises:
        OutputUnavailable: a side is longer than a JPEG has it.
    """
    picture = np.ascontiguousarray(image[..., ::-1])
    if segments:
        colors = {spec.id: spec.color for spec in annotation_specs}
        _draw(picture, segments, [colors[segment.category_id] for segment in segments], options)
    is_encoded, encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    if not is_encoded:
        height, width = picture.shape[:2]
        raise OutputUnavailable(f"an image of {width} x {height} pixels can't be drawn as a JPEG")
    return encoded.tobytes()


def _draw(
    picture: NDArray[np.uint8], segments: Sequence[SegmentMask], colors: list[str], options: PictureOptions
) -> None:
    found = sv.Detections(
        xyxy=np.array([segment.packed.window for segment in segments], np.float64),
        mask=CompactMask.merge([_compact(segment.packed) for segment in segments]),
    )
    palette, lookup = sv.ColorPalette.from_hex(colors), sv.ColorLookup.INDEX
    sv.MaskAnnotator(palette, _OPACITY, lookup).annotate(picture, found)
    sv.PolygonAnnotator(palette, options.stroke, lookup).annotate(picture, found)
    if options.labels:
        height, width = picture.shape[:2]
        scale = max(_LEAST_TEXT_SCALE, sv.calculate_optimal_text_scale((width, height)))
        sv.LabelAnnotator(
            palette,
            lookup,
            text_color=sv.ColorPalette.from_hex([_readable_on(color) for color in colors]),
            text_scale=scale,
            text_thickness=max(1, round(scale)),
            text_padding=round(scale * _PADDING_PER_SCALE),
            smart_position=True,
        ).annotate(picture, found, [f"{segment.label} {segment.score:.2f}" for segment in segments])


def _compact(packed: PackedMask) -> CompactMask:
    """The mask as ``supervision`` takes it without the rest of its plane."""
    box = packed.box()
    rows, columns = box.shape
    corners = np.array([[0, 0, columns - 1, rows - 1]])  # the lower right pixel is inside
    in_box = CompactMask.from_dense(box[None], corners, (rows, columns))
    return in_box.with_offset(packed.left, packed.top, (packed.height, packed.width))


def _readable_on(color: str) -> str:
    luminance = sum(part * channel for part, channel in zip(_LUMINANCE, rgb(color), strict=True))
    return _BLACK if luminance >= _BRIGHT else _WHITE
