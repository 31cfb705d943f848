"""COCO panoptic: a PNG for each image, whose colours are the numbers of its segments, and one JSON document.

The format is that of https://cocodataset.org/#format-data: a pixel of segment N has red + 256 green + 65536
blue = N; 0 is unlabelled. Every pixel has the category that the category mask gives it. Segments that overlap
share their pixels out (``worker.exporting.panoptic``); a category of stuff is one segment of an image.
"""

from collections.abc import Iterable

import cv2
import numpy as np
from numpy.typing import NDArray

from maskline.results import AnnotationSpec
from worker.colors import rgb
from worker.exporting.format import Export, ExportOptions
from worker.exporting.panoptic import Region, divide
from worker.png import encode_rgb_png

DESCRIPTION = "COCO panoptic: panoptic.json, and a PNG of segment numbers for each image"
CARRIES_IMAGES = False

_FOLDER = "panoptic"  # as the name of the document, where panopticapi looks for it


def write(export: Export) -> None:
    """``panoptic.json`` and ``panoptic/{name}.png``."""
    images, annotations = export.archive.json_list(), export.archive.json_list()
    for image in export.images:
        numbers, regions = divide(image, export.categories, export.options.is_thing)
        export.archive.add(f"{_FOLDER}/{image.stem}.png", encode_rgb_png(_colors(numbers)))
        images.append(
            {
                "id": image.number,
                "file_name": image.file_name,
                "width": image.result.width,
                "height": image.result.height,
                "item_id": image.id,
            }
        )
        annotations.append(
            {
                "image_id": image.number,
                "file_name": f"{image.stem}.png",
                "segments_info": [_described(region, numbers) for region in regions],
            }
        )
    document = {
        "info": {"description": f"Segmented by {export.options.model}"},
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": _categories(export.categories, export.options),
    }
    export.archive.add_json("panoptic.json", document)


def _colors(numbers: NDArray[np.int32]) -> NDArray[np.uint8]:
    """uint8 (H, W, 3), RGB."""
    low_first = numbers.astype("<u4").view(np.uint8).reshape(*numbers.shape, 4)
    return low_first[..., :3]


def _described(region: Region, numbers: NDArray[np.int32]) -> dict[str, object]:
    mask = (numbers == region.number).view(np.uint8)
    described: dict[str, object] = {
        "id": region.number,
        "category_id": region.category.id,
        "area": cv2.countNonZero(mask),
        "bbox": cv2.boundingRect(mask),
        "iscrowd": 0,
    }
    if region.score is not None:
        described["score"] = region.score
    return described


def _categories(categories: Iterable[AnnotationSpec], options: ExportOptions) -> list[dict[str, object]]:
    return [
        {
            "id": category.id,
            "name": category.display_name,
            "supercategory": "",
            "isthing": int(options.is_thing(category)),
            "color": rgb(category.color),
        }
        for category in categories
    ]
