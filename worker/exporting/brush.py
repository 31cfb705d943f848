"""Run lengths of Label Studio's brush.

The format is that of the JavaScript package ``@thi.ng/rle-pack``, over the four equal channels of each pixel:
a 32-bit count of values; 5 bits, the bits of a value less 1; 4 times 4 bits, the bits that a length may have
less 1. Then runs: a bit that says that the value repeats, 2 bits that choose one of the four, the length less
1, the value.
"""

import numpy as np
from numpy.typing import NDArray

from worker.packed_mask import Mask

_VALUE_BITS = 8
_LENGTH_BITS = np.array([3, 4, 8, 16])
_LONGEST = 1 << 16
_CHANNELS = 4
_ON = 255


def encode_brush(mask: Mask) -> list[int]:
    """The mask, bool (H, W), as the bytes of Label Studio's ``rle``."""
    values, lengths = _runs(mask)
    choice = np.searchsorted(1 << _LENGTH_BITS, lengths)
    length_bits = _LENGTH_BITS[choice]
    codes = ((4 | choice) << length_bits | lengths - 1) << _VALUE_BITS | values
    header = [
        _bits(np.array([_CHANNELS * mask.size]), np.array([32])),
        _bits(np.array([_VALUE_BITS - 1]), np.array([5])),
        _bits(_LENGTH_BITS - 1, np.full(len(_LENGTH_BITS), 4)),
    ]
    bits = np.concatenate([*header, _bits(codes, 3 + length_bits + _VALUE_BITS)])
    encoded: list[int] = np.packbits(bits).tolist()
    return encoded


def _runs(mask: Mask) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Values, 0 or 255, and lengths of the runs of the mask's channels, row by row."""
    pixels = np.ravel(mask)
    starts = np.concatenate([[0], np.flatnonzero(pixels[1:] != pixels[:-1]) + 1])
    lengths = np.diff(starts, append=pixels.size) * _CHANNELS
    values = pixels[starts] * np.int64(_ON)
    pieces = -(-lengths // _LONGEST)
    ends = np.cumsum(pieces)
    pieced = np.full(ends[-1], _LONGEST)
    pieced[ends - 1] = lengths - (pieces - 1) * _LONGEST
    return np.repeat(values, pieces), pieced


def _bits(numbers: NDArray[np.int64], widths: NDArray[np.int64]) -> NDArray[np.uint8]:
    """The last ``widths`` bits of the numbers, one after another; at most 32 each."""
    bits = np.unpackbits(numbers.astype(">u4").view(np.uint8).reshape(-1, 4), axis=1)
    return bits[np.arange(32) >= 32 - widths[:, None]]
