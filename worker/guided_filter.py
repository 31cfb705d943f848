"""The fast guided filter (He and Sun, arXiv:1505.00996): enlarges a plane, with its edges on the image's."""

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.family import Image

Plane = NDArray[np.float32]

_SMOOTHNESS = 1e-4  # epsilon of the filter, for intensities from 0 to 1
_WINDOW = (3, 3)  # at the small size


def enlarge(plane: Plane, small: Image, image: Image) -> Plane:
    """The plane at the size of ``image``: where the image is flat its mean, elsewhere linear in intensity.

    Args:
        plane: float32 (h, w), 0..1.
        small: uint8 (h, w, 3), RGB; ``image`` shrunk.
        image: uint8 (H, W, 3), RGB.

    Returns:
        float32 (H, W), 0..1.
    """
    height, width = image.shape[:2]
    if plane.shape == (height, width):
        return plane
    guide = _intensity(small)
    mean_guide, mean = _mean(guide), _mean(plane)
    variance = _mean(guide * guide) - mean_guide * mean_guide
    covariance = _mean(guide * plane) - mean_guide * mean
    slope = covariance / (variance + np.float32(_SMOOTHNESS))
    offset = mean - slope * mean_guide
    full = _resized(_mean(slope), width, height)
    full *= _intensity(image)
    full += _resized(_mean(offset), width, height)
    return np.clip(full, 0, 1, out=full)


def _intensity(image: Image) -> Plane:
    gray = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
    return np.multiply(gray, np.float32(1 / 255), dtype=np.float32)


def _mean(plane: NDArray[np.floating]) -> Plane:
    return np.asarray(cv2.blur(plane, _WINDOW, borderType=cv2.BORDER_REPLICATE), np.float32)


def _resized(plane: Plane, width: int, height: int) -> Plane:
    return np.asarray(cv2.resize(plane, (width, height)), np.float32)
