"""Names for items' files, made from their ids, which are any text of a caller's."""

import hashlib
import re
from unicodedata import normalize
from urllib.parse import urlsplit

_PLAIN = re.compile(r"[a-z0-9][a-z0-9_-]*(\.[a-z0-9_-]+)*")
_MARK = "--"  # before a digest; no plain id has it
_DIGEST_BYTES = 10  # 80 bits: no two ids of any batch share them by chance
_LONGEST_PLAIN = 100
_LONGEST_READABLE = 40
_RESERVED = re.compile(r"(con|prn|aux|nul|(com|lpt)[0-9])(\..*)?")  # of Windows, whatever follows the dot
_SAFE_PART = re.compile(
    r"(?![. ])[^\x00-\x1f\x7f<>:\"/\\|?*\ud800-\udfff]{1,100}(?<![. ])"
)  # on any file system
_MOST_PART_BYTES = 200  # of the 255 that file systems take, so that there is room for more extensions
_MOST_PARTS = 16
_EXTENSION = re.compile(r"[a-z0-9]{1,8}")
_EXTENSION_OF_A_NAME = re.compile(r"\.([a-z0-9]{1,8})$")
_OF_IMAGES = frozenset({"avif", "bmp", "gif", "heic", "heif", "jpeg", "jpg", "png", "tif", "tiff", "webp"})
_OF_FILES = _OF_IMAGES | {"json", "txt", "xml"}  # that items' files have, and so no folder of them may


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
    return _digested(item_id)


def _digested(item_id: str) -> str:
    digest = hashlib.sha256(item_id.encode("utf-8", "surrogatepass")).digest()[:_DIGEST_BYTES].hex()
    readable = re.sub(r"[^A-Za-z0-9]+", "_", item_id).strip("_")[:_LONGEST_READABLE]
    return f"{readable or 'item'}{_MARK}{digest}"


class FileNames:
    """Names the files of many items after their ids: as they are where that is safe, and none twice.

    Folders within an id stay folders. No two names differ in case, extension or Unicode's normal form alone;
    so items must be named in one order for their names to be the same again.
    """

    def __init__(self) -> None:
        self._taken: set[int] = set()

    def image_name(self, item_id: str, extension: str) -> str:
        """The name of an item's image: its id where that can be kept, with ``extension`` if it has none."""
        stem = self.stem(item_id)
        has_own = item_id.startswith(f"{stem}.") and item_id != stem
        return item_id if has_own else f"{stem}.{extension}"

    def stem(self, item_id: str) -> str:
        """The name of an item's files without their extension, and without that of the image in its id."""
        found = _EXTENSION_OF_A_NAME.search(item_id.lower())
        is_image = found is not None and found[1] in _OF_IMAGES
        short = item_id[: -len(found[0])] if found is not None and is_image else item_id
        parts = short.split("/")
        is_safe = (
            len(parts) <= _MOST_PARTS
            and all(map(_is_safe_part, parts))
            and not any(map(_is_like_a_file, parts[:-1]))
        )
        for stem in ((short,) if is_safe else ()) + (_digested(item_id),):
            key = hash(normalize("NFC", stem).casefold())
            if key not in self._taken:
                break
        self._taken.add(key)
        return stem


def _is_safe_part(part: str) -> bool:
    return (
        _SAFE_PART.fullmatch(part) is not None
        and len(part.encode()) <= _MOST_PART_BYTES
        and _MARK not in part
        and not _RESERVED.fullmatch(part.lower())
    )


def _is_like_a_file(folder: str) -> bool:
    found = _EXTENSION_OF_A_NAME.search(folder.lower())
    return found is not None and found[1] in _OF_FILES
