"""A category mask with one channel.

Clients read it with libraries that give a palette's colours instead of its numbers. A palette PNG becomes a
gray one without a look at its pixels: they are written the same way.
"""

from maskline.png_chunks import SIGNATURE, read_chunks, write_chunk

_COLOR_TYPE = 9  # where it is in the header's body
_PALETTE, _GRAYSCALE = 3, 0


def to_grayscale(png: bytes) -> bytes:
    """The PNG, with its palette taken away; one without a palette as it is."""
    chunks = list(read_chunks(png))
    _, header = chunks[0]
    if header[_COLOR_TYPE] != _PALETTE:
        return png
    gray = header[:_COLOR_TYPE] + bytes([_GRAYSCALE]) + header[_COLOR_TYPE + 1 :]
    kept = [(kind, body) for kind, body in chunks[1:] if kind not in (b"PLTE", b"tRNS")]
    return SIGNATURE + b"".join(write_chunk(kind, body) for kind, body in ((b"IHDR", gray), *kept))
