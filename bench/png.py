"""The PNG writer against Pillow's default, on masks of 12 megapixels."""

from io import BytesIO

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bench.figure import Figure, print_figures, ratio
from worker.colors import distinct_color, rgb
from worker.png import encode_grayscale_png, encode_palette_png

HEIGHT, WIDTH = 3000, 4000
CATEGORIES = 11


def category_map() -> NDArray[np.uint8]:
    """uint8 (3000, 4000): eleven categories as smooth blobs, as a segmentation has them."""
    rng = np.random.default_rng(0)
    coarse = rng.random((CATEGORIES, 6, 8)).astype(np.float32)
    planes = [cv2.resize(plane, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC) for plane in coarse]
    return np.argmax(planes, axis=0).astype(np.uint8)


def confidence_map() -> NDArray[np.uint8]:
    """uint8 (3000, 4000): smooth, sure inside the regions and unsure along their edges."""
    rng = np.random.default_rng(1)
    coarse = rng.random((CATEGORIES, 6, 8)).astype(np.float32)
    planes = np.stack([cv2.resize(plane, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC) for plane in coarse])
    planes.sort(axis=0)
    margin = planes[-1] - planes[-2]
    return np.rint(255 * (1 - np.exp(-8 * margin))).astype(np.uint8)


def pillow(values: NDArray[np.uint8], palette: list[tuple[int, int, int]] | None = None) -> bytes:
    """The file as Pillow writes it by default."""
    image = Image.fromarray(values)
    if palette is not None:
        image.putpalette([channel for color in palette for channel in color])
    out = BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def measure() -> list[Figure]:
    """Speed and size of both kinds of mask."""
    categories, confidences = category_map(), confidence_map()
    palette = [rgb(distinct_color(i + 1)) for i in range(CATEGORIES)]
    figures = []
    for name, theirs, ours, size in (
        (
            "category mask PNG",
            lambda: pillow(categories, palette),
            lambda: encode_palette_png(categories, palette),
            1.1,
        ),
        ("confidence mask PNG", lambda: pillow(confidences), lambda: encode_grayscale_png(confidences), 1.4),
    ):
        figures += [
            Figure(
                name=f"{name} 4000x3000, times faster than Pillow",
                measured=ratio(theirs, ours),
                target=10,
                unit="x",
                better="higher",
            ),
            Figure(
                name=f"{name} 4000x3000, size against Pillow's",
                measured=len(ours()) / len(theirs()),
                target=size,
                unit="x",
                better="lower",
            ),
        ]
    return figures


if __name__ == "__main__":
    print_figures(measure())
