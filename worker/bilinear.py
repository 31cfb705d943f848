"""Bilinear resizing with PyTorch's arithmetic, to the last bit, of parts of planes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
import torch
from torch.nn import functional

from worker.strips import strips
from worker.window import Window

#: Brings a plane (h, w) to a height and width.
Resize = Callable[[torch.Tensor, tuple[int, int]], torch.Tensor]


def resize(plane: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """A plane (h, w) brought to this height and width: ``interpolate`` with ``mode="bilinear"``."""
    return functional.interpolate(plane[None, None], size=size, mode="bilinear", align_corners=False)[0, 0]


def resize_part(plane: torch.Tensor, size: tuple[int, int], window: Window) -> torch.Tensor:
    """``resize(plane, size)[window.slices]``, without making the rest.

    Args:
        plane: float32 (h, w).
        size: height and width that all of it would have.
        window: in pixels of that size.
    """
    is_most = 2 * window.area > size[0] * size[1]  # then making all of it is faster
    if is_most or not is_exact_by_rows(plane, size):
        return resize(plane, size)[window.slices]
    part = torch.empty(window.size)
    if window.area == 0:
        return part
    sources = sources_of_rows(plane.shape[0], size[0])[window.top : window.bottom]
    first, last = int(sources.row[0]), int(sources.below[-1])
    wide = resize(plane[first : last + 1], (last + 1 - first, size[1]))[:, window.left : window.right]
    row, below = sources.row - first, sources.below - first
    for rows in strips(len(part), part[:1].nbytes):
        torch.mul(wide[below[rows]], sources.lower[rows], out=part[rows])
        part[rows].addcmul_(wide[row[rows]], sources.upper[rows])
    return part


@dataclass(frozen=True, slots=True)
class RowSources:
    """From which rows of a small plane each row of the large one is made."""

    row: torch.Tensor
    """int64 (H,): of the small plane, the upper of the two, in ascending order."""
    below: torch.Tensor
    """int64 (H,): the lower of the two; the same row at the lower edge."""
    upper: torch.Tensor
    """float32 (H, 1): weight of the upper row."""
    lower: torch.Tensor
    """float32 (H, 1): weight of the lower row."""

    def __getitem__(self, rows: slice) -> "RowSources":
        return RowSources(self.row[rows], self.below[rows], self.upper[rows], self.lower[rows])


def sources_of_rows(small: int, large: int) -> RowSources:
    """How ``resize`` makes ``large`` rows from ``small`` ones."""
    scale = float(np.float32(small) / np.float32(large))
    # PyTorch multiplies and subtracts 32-bit numbers with one rounding at the end, as this does.
    source = (scale * (torch.arange(large, dtype=torch.float64) + 0.5) - 0.5).float().clamp(min=0)
    row = source.long().clamp(max=small - 1)
    lower = (source - row).clamp(max=1)[:, None]
    return RowSources(row=row, below=(row + 1).clamp(max=small - 1), upper=1 - lower, lower=lower)


@dataclass(frozen=True, slots=True)
class Band:
    """Rows of the large image that lie between the same two rows of the small planes."""

    first: int
    """Of the large image's rows."""
    row: int
    """Of the small planes: the upper of the two."""
    below: int
    """The lower of the two; the same row at the lower edge."""
    upper: torch.Tensor
    """float32 (rows, 1): weight of the upper row, for each of the large image's rows."""
    lower: torch.Tensor
    """float32 (rows, 1): weight of the lower row."""


def bands(small: int, large: int) -> Iterator[Band]:
    """All rows of the large image, top to bottom."""
    sources = sources_of_rows(small, large)
    starts = [0, *(torch.nonzero(sources.row.diff()).flatten() + 1).tolist(), large]
    for first, end in pairwise(starts):
        row, below = int(sources.row[first]), int(sources.below[first])
        yield Band(first, row, below, sources.upper[first:end], sources.lower[first:end])


def is_exact_by_rows(planes: torch.Tensor, size: tuple[int, int]) -> bool:
    """Whether weighing rows as ``sources_of_rows`` says gives what ``resize`` does, to the last bit.

    PyTorch makes small results, and those of other kinds, by other kernels. ``planes``: (…, h, w).
    """
    is_plain = planes.device.type == "cpu" and planes.dtype == torch.float32
    return is_plain and size[1] > _SMALL_WIDTH and _has_same_arithmetic()


_SMALL_WIDTH = 128  # of height and width together, in fact


@cache
def _has_same_arithmetic() -> bool:
    """Whether this build of PyTorch multiplies and adds as it is done here."""
    plane = torch.randn(24, 17, generator=torch.Generator().manual_seed(0))
    sources = sources_of_rows(24, 211)
    wide = resize(plane, (24, 197))
    rows = torch.mul(wide[sources.below], sources.lower).addcmul_(wide[sources.row], sources.upper)
    return torch.equal(rows, resize(plane, (211, 197)))
