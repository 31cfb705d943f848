"""YOLO segmentation, read by supervision."""

import numpy as np
import supervision as sv
from scipy.ndimage import binary_fill_holes, label

from tests.clients.exports.conftest import Unpack
from tests.labelled_images import Mask, iou
from worker.exporting.categories import category_name
from worker.exporting.labelled_image import LabelledImage, mask_of

TOUCHING = np.ones((3, 3))  # corners too


def test_masks_without_holes_are_equal_to_the_pixel(images: list[LabelledImage], unpack: Unpack) -> None:
    folder = unpack("yolo")
    dataset = sv.DetectionDataset.from_yolo(
        str(folder / "images"), str(folder / "labels"), str(folder / "data.yaml"), force_masks=True
    )
    assert len(dataset) == len(images)
    found = {path.rpartition("/")[2]: detections for path, _, detections in dataset}
    for image in images:
        detections = found[image.file_name]
        wanted = [
            (category_name(segment.label), np.asarray(binary_fill_holes(part)))
            for segment in image.segments
            for part in parts(mask_of(segment))
        ]
        assert len(detections) == len(wanted)
        masks = [] if detections.mask is None else list(detections.mask)
        classes = [] if detections.class_id is None else detections.class_id.tolist()
        for name, part in wanted:
            near = [
                iou(mask, part)
                for mask, class_id in zip(masks, classes, strict=True)
                if dataset.classes[class_id] == name
            ]
            assert max(near) == 1


def test_images_are_carried_as_they_are(images: list[LabelledImage], unpack: Unpack) -> None:
    folder = unpack("yolo")
    for image in images:
        assert (folder / "images" / image.file_name).read_bytes() == image.image_bytes()
        text = (folder / "labels" / f"{image.stem}.txt").read_text()
        assert bool(text) == bool(image.segments)


def parts(mask: Mask) -> list[Mask]:
    numbers, count = label(mask, structure=TOUCHING)
    return [numbers == number for number in range(1, count + 1)]
