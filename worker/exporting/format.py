"""What an export format must offer."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from maskline.results import AnnotationSpec
from worker.exporting.archive import Archive
from worker.exporting.categories import CategoryTable
from worker.exporting.labelled_image import LabelledImage


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportOptions:
    """What was asked for, and what the batch says of its labels."""

    annotation_specs: tuple[AnnotationSpec, ...] = ()
    """Of the model, if it has categories of its own: they get the first ids, in use or not."""
    polygons: bool = False
    """Outlines in place of masks, in formats that have both."""
    semantic: bool = False
    """Whether the batch was asked for no instances: all categories are stuff then."""
    stuff: frozenset[str] = frozenset()
    """Display names of the categories that have no instances, as sky or grass."""
    model: str = "maskline"
    """Named as the maker of the labels, where a format has a place for it."""

    def is_thing(self, category: AnnotationSpec) -> bool:
        """Whether the category has instances."""
        return not self.semantic and category.display_name not in self.stuff


@dataclass(frozen=True, slots=True)
class Export:
    """What a format writes, and where."""

    images: Iterable[LabelledImage]
    """To be gone through once, and none to be kept."""
    archive: Archive
    """Empty."""
    options: ExportOptions = field(default_factory=ExportOptions)
    """Of all formats."""
    categories: CategoryTable = field(default_factory=CategoryTable)
    """Grows as images are asked for their categories, so it is whole when all were."""


class ExportFormat(Protocol):
    """The contents of a module ``worker/exports/<format>.py``."""

    DESCRIPTION: str
    """A line for people."""
    CARRIES_IMAGES: bool
    """Whether the archive has the images themselves."""

    def write(self, export: Export) -> None:
        """Write all images and labels.

        Raises:
            ValueError: a result lacks what the format needs.
            TooManyCategories: masks can't tell them apart.
        """
        ...
