"""The files of masks: each is called as its item is, as far as that is safe."""

import base64
import hashlib
import re
from pathlib import Path, PurePosixPath

from maskline.datasets.folder import is_image_name
from maskline.labelling.folder import replace_file
from maskline.results import Prediction

_SAFE_PART = re.compile(r"(?!\.)[^\x00-\x1f\x7f<>:\"/\\|?*]{1,200}(?<![. ])")
_MOST_PARTS = 16


class MaskFiles:
    """Writes masks below a folder: ``category/…`` and ``confidence/…``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._taken: dict[str, str] = {}

    def claim(self, item_id: str) -> PurePosixPath:
        """The name of an item's files, below their folders: that of its image with ``.png``.

        Of two images whose names differ in the extension alone (or in case alone) the one that comes later is
        called by its whole name, so items must be claimed in one order.
        """
        whole = _safe(item_id)
        short = whole.with_suffix("") if is_image_name(whole.name) else whole
        for name in (short, whole, _digest(item_id)):
            if self._taken.setdefault(str(name).lower(), item_id) == item_id:
                return name.with_name(f"{name.name}.png")
        raise AssertionError(item_id)

    def write(self, name: PurePosixPath, prediction: Prediction) -> None:
        """Write the masks of an item."""
        for kind, mask in (
            ("category", prediction.category_mask),
            ("confidence", prediction.confidence_mask),
        ):
            if mask is not None:
                path = self._folder / kind / name
                path.parent.mkdir(parents=True, exist_ok=True)
                replace_file(path, base64.b64decode(mask))


def _safe(item_id: str) -> PurePosixPath:
    """The id as a path that stays within its folder on any system."""
    parts = item_id.split("/")
    is_safe = len(parts) <= _MOST_PARTS and all(_SAFE_PART.fullmatch(part) for part in parts)
    return PurePosixPath(*parts) if is_safe else _digest(item_id)


def _digest(item_id: str) -> PurePosixPath:
    readable = re.sub(r"[^A-Za-z0-9]+", "_", item_id).strip("_")[:40]
    return PurePosixPath(f"{readable}-{hashlib.sha256(item_id.encode()).hexdigest()[:20]}")
