"""From the bytes of an image to its pixels."""

from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from maskline.errors import ImageUnreadable
from maskline.image_header import DAMAGE, ImageLimits, is_turned_by_pillow, open_image, orientation_of
from worker.family import Image

_SIXTEEN_BIT = frozenset({"I;16", "I;16L", "I;16B", "I;16N"})
_UINT16_MAX = 65535
_STRIP_ROWS = 32  # copied at a time: few enough to stay in the processor's cache
_TO_UPRIGHT = {  # EXIF orientation -> what turns the stored picture upright
    1: None,
    2: PillowImage.Transpose.FLIP_LEFT_RIGHT,
    3: PillowImage.Transpose.ROTATE_180,
    4: PillowImage.Transpose.FLIP_TOP_BOTTOM,
    5: PillowImage.Transpose.TRANSPOSE,
    6: PillowImage.Transpose.ROTATE_270,
    7: PillowImage.Transpose.TRANSVERSE,
    8: PillowImage.Transpose.ROTATE_90,
}
_TO_STORED = _TO_UPRIGHT | {6: PillowImage.Transpose.ROTATE_90, 8: PillowImage.Transpose.ROTATE_270}


def decode(data: bytes | memoryview, limits: ImageLimits, *, auto_orient: bool = True) -> Image:
    """The first picture of an image file, upright unless ``auto_orient`` is off.

    Gray, palette, CMYK and other pictures become RGB. Transparency is dropped, as ``transformers`` and
    Roboflow's server do: the colours under it count. 16-bit pictures are scaled, not clipped, to 8 bits;
    pixels that need more bits, or are fractions, have no agreed scale and are refused.

    Returns:
        uint8 (H, W, 3), RGB, C-contiguous, writable.

    Raises:
        ImageUnreadable: not an image, or damaged, or cut off.
        UnsupportedImageType: of a type that is not taken.
        ImageTooLarge: over one of the limits.
    """
    image = open_image(BytesIO(data), limits)
    orientation = orientation_of(image)
    if is_turned_by_pillow(image):
        turn = _TO_STORED[orientation] if not auto_orient else None
    else:
        turn = _TO_UPRIGHT[orientation] if auto_orient else None
    try:
        image.load()
        picture = _to_rgb(image)
        if turn is not None:
            picture = picture.transpose(turn)
        return _pixels(picture)
    except MemoryError as error:
        raise ImageUnreadable("the image needs more memory than there is") from error
    except DAMAGE as error:
        raise ImageUnreadable(f"the image is damaged or cut off: {error}") from error


def _to_rgb(image: PillowImage.Image) -> PillowImage.Image:
    if image.mode == "RGB":
        return image
    if image.mode in _SIXTEEN_BIT or image.mode == "I":
        return PillowImage.fromarray(_scaled(np.asarray(image))).convert("RGB")
    if image.mode == "F":
        raise ImageUnreadable("floating-point pixels have no scale; save the image with 8 or 16 bits")
    return image.convert("RGB")


def _scaled(values: NDArray[np.integer]) -> NDArray[np.uint8]:
    """uint8 of any integers: 0..65535 onto 0..255, to the nearest."""
    if values.min() < 0 or values.max() > _UINT16_MAX:
        raise ImageUnreadable("the pixels need more than 16 bits; save the image with 8 or 16 bits")
    return ((values.astype(np.uint32) * 255 + _UINT16_MAX // 2) // _UINT16_MAX).astype(np.uint8)


def _pixels(picture: PillowImage.Image) -> Image:
    """The pixels of an RGB picture, by strips: several times as fast as ``np.asarray(picture)``."""
    width, height = picture.size
    pixels = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, _STRIP_ROWS):
        bottom = min(height, top + _STRIP_ROWS)
        strip = picture.crop((0, top, width, bottom)).tobytes()
        pixels[top:bottom] = np.frombuffer(strip, np.uint8).reshape(-1, width, 3)
    return pixels
