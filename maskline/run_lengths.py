"""Binary masks as COCO writes them, and their run lengths, read with care: they may come from anybody."""

from collections.abc import Iterator, Sequence
from itertools import chain
from operator import sub
from typing import Annotated, Self

from pydantic import Field

from maskline.wire import WireModel

MAX_SIDE = (1 << 31) - 1  #: pixels; no image format has longer sides
_MAX_BITS = 35  # of a number: enough for the difference of any two of COCO's 32-bit run lengths

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
        return cls.of_run_lengths(height, width, [height * width])

    @classmethod
    def of_run_lengths(cls, height: int, width: int, lengths: Sequence[int]) -> Self:
        """The mask of this size with these runs, as ``run_lengths`` gives them.

        Raises:
            ValueError: a length is below 0, or they do not add up to the mask's pixels.
        """
        _check_lengths(lengths, height, width)
        differences = chain(lengths[:3], map(sub, lengths[3:], lengths[1:]))
        return cls(size=(height, width), counts="".join(map(_as_text, differences)))

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
            lengths.append(number + lengths[-2] if len(lengths) > 2 else number)
        _check_lengths(lengths, *self.size)
        return lengths


def _check_lengths(lengths: Sequence[int], height: int, width: int) -> None:
    for run, length in enumerate(lengths):
        if length < 0:
            raise ValueError(f"run {run} is {length} pixels long; none can be shorter than 0")
    covered, pixels = sum(lengths), height * width
    if covered != pixels:
        raise ValueError(
            f"the runs add up to {covered} pixels; a mask of {width} x {height} pixels has {pixels}"
        )


def _as_text(number: int) -> str:
    """A number as ``_numbers`` reads it."""
    text = ""
    while not -16 <= number < 16:
        text += chr(ord("0") + (number & 31 | 32))
        number >>= 5
    return text + chr(ord("0") + (number & 31))


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
