"""CVAT for images 1.1: one XML document with masks or, where that is wanted, polygons.

The format is that of https://docs.cvat.ai/docs/other/xml_format. CVAT finds an image by its name, so a task
has to be made of images that are named as in the export. A segment's polygons are one group.
"""

from collections.abc import Iterable, Iterator
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import numpy as np

from maskline.results import AnnotationSpec, Segment
from worker.exporting.format import Export, ExportOptions
from worker.exporting.labelled_image import LabelledImage, mask_of
from worker.exporting.outlines import edge_outlines
from worker.packed_mask import Mask, PackedMask

DESCRIPTION = "CVAT for images 1.1: annotations.xml with masks or polygons"
CARRIES_IMAGES = False

_BEGINNING = '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n'
_END = "</annotations>\n"


def write(export: Export) -> None:
    """``annotations.xml``."""
    images = export.archive.spool()
    count = 0
    for image in export.images:
        count += 1
        images.write(_text(_image(image, export.categories.of_image(image), export.options)))
    meta = _text(_meta(export.categories, count, export.options))
    export.archive.add_chunks("annotations.xml", _document(meta, images.chunks()))


def _document(meta: str, images: Iterator[bytes]) -> Iterator[bytes]:
    yield (_BEGINNING + meta).encode()
    yield from images
    yield _END.encode()


def _text(element: Element) -> str:
    indent(element)
    return tostring(element, encoding="unicode") + "\n"


def _meta(categories: Iterable[AnnotationSpec], count: int, options: ExportOptions) -> Element:
    meta = Element("meta")
    task = SubElement(meta, "task")
    SubElement(task, "name").text = options.model
    SubElement(task, "size").text = str(count)
    SubElement(task, "mode").text = "annotation"
    labels = SubElement(task, "labels")
    for category in categories:
        label = SubElement(labels, "label")
        SubElement(label, "name").text = category.display_name
        SubElement(label, "color").text = category.color
        SubElement(label, "type").text = "polygon" if options.polygons else "mask"
        SubElement(label, "attributes")
    return meta


def _image(image: LabelledImage, categories: dict[int, AnnotationSpec], options: ExportOptions) -> Element:
    element = Element(
        "image",
        id=str(image.number - 1),
        name=image.file_name,
        width=str(image.result.width),
        height=str(image.result.height),
    )
    for segment in image.segments:
        common = {
            "label": categories[segment.category_id].display_name,
            "source": "auto",
            "occluded": "0",
            "z_order": "0",
        }
        shapes = _polygons(segment) if options.polygons else [("mask", _run_lengths(mask_of(segment)))]
        for tag, attributes in shapes:
            SubElement(element, tag, {**common, **attributes})
    return element


def _polygons(segment: Segment) -> list[tuple[str, dict[str, str]]]:
    return [
        (
            "polygon",
            {"points": ";".join(f"{x:.2f},{y:.2f}" for x, y in outline), "group_id": str(segment.id)},
        )
        for outline in edge_outlines(mask_of(segment))
    ]


def _run_lengths(mask: Mask) -> dict[str, str]:
    """Of the bounding box, row by row, beside the segment first."""
    packed = PackedMask.pack(mask)
    pixels = np.concatenate([[False], packed.box().ravel()])
    starts = np.concatenate([[0], np.flatnonzero(pixels[1:] != pixels[:-1])])
    lengths = np.diff(starts, append=pixels.size - 1)
    return {
        "rle": ", ".join(map(str, lengths.tolist())),
        "left": str(packed.left),
        "top": str(packed.top),
        "width": str(packed.columns),
        "height": str(packed.rows),
    }
