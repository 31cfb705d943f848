"""What the first bytes of an image say: format, size, orientation; no pixel is decoded.

Both sides read it: the API before it accepts a job, the worker before it decodes.
"""

import os
import struct
import warnings
from dataclasses import dataclass
from typing import IO, BinaryIO, Self

import pi_heif
from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError

from maskline.errors import ImageTooLarge, ImageUnreadable, UnsupportedImageType
from maskline.png_chunks import SIGNATURE
from maskline.settings import Settings

# The limits below are Maskline's own, and stricter; Pillow's would only warn.
Image.MAX_IMAGE_PIXELS = None
pi_heif.register_heif_opener()
# Pillow warns of damaged metadata, which does not concern the pixels.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

_UPRIGHT = 1
_SIDEWAYS = frozenset({5, 6, 7, 8})  # EXIF orientations that swap width and height

# Pillow's name of a format -> media type and extension
_FORMATS = {
    "JPEG": ("image/jpeg", "jpg"),
    "PNG": ("image/png", "png"),
    "WEBP": ("image/webp", "webp"),
    "TIFF": ("image/tiff", "tif"),
    "BMP": ("image/bmp", "bmp"),
    "GIF": ("image/gif", "gif"),
    "AVIF": ("image/avif", "avif"),
    "HEIF": ("image/heic", "heic"),
    "MPO": ("image/jpeg", "jpg"),  # a JPEG with more pictures behind the first, as many phones write it
}
_OPENED = [name for name in _FORMATS if name != "MPO"]  # Pillow finds an MPO while it opens a JPEG
TAKEN = "JPEG, PNG, WebP, TIFF, BMP, GIF, AVIF and HEIC"

# First bytes, whatever their case, of what people send by mistake and is not taken.
_FOREIGN = (
    (b"%PDF", "a PDF document"),
    (b"<svg", "an SVG drawing"),
    (b"<?xml", "an XML document"),
    (b"<!doctype", "a web page"),
    (b"<html", "a web page"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"8BPS", "a Photoshop document"),
    (b"\x00\x00\x01\x00", "an icon"),
    (b"\x00\x00\x00\x0cJXL ", "a JPEG XL image"),
    (b"\xff\x0a", "a JPEG XL image"),
    (b"\x00\x00\x00\x0cjP  ", "a JPEG 2000 image"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 image"),
    (b"DDS ", "a DDS image"),
    (b"qoif", "a QOI image"),
    *((b"P%d" % digit, "a Netpbm image") for digit in range(1, 8)),
)
_BEFORE_MARKUP = b"\xef\xbb\xbf \t\r\n"  # a byte order mark and white space

# Everything that Pillow and its plug-ins were seen to raise on damaged files.
DAMAGE = (
    UnidentifiedImageError,
    Image.DecompressionBombError,
    OSError,
    MemoryError,
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    EOFError,
    OverflowError,
    NotImplementedError,
    RuntimeError,
    AttributeError,
    ZeroDivisionError,
    AssertionError,
    struct.error,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageLimits:
    """The largest image that is taken."""

    max_bytes: int
    max_pixels: int
    max_side: int
    """Pixels of the longer side."""

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """The limits that the settings give."""
        return cls(
            max_bytes=settings.max_image_bytes,
            max_pixels=settings.max_image_pixels,
            max_side=settings.max_image_side,
        )

    def admit(self, height: int, width: int) -> bool:
        """Whether an image of this many pixels is taken."""
        return max(height, width) <= self.max_side and height * width <= self.max_pixels


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageHeader:
    """What an image says of itself."""

    media_type: str
    extension: str
    """Without the dot."""
    width: int
    """Of the stored picture, in pixels."""
    height: int
    orientation: int
    """EXIF orientation, 1 to 8; 1 where the image is to be taken as it is stored."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the upright picture."""
        return (self.height, self.width) if self.orientation in _SIDEWAYS else (self.width, self.height)


def read_header(file: BinaryIO, limits: ImageLimits, *, auto_orient: bool = True) -> ImageHeader:
    """The header of an image; ``file`` is read from its beginning and left anywhere.

    Raises:
        ImageUnreadable: these are not the bytes of an image, or its header is damaged.
        UnsupportedImageType: it is something that Maskline does not take.
        ImageTooLarge: it is over one of the limits.
    """
    image = open_image(file, limits)
    media_type, extension = _FORMATS[image.format or ""]
    orientation = orientation_of(image)
    width, height = image.size
    if is_turned_by_pillow(image) and orientation in _SIDEWAYS:
        width, height = height, width
    return ImageHeader(
        media_type=media_type,
        extension=extension,
        width=width,
        height=height,
        orientation=orientation if auto_orient else _UPRIGHT,
    )


def open_image(file: BinaryIO, limits: ImageLimits) -> ImageFile.ImageFile:
    """The image, opened and checked against the limits, with no pixel decoded.

    Raises:
        ImageUnreadable: these are not the bytes of an image, or its header is damaged.
        UnsupportedImageType: it is something that Maskline does not take.
        ImageTooLarge: it is over one of the limits.
    """
    size = file.seek(0, 2)
    file.seek(0)
    if size == 0:
        raise ImageUnreadable(f"the image is empty; send the bytes of a file ({TAKEN})")
    if size > limits.max_bytes:
        raise ImageTooLarge(f"the image is {size} bytes; at most {limits.max_bytes} are taken")
    start = file.read(16)
    file.seek(0)
    try:
        image = Image.open(file, formats=_OPENED)
    except DAMAGE as error:
        if name := _foreign_type(start):
            raise UnsupportedImageType(f"this is {name}; {TAKEN} are taken") from error
        raise ImageUnreadable(f"the bytes are no image that can be read; {TAKEN} are taken") from error
    _check_size(image, limits)
    return image


def orientation_of(image: ImageFile.ImageFile) -> int:
    """EXIF orientation, 1 to 8; 1 where there is none, or a damaged one."""
    try:
        exif = _exif_of_png(image) if image.format == "PNG" else image.getexif()
        orientation = exif.get(ExifTags.Base.Orientation, _UPRIGHT)
    except DAMAGE:
        return _UPRIGHT
    return orientation if orientation in range(1, 9) else _UPRIGHT


def _exif_of_png(image: ImageFile.ImageFile) -> Image.Exif:
    """The EXIF data; to find those behind the pixels, Pillow's own method would decode all of these."""
    if "exif" not in image.info and image.fp is not None and (body := _exif_chunk(image.fp)):
        image.info["exif"] = b"Exif\x00\x00" + body
    return Image.Image.getexif(image)


def _exif_chunk(file: IO[bytes]) -> bytes:
    """The body of a PNG's eXIf chunk, empty where it has none; the file's position is kept."""
    position = file.tell()
    file.seek(len(SIGNATURE))
    body = b""
    while not body and len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind == b"eXIf":
            body = file.read(length)
        else:
            file.seek(length + 4, os.SEEK_CUR)  # past the checksum
    file.seek(position)
    return body


def is_turned_by_pillow(image: Image.Image) -> bool:
    """Whether Pillow itself turns images of this format upright; the size is then that of the upright one."""
    return image.format == "TIFF"


def _foreign_type(start: bytes) -> str | None:
    """What a file with these first bytes is, where that is known and not taken."""
    text = start.lstrip(_BEFORE_MARKUP).lower()
    for magic, name in _FOREIGN:
        if text.startswith(magic.lower()) or start.startswith(magic):
            return name
    return None


def _check_size(image: Image.Image, limits: ImageLimits) -> None:
    width, height = image.size
    if width < 1 or height < 1:
        raise ImageUnreadable("the image has no pixels")
    if max(width, height) > limits.max_side:
        raise ImageTooLarge(
            f"the image is {width} x {height} pixels; no side may be longer than {limits.max_side}"
        )
    if width * height > limits.max_pixels:
        raise ImageTooLarge(
            f"the image has {width} x {height} = {width * height} pixels; at most "
            f"{limits.max_pixels} are taken"
        )
