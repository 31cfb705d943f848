"""Images as no camera makes them: whole ones of every format that is taken, and what becomes of them when
they are cut, flipped, mixed up, made to lie about their size, or made to be two things at once."""

import random
import struct
import zlib
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from tests.factories import picture
from tests.unit.worker.heic import HEIC

ORIENTATION_TAG = 0x0112
_SIDEWAYS = 6
_MOST_FLIPS = 64
_HEAD_BYTES = 64
_SIZES = (0, 1, 255, 1999, 2000, 2001, 16_383, 30_000, 65_535, 2**20, 2**31 - 1, 2**31, 2**32 - 1)


class Hostile(NamedTuple):
    """An image that was harmed."""

    kind: str
    """Of the harm, and the format that it began with: ``truncated JPEG``."""
    data: bytes


def small_images() -> list[bytes]:
    """Whole images, a few of each format and of its forms."""
    pixels = picture()
    rgb = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = _SIDEWAYS
    gray16 = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    forms: list[tuple[Image.Image, str, dict[str, Any]]] = [
        (rgb, "JPEG", {}),
        (rgb, "JPEG", {"progressive": True, "exif": exif}),
        (rgb.convert("CMYK"), "JPEG", {"restart_marker_blocks": 2}),
        (rgb, "PNG", {"exif": exif}),
        (rgb.convert("P"), "PNG", {}),
        (gray16, "PNG", {}),
        (rgb.convert("RGBA"), "PNG", {}),
        (rgb, "WEBP", {"quality": 60}),
        (rgb, "WEBP", {"lossless": True, "exif": exif}),
        (rgb, "WEBP", {"save_all": True, "append_images": [rgb.rotate(90)]}),
        (rgb, "TIFF", {}),
        (rgb, "TIFF", {"compression": "tiff_lzw", "exif": exif}),
        (rgb, "TIFF", {"compression": "jpeg"}),
        (rgb, "TIFF", {"compression": "tiff_adobe_deflate", "save_all": True, "append_images": [rgb]}),
        (gray16, "TIFF", {}),
        (rgb, "BMP", {}),
        (rgb.convert("P"), "BMP", {}),
        (rgb, "GIF", {}),
        (rgb, "GIF", {"save_all": True, "append_images": [rgb.rotate(180)]}),
        (rgb, "AVIF", {"quality": 60}),
        (rgb, "AVIF", {"quality": 40, "exif": exif}),
    ]
    return [_saved(*form) for form in forms] + [HEIC]


def large_images(pixels: int) -> list[bytes]:
    """Whole images of so many pixels, one of each format that Pillow writes."""
    side = int(pixels**0.5)
    large = Image.fromarray(picture(side, side))
    formats = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF")
    return [_saved(large, image_format, {}) for image_format in formats]


def hostile_images(count: int, seed: int) -> Iterator[Hostile]:
    """So many harmed images, every harm on every format in turn; the same seed gives the same ones."""
    chance = random.Random(seed)
    whole = small_images()
    for number in range(count):
        name, harm = _HARMS[number % len(_HARMS)]
        data = whole[number // len(_HARMS) % len(whole)]
        yield Hostile(f"{name} {format_of(data)}", harm(data, chance, whole))


def format_of(data: bytes) -> str:
    """The format of a whole image, by its first bytes."""
    return next(name for magic, name in _MAGIC if data.startswith(magic) or data[4:].startswith(magic))


_MAGIC = (
    (b"\xff\xd8", "JPEG"),
    (b"\x89PNG", "PNG"),
    (b"RIFF", "WebP"),
    (b"II", "TIFF"),
    (b"BM", "BMP"),
    (b"GIF8", "GIF"),
    (b"ftypavif", "AVIF"),
    (b"ftypheic", "HEIC"),
)


def _saved(image: Image.Image, image_format: str, options: dict[str, Any]) -> bytes:
    out = BytesIO()
    image.save(out, image_format, **options)
    return out.getvalue()


# -- the harms: of whole bytes, a source of chance, and all the whole images


def _truncated(data: bytes, chance: random.Random, _: list[bytes]) -> bytes:
    return data[: chance.randrange(len(data))]


def _bit_flipped(data: bytes, chance: random.Random, _: list[bytes]) -> bytes:
    flipped = bytearray(data)
    reach = len(data) if chance.random() < 0.5 else min(len(data), 8 * _HEAD_BYTES)
    for _turn in range(chance.randint(1, _MOST_FLIPS)):
        flipped[chance.randrange(reach)] ^= 1 << chance.randrange(8)
    return bytes(flipped)


def _header_swapped(data: bytes, chance: random.Random, whole: list[bytes]) -> bytes:
    other = chance.choice(whole)
    length = chance.choice((2, 4, 8, 12, 16, 32, _HEAD_BYTES))
    return other[:length] + data[length:]


def _oversized(data: bytes, chance: random.Random, _: list[bytes]) -> bytes:
    width, height = chance.choice(_SIZES), chance.choice(_SIZES)
    return _RESIZERS[format_of(data)](data, width, height)


def _polyglot(data: bytes, chance: random.Random, whole: list[bytes]) -> bytes:
    other = chance.choice(
        (*whole, b"PK\x03\x04" + bytes(60), b"%PDF-1.7\n%%EOF", b"<html><script>1</script>")
    )
    middle = chance.randrange(len(data))
    return chance.choice((data + other, other + data, data[:middle] + other + data[middle:]))


def _blanked(data: bytes, chance: random.Random, _: list[bytes]) -> bytes:
    start = chance.randrange(len(data))
    length = chance.randint(1, 1 + len(data) // 4)
    filler = chance.choice((b"\x00", b"\xff"))
    return data[:start] + filler * len(data[start : start + length]) + data[start + length :]


Harm = Callable[[bytes, random.Random, list[bytes]], bytes]
_HARMS: tuple[tuple[str, Harm], ...] = (
    ("truncated", _truncated),
    ("bit-flipped", _bit_flipped),
    ("header-swapped", _header_swapped),
    ("oversized", _oversized),
    ("polyglot", _polyglot),
    ("blanked", _blanked),
)


# -- lies about the size, each where its format keeps it


def _resized_png(data: bytes, width: int, height: int) -> bytes:
    head = struct.pack(">II", width, height) + data[24:29]
    return data[:16] + head + struct.pack(">I", zlib.crc32(b"IHDR" + head)) + data[33:]


def _resized_jpeg(data: bytes, width: int, height: int) -> bytes:
    at = 2
    while data[at + 1] not in (0xC0, 0xC1, 0xC2):
        at += 2 + int.from_bytes(data[at + 2 : at + 4])
    return data[: at + 5] + struct.pack(">HH", height & 0xFFFF, width & 0xFFFF) + data[at + 9 :]


def _resized_gif(data: bytes, width: int, height: int) -> bytes:
    frame = data.index(b"\x2c", 13)
    size = struct.pack("<HH", width & 0xFFFF, height & 0xFFFF)
    return data[:6] + size + data[10 : frame + 5] + size + data[frame + 9 :]


def _resized_bmp(data: bytes, width: int, height: int) -> bytes:
    return data[:18] + struct.pack("<II", width, height) + data[26:]


def _resized_webp(data: bytes, width: int, height: int) -> bytes:
    at = 12
    while at + 18 <= len(data):
        kind, body = data[at : at + 4], at + 8
        if kind == b"VP8X":
            size = _uint24(width - 1) + _uint24(height - 1)
            data = data[: body + 4] + size + data[body + 10 :]
        elif kind == b"VP8 ":
            size = struct.pack("<HH", width & 0x3FFF, height & 0x3FFF)
            data = data[: body + 6] + size + data[body + 10 :]
        elif kind == b"VP8L":
            bits = (width - 1 & 0x3FFF) | (height - 1 & 0x3FFF) << 14
            data = data[: body + 1] + struct.pack("<I", bits) + data[body + 5 :]
        at = body + int.from_bytes(data[at + 4 : at + 8], "little")
        at += at % 2
    return data


def _uint24(value: int) -> bytes:
    return (value & 0xFFFFFF).to_bytes(3, "little")


def _resized_tiff(data: bytes, width: int, height: int) -> bytes:
    at = int.from_bytes(data[4:8], "little")
    for entry in range(int.from_bytes(data[at : at + 2], "little")):
        start = at + 2 + 12 * entry
        tag = int.from_bytes(data[start : start + 2], "little")
        if tag in (256, 257):
            value = width if tag == 256 else height
            data = data[: start + 2] + struct.pack("<HII", 4, 1, value) + data[start + 12 :]
    return data


def _resized_heif(data: bytes, width: int, height: int) -> bytes:
    at = data.index(b"ispe") + 8
    return data[:at] + struct.pack(">II", width, height) + data[at + 8 :]


_RESIZERS: dict[str, Callable[[bytes, int, int], bytes]] = {
    "JPEG": _resized_jpeg,
    "PNG": _resized_png,
    "WebP": _resized_webp,
    "TIFF": _resized_tiff,
    "BMP": _resized_bmp,
    "GIF": _resized_gif,
    "AVIF": _resized_heif,
    "HEIC": _resized_heif,
}
