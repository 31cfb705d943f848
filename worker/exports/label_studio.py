"""Label Studio: tasks with predictions to import, and the labelling interface that they fit.

The format is that of https://labelstud.io/guide/predictions: brush strokes or, where that is wanted, polygons
in per cent of the image. A task shows the image at its item's address; an uploaded one is looked for in Label
Studio's local files, under its name in the export.
"""

from collections.abc import Iterable, Sequence
from urllib.parse import quote
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from maskline.brush_masks import to_brush
from maskline.results import AnnotationSpec, Segment
from worker.exporting.format import Export, ExportOptions
from worker.exporting.labelled_image import LabelledImage, mask_of
from worker.exporting.outlines import edge_outlines

DESCRIPTION = "Label Studio: tasks.json with predictions as brush strokes or polygons, labelling_config.xml"
CARRIES_IMAGES = False

_IMAGE, _LABELS = "image", "label"  # names of tags in the interface
_LOCAL_FILES = "/data/local-files/?d="
_WHOLE = 100  # per cent


def write(export: Export) -> None:
    """``tasks.json`` and ``labelling_config.xml``."""
    tasks = export.archive.json_list()
    for image in export.images:
        tasks.append(_task(image, export.categories.of_image(image), export.options))
    export.archive.add_chunks("tasks.json", tasks.chunks())
    export.archive.add_text("labelling_config.xml", _config(export.categories, export.options))


def _task(
    image: LabelledImage, categories: dict[int, AnnotationSpec], options: ExportOptions
) -> dict[str, object]:
    address = image.address or _LOCAL_FILES + quote(image.file_name)
    return {
        "data": {_IMAGE: address, "item_id": image.id},
        "predictions": [
            {
                "model_version": options.model,
                "score": image.result.mean_confidence,
                "result": [
                    region
                    for segment in image.segments
                    for region in _regions(image, segment, categories[segment.category_id], options)
                ],
            }
        ],
    }


def _regions(
    image: LabelledImage, segment: Segment, category: AnnotationSpec, options: ExportOptions
) -> list[dict[str, object]]:
    """One of the brush, or a polygon for each part."""
    kind = _kind(options)
    if options.polygons:
        width, height = image.result.width, image.result.height
        values: Sequence[dict[str, object]] = [
            {"points": [(x / width * _WHOLE, y / height * _WHOLE) for x, y in outline], "closed": True}
            for outline in edge_outlines(mask_of(segment))
        ]
    else:
        values = [{"format": "rle", "rle": to_brush(segment.segmentation)}]
    return [
        {
            "id": f"{segment.id}-{part}",
            "type": kind.lower(),
            "from_name": _LABELS,
            "to_name": _IMAGE,
            "original_width": image.result.width,
            "original_height": image.result.height,
            "image_rotation": 0,
            "score": segment.score,
            "value": {**value, kind.lower(): [category.display_name]},
        }
        for part, value in enumerate(values, 1)
    ]


def _config(categories: Iterable[AnnotationSpec], options: ExportOptions) -> str:
    view = Element("View")
    SubElement(view, "Image", name=_IMAGE, value=f"${_IMAGE}", zoom="true")
    labels = SubElement(view, _kind(options), name=_LABELS, toName=_IMAGE)
    for category in categories:
        SubElement(labels, "Label", value=category.display_name, background=category.color)
    indent(view)
    return tostring(view, encoding="unicode") + "\n"


def _kind(options: ExportOptions) -> str:
    return "PolygonLabels" if options.polygons else "BrushLabels"
