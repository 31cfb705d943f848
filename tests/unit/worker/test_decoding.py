"""Image intake: what is taken, what it becomes, and what is refused."""

from io import BytesIO
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from maskline.errors import ImageTooLarge, ImageUnreadable, ServiceError, UnsupportedImageType
from maskline.image_header import ImageLimits, read_header
from tests.factories import encoded, picture
from tests.unit.worker.heic import HEIC
from worker.decoding import decode

LIMITS = ImageLimits(max_bytes=1_000_000, max_pixels=100_000, max_side=2000)
RGB = picture()
LOSSLESS = ("PNG", "BMP", "TIFF", "WEBP", "AVIF")

# Damaged metadata makes Pillow warn; the warning is not an answer to anybody.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")


def header(data: bytes, **options: Any) -> Any:
    return read_header(BytesIO(data), LIMITS, **options)


@pytest.mark.parametrize(
    ("image_format", "media_type", "options", "tolerance"),
    [
        ("JPEG", "image/jpeg", {"quality": 95, "subsampling": 0}, 40),
        ("PNG", "image/png", {}, 0),
        ("WEBP", "image/webp", {"lossless": True}, 0),
        ("TIFF", "image/tiff", {"compression": "tiff_lzw"}, 0),
        ("BMP", "image/bmp", {}, 0),
        ("AVIF", "image/avif", {"quality": 100, "subsampling": "4:4:4"}, 12),
    ],
)
def test_every_format_is_read(image_format: str, media_type: str, options: Any, tolerance: int) -> None:
    data = encoded(RGB, image_format, **options)
    seen = header(data)
    assert (seen.media_type, seen.size) == (media_type, (96, 64))
    decoded = decode(data, LIMITS)
    assert decoded.shape == (64, 96, 3)
    assert decoded.dtype == np.uint8
    assert decoded.flags.c_contiguous
    assert np.abs(decoded.astype(int) - RGB).max() <= tolerance


def test_heic_is_read() -> None:
    seen = header(HEIC)
    assert (seen.media_type, seen.size) == ("image/heic", (64, 48))
    decoded = decode(HEIC, LIMITS).astype(int)
    assert np.abs(decoded[24, 32] - (30, 60, 220)).max() < 20
    assert np.abs(decoded[4, 4] - (200, 0, 0)).max() < 20


def test_of_many_frames_the_first_counts() -> None:
    frames = [Image.fromarray(RGB), Image.fromarray(255 - RGB)]
    for image_format in ("GIF", "TIFF", "WEBP"):
        out = BytesIO()
        options = {"lossless": True} if image_format == "WEBP" else {}
        frames[0].save(out, image_format, save_all=True, append_images=frames[1:], **options)
        decoded = decode(out.getvalue(), LIMITS)
        assert np.abs(decoded.astype(int) - RGB).mean() < 12


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF"])
def test_orientation_is_that_of_pillow(orientation: int, image_format: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(RGB, image_format, exif=exif)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(BytesIO(data))).convert("RGB"))
    assert np.array_equal(decode(data, LIMITS), upright)
    assert header(data).size == upright.shape[1::-1]
    stored = np.asarray(Image.open(BytesIO(encoded(RGB, image_format))).convert("RGB"))
    assert np.array_equal(decode(data, LIMITS, auto_orient=False), stored)
    assert header(data, auto_orient=False).size == (96, 64)


def test_sixteen_bits_are_scaled_and_never_clipped() -> None:
    values = np.linspace(0, 65535, 64 * 96).reshape(64, 96).astype(np.uint16)
    for data in (encoded(values, "PNG"), encoded(values, "TIFF"), encoded(values.astype(">u2"), "TIFF")):
        decoded = decode(data, LIMITS)
        assert np.abs(decoded[..., 0] - values / 257).max() <= 0.51
        assert np.array_equal(decoded[..., 0], decoded[..., 2])


def test_other_modes_become_rgb() -> None:
    image = Image.fromarray(RGB)
    gray = np.asarray(image.convert("L"))
    assert np.array_equal(decode(encoded(gray, "PNG"), LIMITS), np.stack([gray] * 3, 2))
    for mode, image_format in (
        ("P", "PNG"),
        ("1", "PNG"),
        ("LA", "PNG"),
        ("CMYK", "TIFF"),
        ("YCbCr", "TIFF"),
    ):
        out = BytesIO()
        image.convert(mode).save(out, image_format)
        expected = np.asarray(image.convert(mode).convert("RGB"))
        assert np.abs(decode(out.getvalue(), LIMITS).astype(int) - expected).max() <= 2, mode


def test_an_adobe_cmyk_jpeg_keeps_its_colors() -> None:
    out = BytesIO()
    Image.fromarray(RGB).convert("CMYK").save(out, "JPEG", quality=95)
    assert np.abs(decode(out.getvalue(), LIMITS).astype(int) - RGB).mean() < 12


def test_transparency_is_dropped() -> None:
    alpha = np.concatenate([RGB, np.zeros((64, 96, 1), np.uint8)], 2)
    assert np.array_equal(decode(encoded(alpha, "PNG"), LIMITS), RGB)


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        (b"", ImageUnreadable, "empty"),
        (b"\x00" * 100, ImageUnreadable, "no image"),
        (b"%PDF-1.4", UnsupportedImageType, "PDF"),
        (b"PK\x03\x04" + bytes(40), UnsupportedImageType, "ZIP"),
        (bytes(1_000_001), ImageTooLarge, "1000000"),
        (encoded(np.zeros((400, 400), np.uint8), "PNG"), ImageTooLarge, "100000"),
        (encoded(np.zeros((1, 2001), np.uint8), "PNG"), ImageTooLarge, "2000"),
        (encoded(RGB, "ICO"), UnsupportedImageType, "icon"),
        (encoded(RGB, "PPM"), UnsupportedImageType, "Netpbm"),
    ],
)
def test_what_is_refused_by_its_header(data: bytes, error: type[ServiceError], words: str) -> None:
    with pytest.raises(error, match=words):
        header(data)
    with pytest.raises(error, match=words):
        decode(data, LIMITS)


@pytest.mark.parametrize("image_format", [*LOSSLESS, "JPEG", "GIF"])
def test_a_cut_file_is_no_image(image_format: str) -> None:
    data = encoded(RGB, image_format)
    for part in (0.3, 0.6, 0.9):
        with pytest.raises(ImageUnreadable):
            decode(data[: int(len(data) * part)], LIMITS)


@settings(max_examples=400)
@given(
    st.sampled_from([encoded(RGB, name) for name in (*LOSSLESS, "JPEG", "GIF")]),
    st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=30),
    st.floats(0.02, 1),
)
def test_damage_gives_an_image_or_a_clear_error(
    data: bytes, changes: list[tuple[float, int]], kept: float
) -> None:
    damaged = bytearray(data[: max(1, int(len(data) * kept))])
    for position, value in changes:
        damaged[int(position * len(damaged))] = value
    try:
        decoded = decode(bytes(damaged), LIMITS)
    except (ImageUnreadable, ImageTooLarge, UnsupportedImageType):
        return
    assert decoded.ndim == 3
    assert decoded.shape[0] * decoded.shape[1] <= LIMITS.max_pixels


@given(st.binary(max_size=200))
def test_any_bytes_are_an_image_or_a_clear_error(data: bytes) -> None:
    with pytest.raises((ImageUnreadable, UnsupportedImageType, ImageTooLarge)):
        decode(data, LIMITS)
