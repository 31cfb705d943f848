"""Segments that share no pixel: what panoptic formats want of masks that may overlap."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from maskline.results import AnnotationSpec
from worker.exporting.categories import CategoryTable
from worker.exporting.labelled_image import LabelledImage, mask_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Region:
    """All pixels of one number in a map of regions."""

    number: int
    """1, 2, …; its pixels have it."""
    category: AnnotationSpec
    """Of the batch."""
    score: float | None
    """Of the segment; None: it is of none."""


def divide(
    image: LabelledImage, categories: CategoryTable, is_thing: Callable[[AnnotationSpec], bool]
) -> tuple[NDArray[np.int32], list[Region]]:
    """Give each pixel of the image to one region, or to none.

    The category mask decides the category of a pixel, background included. Of the segments of that category
    that hold the pixel, the one of the best score has it. Pixels that no segment of their category holds are
    together one region more, and so are all pixels of a category that has no instances.

    Args:
        image: whose category mask and segments are divided.
        categories: of the batch.
        is_thing: whether a category has instances.

    Returns:
        int32 (H, W), the numbers of the regions, 0 for background; and the regions that have pixels.

    Raises:
        ValueError: the prediction has no category mask.
        TooManyCategories: the batch has more than a mask can tell apart.
    """
    own_ids = image.category_mask()
    by_own_id = categories.of_image(image)
    numbers = np.zeros(own_ids.shape, np.int32)
    regions: list[Region] = []
    for segment in sorted(image.segments, key=lambda one: (one.score, -one.id)):  # the best comes last
        category = by_own_id[segment.category_id]
        if is_thing(category):
            regions.append(Region(number=len(regions) + 1, category=category, score=segment.score))
            numbers[mask_of(segment) & (own_ids == segment.category_id)] = len(regions)
    rest = np.where(numbers == 0, categories.ids_of_image(image)[own_ids], 0)
    for category in sorted(set(by_own_id.values()), key=lambda one: one.id):
        regions.append(Region(number=len(regions) + 1, category=category, score=None))
        numbers[rest == category.id] = len(regions)
    pixels = np.bincount(numbers.ravel(), minlength=len(regions) + 1)
    return numbers, [region for region in regions if pixels[region.number]]
