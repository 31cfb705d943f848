"""Binary masks as COCO writes them, and their run lengths, read with care: they may come from anybody."""

from collections.abc import Iterator
from typing import Annotated, Self

from pydantic import Field

from maskline.wire import WireModel

MAX_SIDE = (1 << 31) - 1  #: pixels; no image format has longer sides
_MAX_BITS = 35  # of a number: enough for the difference of any two of COCO's 32-bit run lengths
_LARGEST_DIGIT = 15  # of the last character of a number; what is larger there is negative

Side = Annotated[int, Field(ge=1, le=MAX_SIDE)]


class RunLengthMask(WireModel):
    """A binary mask as COCO writes it (compressed RLE of ``pycocotools.mask``, column-major)."""

    size: tuple[Side, Side]
    """``[height, width]`` in pixels."""
    counts: str
    """COCO's compressed run lengths."""

    @classmethod
    def empty(cls, height: int, width: int) -> Self:
        """The mask of this size without a pixel on the object: one run, beside it."""
        left, counts = height * width, ""
        while left > _LARGEST_DIGIT:
            counts += chr(ord("0") + (left & 31 | 32))
            left >>= 5
        return cls(size=(height, width), counts=counts + chr(ord("0") + left))

    def run_lengths(self) -> list[int]:
        """How many pixels are beside the object, then on it, then beside it, and so on, column by column.

        Written in Python alone, for ``pycocotools`` may read and write beyond its memory when ``counts``
        is wrong. It takes time in proportion to the length of ``counts``, so it is left to those who need the
        pixels, and is no part of the model's own validation.

        Returns:
            lengths of 0 or more, whose sum is the number of the mask's pixels.

        Raises:
            ValueError: ``counts`` is not of that form, or does not fit ``size``; in words for the client.
        """
        lengths: list[int] = []
        for number in _numbers(self.counts):
            length = number + lengths[-2] if len(lengths) > 2 else number
            if length < 0:
                raise ValueError(f"run {len(lengths)} is {length} pixels long; none can be shorter than 0")
            lengths.append(length)
        height, width = self.size
        covered, pixels = sum(lengths), height * width
        if covered != pixels:
            raise ValueError(
                f"the runs add up to {covered} pixels; a mask of {width} x {height} pixels has {pixels}"
            )
        return lengths


def _numbers(counts: str) -> Iterator[int]:
    """The numbers of a text, in two's complement: five bits in a character, the lowest first; a sixth bit
    says that the number goes on.

    Raises:
        ValueError: they end in the middle of a number, or one of the characters can't be where it is.
    """
    value = bits = 0
    for position, character in enumerate(counts):
        digit = ord(character) - ord("0")
        if not 0 <= digit < 64:
            raise ValueError(
                f"the character {character!r} at {position} is none of COCO's compressed run lengths, "
                "which are written from '0' to 'o'"
            )
        if bits == _MAX_BITS:
            raise ValueError(f"the number that goes on at {position} has more than {_MAX_BITS} bits")
        value |= (digit & 31) << bits
        bits += 5
        if digit < 32:
            yield value - (1 << bits) if digit & 16 else value
            value = bits = 0
    if bits:
        raise ValueError("the counts are cut off in the middle of a number")
