"""Pascal VOC, read by Datumaro."""

import numpy as np
from datumaro.components.annotation import AnnotationType
from datumaro.components.dataset import Dataset
from PIL import Image

from tests.clients.exports.conftest import Unpack
from tests.labelled_images import ODD_LABEL
from worker.exporting.categories import category_name
from worker.exporting.labelled_image import LabelledImage

IN_MAP = {ODD_LABEL: '_ <b>"cup & saucer"_ größer-7'}


def test_masks_are_equal_to_the_pixel(images: list[LabelledImage], unpack: Unpack) -> None:
    dataset = Dataset.import_from(str(unpack("voc")), "voc_segmentation")
    labels = [one.name for one in dataset.categories()[AnnotationType.label]]
    items = {item.id: item for item in dataset}
    assert set(items) == {image.stem for image in images}
    for image in images:
        masks = {labels[one.label]: one.image for one in items[image.stem].annotations}
        own = image.category_mask()
        for spec in image.result.annotation_specs:
            name = category_name(spec.display_name) if spec.id else "background"
            same = [
                one.id
                for one in image.result.annotation_specs
                if category_name(one.display_name) == name or one.id == spec.id
            ]
            mask = np.isin(own, same)
            if mask.any():
                assert np.array_equal(masks[IN_MAP.get(name, name)], mask)


def test_the_lists_say_what_is_there(images: list[LabelledImage], unpack: Unpack) -> None:
    folder = unpack("voc")
    names = (folder / "ImageSets" / "Segmentation" / "train.txt").read_text().splitlines()
    assert names == [image.stem for image in images]
    labels = (folder / "labels.txt").read_text().splitlines()
    for name in names:
        with Image.open(folder / "SegmentationClass" / f"{name}.png") as mask:
            assert mask.mode == "P"
            assert np.asarray(mask).max() < len(labels)
