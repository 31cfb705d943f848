"""Polygons as run lengths, to the pixel as COCO's own tools fill them.

The rules are those of ``rleFrPoly`` in pycocotools' maskApi.c: corners are rounded to a fifth of a pixel,
edges are drawn between them, and where an edge goes through the middle of a column of pixels, the column
changes from beside the object to on it, or back. Only those places are looked at here, so that Python is fast
enough.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import ceil

from maskline.run_lengths import RunLengthMask

_STEPS = 5  # of a pixel
_MIDDLE = 2  # a column's middle is between this step and the next


def fill_polygons(polygons: Sequence[Sequence[float]], width: int, height: int) -> RunLengthMask:
    """A mask of this size, in pixels, that is on the object where any of the polygons is.

    A polygon is ``[x1, y1, x2, y2, …]`` in pixels, with three corners or more; what is outside the mask is
    cut off.
    """
    filled: list[tuple[int, int]] = []
    for polygon in polygons:
        changes = sorted(_changes(polygon, width, height))
        if len(changes) % 2:
            changes.append(width * height)
        filled += zip(changes[::2], changes[1::2], strict=True)
    lengths: list[int] = []
    end = 0
    for first, beyond in sorted(filled):
        if beyond <= end or beyond == first:
            continue
        if first > end or not lengths:
            lengths += [first - end, 0]
            end = first
        lengths[-1] += beyond - end
        end = beyond
    if end < width * height:
        lengths.append(width * height - end)
    return RunLengthMask.of_run_lengths(height, width, lengths)


def _changes(polygon: Sequence[float], width: int, height: int) -> Iterator[int]:
    """Pixels, counted down the columns, at which a column changes."""
    steps = [int(_STEPS * number + 0.5) for number in polygon]
    corners = list(zip(steps[::2], steps[1::2], strict=True))
    for (x, y), (x_next, y_next) in pairwise([*corners, corners[0]]):
        for column, step in _crossings(x, y, x_next, y_next, width):
            row = (step + 0.5) / _STEPS - 0.5
            yield column * height + ceil(min(max(row, 0), height))


def _crossings(x: int, y: int, x_next: int, y_next: int, width: int) -> Iterator[tuple[int, int]]:
    """Where an edge goes through the middle of columns: the column, and how far down, in steps."""
    is_flat = abs(x_next - x) >= abs(y_next - y)
    if (x > x_next) if is_flat else (y > y_next):
        x, y, x_next, y_next = x_next, y_next, x, y
    left, right = min(x, x_next), max(x, x_next)
    first = max(0, -((_MIDDLE - left) // _STEPS))
    last = min(width - 1, (right - 1 - _MIDDLE) // _STEPS)
    for column in range(first, last + 1):
        middle = column * _STEPS + _MIDDLE
        if is_flat:
            slope = (y_next - y) / (x_next - x)
            yield column, min(int(y + slope * (middle + n - x) + 0.5) for n in (0, 1))
        else:
            yield column, y + _steps_down(x, middle, (x_next - x) / (y_next - y)) - 1


def _steps_down(x: int, middle: int, slope: float) -> int:
    """After how many steps down an edge that begins at ``x`` is drawn beyond a column's middle."""

    def is_beyond(steps: int) -> bool:
        drawn = int(x + slope * steps + 0.5)
        return drawn > middle if slope > 0 else drawn <= middle

    steps = max(1, ceil((middle + 0.5 - x) / slope))
    while steps > 1 and is_beyond(steps - 1):  # the division was rounded
        steps -= 1
    while not is_beyond(steps):
        steps += 1
    return steps
