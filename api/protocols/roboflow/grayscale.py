"""A category mask with one channel.

Clients read it with libraries that give a palette's colours instead of its numbers. A palette PNG becomes a
gray one without a look at its pixels: they are written the same way.
"""

import struct
import zlib
from collections.abc import Iterator

_SIGNATURE_BYTES = 8
_COLOR_TYPE = 9  # where it is in the header's body
_PALETTE, _GRAYSCALE = 3, 0


def to_grayscale(png: bytes) -> bytes:
    """The PNG, with its palette taken away; one without a palette as it is."""
    chunks = list(_chunks(png))
    _, header = chunks[0]
    if header[_COLOR_TYPE] != _PALETTE:
        return png
    gray = header[:_COLOR_TYPE] + bytes([_GRAYSCALE]) + header[_COLOR_TYPE + 1 :]
    kept = [(kind, body) for kind, body in chunks[1:] if kind not in (b"PLTE", b"tRNS")]
    return png[:_SIGNATURE_BYTES] + b"".join(_chunk(kind, body) for kind, body in ((b"IHDR", gray), *kept))


def _chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = _SIGNATURE_BYTES
    while at < len(png):
        length, kind = struct.unpack_from(">I4s", png, at)
        yield kind, png[at + 8 : at + 8 + length]
        at += 12 + length


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
