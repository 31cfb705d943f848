"""Pascal VOC: a palette PNG of categories for each image, with the labels and the list of names.

The folders are those of VOC's development kit. ``labelmap.txt`` has a line ``name:red,green,blue::`` for each
category, as CVAT and Datumaro write and read it; ``labels.txt`` has the names alone, in the order of their
ids.
"""

from collections.abc import Iterable, Iterator

from maskline.results import AnnotationSpec
from worker.colors import BACKGROUND, rgb
from worker.exporting.format import Export
from worker.exporting.palette_masks import encode_category_mask

DESCRIPTION = "Pascal VOC: a palette PNG of categories for each image, labels.txt, labelmap.txt"
CARRIES_IMAGES = False


def write(export: Export) -> None:
    """``SegmentationClass/{name}.png``, the list of names, ``labels.txt`` and ``labelmap.txt``."""
    names = export.archive.spool()
    for image in export.images:
        mask = encode_category_mask(image, export.categories)
        export.archive.add(f"SegmentationClass/{image.stem}.png", mask)
        names.write(f"{image.stem}\n")
    export.archive.add_chunks("ImageSets/Segmentation/train.txt", names.chunks())
    labels = (BACKGROUND, *export.categories)
    export.archive.add_text("labels.txt", "".join(f"{label.display_name}\n" for label in labels))
    export.archive.add_text("labelmap.txt", "".join(_lines_of_map(labels)))


def _lines_of_map(labels: Iterable[AnnotationSpec]) -> Iterator[str]:
    yield "# label:color_rgb:parts:actions\n"
    for label in labels:
        red, green, blue = rgb(label.color)
        yield f"{_plain(label)}:{red},{green},{blue}::\n"


def _plain(label: AnnotationSpec) -> str:
    """A name without what the label map writes between names; made so, it ends in the category's id."""
    if ":" not in label.display_name and not label.display_name.startswith("#"):
        return label.display_name
    return f"{label.display_name.replace(':', '_').replace('#', '_')}-{label.id}"
