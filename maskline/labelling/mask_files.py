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

    def name(self, item_id: str) -> str:
        """The name of an item's files; each item must be named once, and all in one order."""
        return self._names.stem(item_id)

    def write(self, item_id: str, prediction: Prediction) -> str:
        """Name an item, and write its masks; the name of these files."""
        name = self.name(item_id)
        masks = {"category": prediction.category_mask, "confidence": prediction.confidence_mask}
        for kind, mask in masks.items():
            if mask is not None:
                path = self._folder / kind / f"{name}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                replace_file(path, base64.b64decode(mask))
        return f"{name}.png"
