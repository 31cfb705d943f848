"""A mask in a bit for each pixel of its bounding box: many are held at once, of large images."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from worker.window import Window

Mask = NDArray[np.bool_]  #: (H, W)


@dataclass(frozen=True, slots=True)
class PackedMask:
    """A mask that does not change."""

    height: int
    """Of the image, in pixels."""
    width: int
    """Of the image, in pixels."""
    left: int
    """Of the bounding box."""
    top: int
    """Of the bounding box."""
    columns: int
    """Width of the bounding box."""
    bits: NDArray[np.uint8]
    """(rows of the bounding box, columns / 8 rounded up), as ``np.packbits`` makes them."""

    @classmethod
    def pack(cls, part: Mask, x: int = 0, y: int = 0, size: tuple[int, int] | None = None) -> Self:
        """The mask that is ``part`` at (x, y) of an image of this height and width, and nothing elsewhere.

        ``size``: left out, ``part`` is all of the image.
        """
        height, width = size or part.shape
        rows, columns = np.flatnonzero(part.any(axis=1)), np.flatnonzero(part.any(axis=0))
        if rows.size == 0:
            return cls(height, width, 0, 0, 0, np.zeros((0, 0), np.uint8))
        box = part[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        left, top = x + int(columns[0]), y + int(rows[0])
        return cls(height, width, left, top, box.shape[1], np.packbits(box, axis=1))

    @property
    def rows(self) -> int:
        """Height of the bounding box."""
        return self.bits.shape[0]

    @property
    def bbox(self) -> tuple[float, float, float, float]:
        """``(x, y, width, height)`` of the bounding box in pixels, as in COCO; all 0 for an empty mask."""
        return float(self.left), float(self.top), float(self.columns), float(self.rows)

    @property
    def area(self) -> int:
        """How many pixels are in it."""
        return int(np.count_nonzero(self.box()))

    @property
    def window(self) -> Window:
        """The bounding box."""
        return Window(self.left, self.top, self.left + self.columns, self.top + self.rows)

    def box(self) -> Mask:
        """bool (rows, columns): the mask inside its bounding box."""
        return np.unpackbits(self.bits, axis=1, count=self.columns).view(np.bool_)

    def unpack(self) -> Mask:
        """bool (height, width)."""
        mask = np.zeros((self.height, self.width), np.bool_)
        if self.columns:
            mask[self.window.slices] = self.box()
        return mask
