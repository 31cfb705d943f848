"""The files of masks: each is called as its item is, as far as that is safe."""

import base64
from pathlib import Path

from maskline.file_names import FileNames
from maskline.labelling.folder import replace_file
from maskline.results import Prediction


class MaskFiles:
    """Writes masks below a folder: ``category/NAME.png`` and ``confidence/NAME.png``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names = FileNames()

    def claim(self, item_id: str) -> str:
        """The name of an item's files; items must be named in one order."""
        return self._names.stem(item_id)

    def write(self, name: str, prediction: Prediction) -> None:
        """Write the masks of an item."""
        masks = {"category": prediction.category_mask, "confidence": prediction.confidence_mask}
        for kind, mask in masks.items():
            if mask is not None:
                path = self._folder / kind / f"{name}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                replace_file(path, base64.b64decode(mask))
