"""The categories of a whole batch, while its images come one by one."""

import re
from collections.abc import Iterable, Iterator
from itertools import chain, count

import numpy as np
from numpy.typing import NDArray

from maskline.results import BACKGROUND_ID, AnnotationSpec
from worker.colors import BACKGROUND, distinct_color
from worker.exporting.labelled_image import LabelledImage

MAX_CATEGORY_ID = 65535  #: of 16-bit masks

_NAMED_BY_NOBODY = re.compile(r"segment-[1-9][0-9]*")  # worker.segmentation_builder.segment_labels


class TooManyCategories(ValueError):
    """The batch has more categories than a mask can tell apart."""


class CategoryTable:
    """Categories by their display name, with ids and colours of the batch's own.

    The ids of an item's annotation specs are its own where labels are free: each item numbers its labels
    from 1. What holds here:

    - Annotation specs of one name are one category, whatever their ids, items and colours.
    - Ids are 1, 2, …: first those of the specs that are known beforehand, in their order; then as names come.
      An id that was given never changes, so masks may be written before the table is whole.
    - ``segment-1``, ``segment-2``, …, which stand for segments that nobody named, are all ``segment``.
    - A category has the colour of the first spec of its name; where another category has that already,
      one of its own.
    - Names are one line of printable text. Background is 0 and in no table; a category that somebody named
      ``background`` is ``background_``.
    """

    def __init__(self, annotation_specs: Iterable[AnnotationSpec] = ()) -> None:
        """``annotation_specs``: that are known beforehand; background among them counts for nothing.

        Raises:
            TooManyCategories: there are more than ``MAX_CATEGORY_ID``.
        """
        self._by_name: dict[str, AnnotationSpec] = {}
        self._colors = {BACKGROUND.color}
        for spec in annotation_specs:
            if spec.id != BACKGROUND_ID:
                self._category(spec)

    def __iter__(self) -> Iterator[AnnotationSpec]:
        """The categories, in the order of their ids."""
        return iter(self._by_name.values())

    def __len__(self) -> int:
        """How many there are."""
        return len(self._by_name)

    def of_image(self, image: LabelledImage) -> dict[int, AnnotationSpec]:
        """The categories of an image, by the ids that its own annotation specs have; new ones come in.

        Raises:
            TooManyCategories: there are more than ``MAX_CATEGORY_ID``.
        """
        return {
            spec.id: self._category(spec)
            for spec in image.result.annotation_specs
            if spec.id != BACKGROUND_ID
        }

    def ids_of_image(self, image: LabelledImage) -> NDArray[np.uint16]:
        """uint16, by the ids that may be in the image's own category mask: those of this table, 0 for none.

        Raises:
            TooManyCategories: there are more than ``MAX_CATEGORY_ID``.
        """
        ids = np.zeros(1 << image.result.bit_depth, np.uint16)
        for own_id, category in self.of_image(image).items():
            ids[own_id] = category.id
        return ids

    def _category(self, spec: AnnotationSpec) -> AnnotationSpec:
        name = category_name(spec.display_name)
        if name not in self._by_name:
            if len(self._by_name) == MAX_CATEGORY_ID:
                raise TooManyCategories(
                    f"the batch has more than {MAX_CATEGORY_ID} categories; give its prompts fewer labels"
                )
            category_id = len(self._by_name) + 1
            color = self._free_color(spec.color, category_id)
            self._colors.add(color)
            self._by_name[name] = AnnotationSpec(id=category_id, display_name=name, color=color)
        return self._by_name[name]

    def _free_color(self, wanted: str, category_id: int) -> str:
        ours = chain([wanted, distinct_color(category_id)], map(_voc_color, count(category_id)))
        return next(color for color in ours if color not in self._colors)


def _voc_color(index: int) -> str:
    """``#rrggbb`` of this index in the colour map of Pascal VOC, which has another for each of 24 bits."""
    channels = [
        sum(((index >> (3 * digit + channel)) & 1) << (7 - digit) for digit in range(8))
        for channel in range(3)
    ]
    return f"#{channels[0]:02x}{channels[1]:02x}{channels[2]:02x}"


def category_name(display_name: str) -> str:
    """The name of the category that an annotation spec of this display name belongs to."""
    printable = "".join(one if one.isprintable() else " " for one in display_name)
    name = " ".join(printable.split()) or "unnamed"
    if _NAMED_BY_NOBODY.fullmatch(name):
        return "segment"
    return f"{name}_" if name == BACKGROUND.display_name else name
