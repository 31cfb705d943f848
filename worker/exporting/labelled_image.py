"""An image of a batch with its labels, as an export sees it."""

import base64
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from maskline.batch_results import ItemResult
from maskline.results import Segment
from worker.family import CategoryMap, ConfidenceMap
from worker.masks import decode_rle
from worker.packed_mask import Mask


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelledImage:
    """An item with its result. Masks are decoded anew at each call; what is not asked for costs nothing."""

    number: int
    """1, 2, … within the export."""
    file_name: str
    """Of the image, safe and relative; no other image's of the export, without its extension too."""
    result: ItemResult
    """The item's line of results."""
    image_bytes: Callable[[], bytes]
    """Loads the image's file; called by formats that carry the images alone."""

    @property
    def id(self) -> str:
        """The item's id."""
        return self.result.id

    @property
    def stem(self) -> str:
        """The file name without its extension."""
        return self.file_name.rpartition(".")[0]

    @property
    def address(self) -> str | None:
        """The image's URL or URI, as the item has it; None: it was uploaded."""
        instance = self.result.instance
        address = instance.get("image") if isinstance(instance, dict) else None
        return address if isinstance(address, str) else None

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The segments that are not empty."""
        return tuple(segment for segment in self.result.segments if segment.area)

    def category_mask(self) -> CategoryMap:
        """uint8 or uint16 (H, W): ids of the item's own annotation specs, 0 is background.

        Raises:
            ValueError: the prediction has none.
        """
        mask = self._decoded(self.result.prediction.category_mask, "category")
        return mask.astype(np.uint8) if self.result.bit_depth == 8 else mask.astype(np.uint16)

    def confidence_mask(self) -> ConfidenceMap:
        """uint8 (H, W): 0 no confidence .. 255 complete confidence.

        Raises:
            ValueError: the prediction has none.
        """
        return self._decoded(self.result.prediction.confidence_mask, "confidence").astype(np.uint8)

    def _decoded(self, png: str | None, name: str) -> NDArray[np.generic]:
        if png is None:
            raise ValueError(f"the item {self.id!r} has no {name} mask, which this export needs")
        with PillowImage.open(BytesIO(base64.b64decode(png))) as image:
            return np.asarray(image)


def mask_of(segment: Segment) -> Mask:
    """bool (H, W), the size of the image; decoded anew at each call.

    Raises:
        ValueError: the run lengths are none, or do not fit the size.
    """
    return decode_rle(segment.segmentation)
