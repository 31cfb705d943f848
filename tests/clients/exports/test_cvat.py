"""CVAT for images, read by Datumaro and by CVAT's own SDK."""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from cvat_sdk.masks import encode_mask
from datumaro.components.annotation import AnnotationType, Mask, Polygon
from datumaro.components.dataset import Dataset
from pycocotools import mask as coco
from scipy.ndimage import binary_fill_holes

from tests.clients.exports.conftest import Unpack
from tests.labelled_images import iou
from worker.exporting.categories import category_name
from worker.exporting.format import ExportOptions
from worker.exporting.labelled_image import LabelledImage, mask_of


def read(folder: Path, images: list[LabelledImage]) -> Dataset:
    """Datumaro wants the images beside the document, as CVAT's own export has them."""
    (folder / "images").mkdir()
    for image in images:
        (folder / "images" / image.file_name).write_bytes(image.image_bytes())
    return Dataset.import_from(str(folder), "cvat")


def test_masks_are_equal_to_the_pixel(images: list[LabelledImage], unpack: Unpack) -> None:
    dataset = read(unpack("cvat"), images)
    labels = dataset.categories()[AnnotationType.label]
    items = {item.id: item for item in dataset}
    assert set(items) == {image.stem for image in images}
    for image in images:
        for annotation, segment in zip(items[image.stem].annotations, image.segments, strict=True):
            assert isinstance(annotation, Mask)
            assert labels[annotation.label].name == category_name(segment.label)
            assert np.array_equal(annotation.image.astype(bool), mask_of(segment))


def test_run_lengths_are_those_of_cvat(images: list[LabelledImage], unpack: Unpack) -> None:
    document = ElementTree.parse(unpack("cvat") / "annotations.xml")
    for image, element in zip(images, document.iter("image"), strict=True):
        for shape, segment in zip(element.iter("mask"), image.segments, strict=True):
            *runs, left, top, right, bottom = encode_mask(mask_of(segment))
            assert [int(run) for run in shape.attrib["rle"].split(",")] == runs
            place = [int(shape.attrib[name]) for name in ("left", "top", "width", "height")]
            assert place == [left, top, right - left + 1, bottom - top + 1]


def test_polygons_are_near_the_masks(images: list[LabelledImage], unpack: Unpack) -> None:
    dataset = read(unpack("cvat", ExportOptions(polygons=True)), images)
    for image in images:
        item = dataset.get(image.stem, "annotations")
        for segment in image.segments:
            outlines = [one.points for one in item.annotations if one.group == segment.id]
            assert all(isinstance(one, Polygon) for one in item.annotations)
            runs = coco.merge(coco.frPyObjects(outlines, image.result.height, image.result.width))
            near = iou(coco.decode(runs).astype(bool), np.asarray(binary_fill_holes(mask_of(segment))))
            assert near >= (0.99 if segment.area > 1000 else 0.9)
