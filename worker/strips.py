"""Work on large planes in strips that stay in the processor's cache from one step to the next."""

from collections.abc import Iterator

_BYTES = 1 << 18


def strip_height(row_bytes: int) -> int:
    """Rows of a strip, at least one; ``row_bytes``: of one row."""
    return max(1, _BYTES // max(1, row_bytes))


def strips(rows: int, row_bytes: int) -> Iterator[slice]:
    """Slices of the rows of a plane, top to bottom; ``row_bytes``: of one row."""
    height = strip_height(row_bytes)
    for top in range(0, rows, height):
        yield slice(top, min(top + height, rows))
