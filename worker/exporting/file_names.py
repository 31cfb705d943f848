"""Names for an item's files, made from its id, which is any text of a caller's."""

import hashlib
import re
from urllib.parse import urlsplit

_PLAIN = re.compile(r"[a-z0-9][a-z0-9_-]*(\.[a-z0-9_-]+)*")
_MARK = "--"  # before a digest; no plain id has it
_DIGEST_BYTES = 10  # 80 bits: no two ids of any batch share them by chance
_LONGEST_PLAIN = 100
_LONGEST_READABLE = 40
_RESERVED = re.compile(r"(con|prn|aux|nul|(com|lpt)[0-9])(\..*)?")  # of Windows, whatever follows the dot
_EXTENSION = re.compile(r"[a-z0-9]{1,8}")
_EXTENSION_OF_A_NAME = re.compile(r"\.([a-z0-9]{1,8})$")
_OF_IMAGES = frozenset({"avif", "bmp", "gif", "heic", "heif", "jpeg", "jpg", "png", "tif", "tiff", "webp"})


def file_name(item_id: str, extension: str) -> str:
    """The name of an item's image in an export.

    An id of lower-case ASCII letters, digits, ``_``, ``-`` and single dots within is kept as it is. Of any
    other, what can be kept stands before a digest of the whole id: ``IMG_7--5d41402abc4b2a76b971.jpg``. So
    names are safe in a folder of any file system, and two ids never share one, not even where case does
    not count.

    Args:
        item_id: any text.
        extension: of the image's type, without the dot, in lower case.

    Returns:
        ASCII, at most 109 characters, without a slash.

    Raises:
        ValueError: the extension is none.
    """
    if not _EXTENSION.fullmatch(extension):
        raise ValueError(f"the extension {extension!r}: give 1 to 8 of a to z and 0 to 9")
    return f"{_stem(item_id)}.{extension}"


def extension_of(address: str) -> str:
    """The extension of the image at a URL or URI, in lower case; ``jpg`` where it names none of an image."""
    found = _EXTENSION_OF_A_NAME.search(urlsplit(address).path.lower())
    return found[1] if found and found[1] in _OF_IMAGES else "jpg"


def _stem(item_id: str) -> str:
    if (
        len(item_id) <= _LONGEST_PLAIN
        and _PLAIN.fullmatch(item_id)
        and _MARK not in item_id
        and not _RESERVED.fullmatch(item_id)
    ):
        return item_id
    digest = hashlib.sha256(item_id.encode("utf-8", "surrogatepass")).digest()[:_DIGEST_BYTES].hex()
    readable = re.sub(r"[^A-Za-z0-9]+", "_", item_id).strip("_")[:_LONGEST_READABLE]
    return f"{readable or 'item'}{_MARK}{digest}"
