"""YOLO segmentation: the images, and beside each a text of its segments' outlines.

The format is that of https://docs.ultralytics.com/datasets/segment/: a line is a class, from 0, and the
points of one outline as parts of the image's width and height. A segment of several parts has a line for
each. An image without segments has an empty text.
"""

from collections.abc import Iterator

import yaml

from worker.exporting.format import Export
from worker.exporting.labelled_image import LabelledImage, mask_of
from worker.exporting.outlines import pixel_outlines

DESCRIPTION = "YOLO segmentation: images, labels with outlines, data.yaml"
CARRIES_IMAGES = True

_INSIDE = 0.25  # of a pixel: readers that round come to the pixel then, and those that cut off too


def write(export: Export) -> None:
    """``images/{name}``, ``labels/{name}.txt`` and ``data.yaml``."""
    for image in export.images:
        classes = {own_id: one.id - 1 for own_id, one in export.categories.of_image(image).items()}
        export.archive.add(f"images/{_within(image.file_name)}", image.image_bytes())
        export.archive.add_text(f"labels/{_within(image.stem)}.txt", "".join(_lines(image, classes)))
    names = {category.id - 1: category.display_name for category in export.categories}
    described = {"train": "images", "val": "images", "names": names}
    export.archive.add_text("data.yaml", yaml.safe_dump(described, allow_unicode=True, sort_keys=False))


def _within(name: str) -> str:
    """The name without a folder ``images``: readers replace the last one of that name to find the labels."""
    return "/".join("images_" if part == "images" else part for part in name.split("/"))


def _lines(image: LabelledImage, classes: dict[int, int]) -> Iterator[str]:
    width, height = image.result.width, image.result.height
    for segment in image.segments:
        for outline in pixel_outlines(mask_of(segment)):
            points = " ".join(f"{(x + _INSIDE) / width:.6f} {(y + _INSIDE) / height:.6f}" for x, y in outline)
            yield f"{classes[segment.category_id]} {points}\n"
