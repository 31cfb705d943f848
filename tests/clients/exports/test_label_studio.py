"""Label Studio's own reader, and its own check of predictions against a labelling interface."""

import json
from pathlib import Path

import numpy as np
import pytest
from label_studio_sdk.converter.brush import decode_rle
from label_studio_sdk.label_interface import LabelInterface
from pycocotools import mask as coco
from scipy.ndimage import binary_fill_holes

from tests.clients.exports.conftest import Unpack
from tests.labelled_images import iou
from worker.exporting.categories import category_name
from worker.exporting.format import ExportOptions
from worker.exporting.labelled_image import LabelledImage, mask_of


def test_brush_strokes_are_equal_to_the_pixel(images: list[LabelledImage], unpack: Unpack) -> None:
    tasks = json.loads((unpack("label-studio") / "tasks.json").read_text())
    for image, task in zip(images, tasks, strict=True):
        if image.result.width > 100:
            continue  # its decoder takes minutes
        assert task["data"]["item_id"] == image.id
        [prediction] = task["predictions"]
        for segment, region in zip(image.segments, prediction["result"], strict=True):
            assert region["value"]["brushlabels"] == [category_name(segment.label)]
            decoded = decode_rle(region["value"]["rle"]).reshape(image.result.height, image.result.width, 4)
            assert np.array_equal(decoded[..., 3], mask_of(segment) * np.uint8(255))


@pytest.mark.parametrize("polygons", [False, True])
def test_predictions_fit_the_labelling_interface(
    images: list[LabelledImage], unpack: Unpack, polygons: bool
) -> None:
    folder = unpack("label-studio", ExportOptions(polygons=polygons, model="grabcut"))
    interface = LabelInterface((folder / "labelling_config.xml").read_text())
    interface.validate()
    tasks = json.loads((folder / "tasks.json").read_text())
    assert len(tasks) == len(images)
    for task in tasks:
        assert interface.validate_task({"data": task["data"]})
        [prediction] = task["predictions"]
        assert interface.validate_prediction(prediction, return_errors=True) == []


def test_polygons_are_near_the_masks(images: list[LabelledImage], unpack: Unpack) -> None:
    folder = unpack("label-studio", ExportOptions(polygons=True))
    tasks = json.loads((folder / "tasks.json").read_text())
    for image, task in zip(images, tasks, strict=True):
        size = np.array([image.result.width, image.result.height])
        regions = task["predictions"][0]["result"]
        for segment in image.segments:
            outlines = [
                (np.array(region["value"]["points"]) / 100 * size).ravel().tolist()
                for region in regions
                if region["id"].partition("-")[0] == str(segment.id)
            ]
            runs = coco.merge(coco.frPyObjects(outlines, image.result.height, image.result.width))
            near = iou(coco.decode(runs).astype(bool), np.asarray(binary_fill_holes(mask_of(segment))))
            assert near >= (0.99 if segment.area > 1000 else 0.9)


def test_a_task_shows_the_image_where_it_is(images: list[LabelledImage], unpack: Unpack) -> None:
    tasks = json.loads((unpack("label-studio") / "tasks.json").read_text())
    assert tasks[0]["data"]["image"] == "s3://photos/1.png"
    assert tasks[1]["data"]["image"] == f"/data/local-files/?d={Path(images[1].file_name)}"
