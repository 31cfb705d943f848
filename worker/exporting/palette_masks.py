"""Category masks in ids of the whole batch."""

import numpy as np

from worker.colors import BACKGROUND
from worker.exporting.categories import CategoryTable
from worker.exporting.labelled_image import LabelledImage
from worker.masks import palette_of
from worker.png import encode_grayscale_png, encode_palette_png

_LARGEST_OF_PALETTE = 254  # VOC keeps 255 for pixels that count for nothing


def encode_category_mask(image: LabelledImage, categories: CategoryTable) -> bytes:
    """The image's category mask as a palette PNG, or 16-bit grayscale where an id is above 254.

    Raises:
        ValueError: the prediction has none.
        TooManyCategories: 16 bits are too few.
    """
    mask = categories.ids_of_image(image)[image.category_mask()]
    if mask.max() > _LARGEST_OF_PALETTE:
        return encode_grayscale_png(mask)
    in_palette = (category for category in categories if category.id <= _LARGEST_OF_PALETTE)
    return encode_palette_png(mask.astype(np.uint8), palette_of((BACKGROUND, *in_palette)))
