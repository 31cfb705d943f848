"""A PNG writer for masks: as small as Pillow's, many times as fast.

Masks are flat in wide areas, so the Up filter (each row less the row above) leaves almost nothing but zeros,
and a fast compressor packs those as well as a slow one. ``python -m bench.png`` measures this against Pillow.
The format is PNG's (ISO/IEC 15948): signature, IHDR, PLTE for palette images, one IDAT, IEND.
"""

import struct
import zlib
from collections.abc import Sequence

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray
from zlib_ng import zlib_ng

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GRAYSCALE, _PALETTE = 0, 3  # colour types
_FILTER_UP = 2
_ISAL_LEVEL = 1  # as fast as level 0, and a quarter smaller

Rgb = tuple[int, int, int]


def encode_palette_png(category_map: NDArray[np.uint8], palette: Sequence[Rgb]) -> bytes:
    """An 8-bit palette PNG.

    Args:
        category_map: uint8 (H, W); every value below ``len(palette)``.
        palette: at most 256 colours, 0..255 each; the index is the pixel value.

    Returns:
        The file. Run lengths pack it: a category map is made of long runs.
    """
    colors = _chunk(b"PLTE", bytes(channel for color in palette for channel in color))
    compressor = zlib_ng.compressobj(level=1, wbits=15, strategy=zlib_ng.Z_RLE)
    packed = compressor.compress(_filtered(category_map)) + compressor.flush()
    return _file(category_map, _PALETTE, colors, packed)


def encode_grayscale_png(values: NDArray[np.uint8] | NDArray[np.uint16]) -> bytes:
    """A grayscale PNG of 8 or 16 bits.

    Args:
        values: uint8 or uint16 (H, W).

    Returns:
        The file.
    """
    return _file(values, _GRAYSCALE, b"", isal_zlib.compress(_filtered(values), _ISAL_LEVEL))


def _filtered(values: NDArray[np.uint8] | NDArray[np.uint16]) -> NDArray[np.uint8]:
    """uint8 (H, 1 + bytes of a row): each row behind its filter type, as bytes less those above."""
    big_endian = values.astype(values.dtype.newbyteorder(">"), copy=False)
    rows = np.ascontiguousarray(big_endian).view(np.uint8).reshape(values.shape[0], -1)
    filtered = np.empty((rows.shape[0], rows.shape[1] + 1), np.uint8)
    filtered[:, 0] = _FILTER_UP
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    return filtered


def _file(values: NDArray[np.generic], color_type: int, colors: bytes, packed: bytes) -> bytes:
    height, width = values.shape
    header = struct.pack(">IIBBBBB", width, height, 8 * values.itemsize, color_type, 0, 0, 0)
    return b"".join(
        (_SIGNATURE, _chunk(b"IHDR", header), colors, _chunk(b"IDAT", packed), _chunk(b"IEND", b""))
    )


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(body, zlib.crc32(kind)))
