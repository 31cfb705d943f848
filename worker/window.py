"""A part of an image."""

from typing import NamedTuple


class Window(NamedTuple):
    """A rectangle of whole pixels; the right and lower bounds are outside it."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.bottom - self.top, self.right - self.left

    @property
    def area(self) -> int:
        """How many pixels it has."""
        height, width = self.size
        return height * width

    @property
    def slices(self) -> tuple[slice, slice]:
        """Of the rows and the columns of a plane."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def shifted(self, x: int, y: int) -> "Window":
        """The window that is ``x`` further to the right and ``y`` further down."""
        return Window(self.left + x, self.top + y, self.right + x, self.bottom + y)
