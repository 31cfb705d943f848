"""A PNG writer: for masks as small as Pillow's and many times as fast, for pictures much the same.

Masks are flat in wide areas, so the Up filter (each row less the row above) leaves almost nothing but zeros,
and a fast compressor packs those as well as a slow one. ``python -m bench.png`` measures this against Pillow.
The format is PNG's (ISO/IEC 15948): signature, IHDR, PLTE for palette images, one IDAT, IEND.
"""

import struct
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray
from zlib_ng import zlib_ng

from maskline.png_chunks import SIGNATURE, write_chunk
from worker.strips import strip_height, strips

_GRAYSCALE, _RGB, _PALETTE = 0, 2, 3  # colour types
_FILTER_UP = 2
_ISAL_LEVEL = 1  # as fast as level 0, and a quarter smaller

Rgb = tuple[int, int, int]


class _Compressor(Protocol):
    """What the compression libraries share."""

    def compress(self, data: NDArray[np.uint8], /) -> bytes: ...

    def flush(self) -> bytes: ...


def encode_palette_png(category_map: NDArray[np.uint8], palette: Sequence[Rgb]) -> bytes:
    """An 8-bit palette PNG.

    Args:
        category_map: uint8 (H, W); every value below ``len(palette)``.
        palette: at most 256 colours, 0..255 each; the index is the pixel value.

    Returns:
        The file. Run lengths pack it: a category map is made of long runs.
    """
    colors = write_chunk(b"PLTE", bytes(channel for color in palette for channel in color))
    compressor = zlib_ng.compressobj(level=1, wbits=15, strategy=zlib_ng.Z_RLE)
    return _file(category_map, _PALETTE, colors, _pack(category_map, compressor))


def encode_grayscale_png(values: NDArray[np.uint8] | NDArray[np.uint16]) -> bytes:
    """A grayscale PNG of 8 or 16 bits.

    Args:
        values: uint8 or uint16 (H, W).

    Returns:
        The file.
    """
    return _file(values, _GRAYSCALE, b"", _pack(values, isal_zlib.compressobj(_ISAL_LEVEL)))


def encode_mask_png(mask: NDArray[np.bool_]) -> bytes:
    """A black-and-white PNG of 8 bits: 255 in the mask, 0 elsewhere.

    Args:
        mask: bool (H, W).

    Returns:
        The file. Run lengths pack it, as they do a category map.
    """
    values = mask.view(np.uint8) * np.uint8(255)
    compressor = zlib_ng.compressobj(level=1, wbits=15, strategy=zlib_ng.Z_RLE)
    return _file(values, _GRAYSCALE, b"", _pack(values, compressor))


def encode_rgb_png(image: NDArray[np.uint8]) -> bytes:
    """A PNG of 8 bits a channel.

    Args:
        image: uint8 (H, W, 3), RGB.

    Returns:
        The file.
    """
    return _file(image, _RGB, b"", _pack(image, isal_zlib.compressobj(_ISAL_LEVEL)))


def _pack(values: NDArray[np.uint8] | NDArray[np.uint16], compressor: _Compressor) -> bytes:
    """The body of IDAT: each row behind its filter type, as bytes less those above, compressed."""
    big_endian = values.dtype.newbyteorder(">")
    row_bytes = values[0].nbytes
    filtered = np.empty((strip_height(row_bytes), 1 + row_bytes), np.uint8)
    filtered[:, 0] = _FILTER_UP
    above = np.zeros(row_bytes, np.uint8)
    packed = []
    for strip in strips(len(values), row_bytes):
        rows = np.ascontiguousarray(values[strip], big_endian).view(np.uint8).reshape(-1, row_bytes)
        np.subtract(rows[0], above, out=filtered[0, 1:])
        np.subtract(rows[1:], rows[:-1], out=filtered[1 : len(rows), 1:])
        above = rows[-1]
        packed.append(compressor.compress(filtered[: len(rows)]))
    packed.append(compressor.flush())
    return b"".join(packed)


def _file(values: NDArray[np.generic], color_type: int, colors: bytes, packed: bytes) -> bytes:
    height, width = values.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 8 * values.itemsize, color_type, 0, 0, 0)
    return b"".join(
        (
            SIGNATURE,
            write_chunk(b"IHDR", header),
            colors,
            write_chunk(b"IDAT", packed),
            write_chunk(b"IEND", b""),
        )
    )
