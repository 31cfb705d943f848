"""COCO instances: one JSON document, with run lengths or, where that is wanted, polygons.

The format is that of https://cocodataset.org/#format-data, with a few fields more, which readers leave alone:
an image has ``item_id``, the item's id, and an annotation its ``score``. Coordinates are of the edges of
pixels.
"""

from collections.abc import Iterable
from itertools import chain

from maskline.results import AnnotationSpec, Segment
from worker.exporting.format import Export, ExportOptions
from worker.exporting.labelled_image import LabelledImage, mask_of
from worker.exporting.outlines import edge_outlines

DESCRIPTION = "COCO instances: annotations.json with run lengths or polygons"
CARRIES_IMAGES = False


def write(export: Export) -> None:
    """``annotations.json``."""
    images, annotations = export.archive.json_list(), export.archive.json_list()
    number = 0
    for image in export.images:
        categories = export.categories.of_image(image)
        images.append(_image(image))
        for segment in image.segments:
            number += 1
            annotations.append(
                {
                    "id": number,
                    "image_id": image.number,
                    "category_id": categories[segment.category_id].id,
                    "segmentation": _segmentation(segment, export.options),
                    "area": segment.area,
                    "bbox": segment.bbox,
                    "iscrowd": 0,
                    "score": segment.score,
                }
            )
    document = {
        "info": {"description": f"Segmented by {export.options.model}"},
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": _categories(export.categories),
    }
    export.archive.add_json("annotations.json", document)


def _image(image: LabelledImage) -> dict[str, object]:
    described: dict[str, object] = {
        "id": image.number,
        "file_name": image.file_name,
        "width": image.result.width,
        "height": image.result.height,
        "item_id": image.id,
    }
    if image.address is not None:
        described["coco_url"] = image.address
    return described


def _segmentation(segment: Segment, options: ExportOptions) -> object:
    if options.polygons:
        return [list(chain.from_iterable(outline)) for outline in edge_outlines(mask_of(segment))]
    return {"size": segment.segmentation.size, "counts": segment.segmentation.counts}


def _categories(categories: Iterable[AnnotationSpec]) -> list[dict[str, object]]:
    return [
        {"id": category.id, "name": category.display_name, "supercategory": ""} for category in categories
    ]
