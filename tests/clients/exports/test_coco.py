"""COCO by pycocotools; COCO panoptic, whose PNGs are read by transformers."""

import json
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools.coco import COCO
from scipy.ndimage import binary_fill_holes
from transformers.image_transforms import rgb_to_id

from tests.clients.exports.conftest import Unpack
from tests.labelled_images import ODD_LABEL, Mask, iou
from worker.colors import annotation_specs
from worker.exporting.categories import category_name
from worker.exporting.format import ExportOptions
from worker.exporting.labelled_image import LabelledImage, mask_of
from worker.packed_mask import PackedMask

LARGE = 1000  # pixels


def test_run_lengths_are_equal_to_the_pixel(images: list[LabelledImage], unpack: Unpack) -> None:
    coco = read(unpack("coco"))
    assert coco.getImgIds() == [image.number for image in images]
    for image in images:
        described = coco.loadImgs(image.number)[0]
        assert described["file_name"] == image.file_name
        assert described["item_id"] == image.id
        assert described.get("coco_url") == image.address
        annotations = coco.loadAnns(coco.getAnnIds(imgIds=image.number))
        for annotation, segment in zip(annotations, image.segments, strict=True):
            mask = mask_of(segment)
            assert np.array_equal(coco.annToMask(annotation), mask)
            assert annotation["area"] == mask.sum()
            [category] = coco.loadCats(annotation["category_id"])
            assert category["name"] == category_name(segment.label)


def test_labels_that_items_number_anew_are_one_category(unpack: Unpack) -> None:
    coco = read(unpack("coco"))
    names = [category["name"] for category in coco.loadCats(coco.getCatIds())]
    assert sorted(names) == sorted(set(names))
    assert {"cup", "spoon", "person", "segment", ODD_LABEL} <= set(names)
    [spoon] = coco.getCatIds(catNms=["spoon"])
    assert coco.getImgIds(catIds=[spoon]) == [1, 6]


def test_polygons_are_near_the_masks(images: list[LabelledImage], unpack: Unpack) -> None:
    coco = read(unpack("coco", ExportOptions(polygons=True)))
    seen = 0
    for image in images:
        annotations = coco.loadAnns(coco.getAnnIds(imgIds=image.number))
        for annotation, segment in zip(annotations, image.segments, strict=True):
            assert all(len(polygon) >= 6 for polygon in annotation["segmentation"])
            if segment.label != "ring":
                near = iou(coco.annToMask(annotation).astype(bool), without_holes(mask_of(segment)))
                assert near >= (0.99 if segment.area >= LARGE else 0.9), (segment.label, segment.area, near)
                seen += 1
    assert seen > 10


def without_holes(mask: Mask) -> Mask:
    return np.asarray(binary_fill_holes(mask))


def read(folder: Path) -> COCO:
    return COCO(str(folder / "annotations.json"))


def test_every_pixel_is_of_the_segment_that_panoptic_says(
    images: list[LabelledImage], unpack: Unpack
) -> None:
    folder = unpack("coco-panoptic", ExportOptions(stuff=frozenset({"spoon"})))
    document = json.loads((folder / "panoptic.json").read_text())
    categories = {one["id"]: one for one in document["categories"]}
    assert {one["name"] for one in categories.values() if not one["isthing"]} == {"spoon"}
    for image, annotation in zip(images, document["annotations"], strict=True):
        numbers = rgb_to_id(np.array(Image.open(folder / "panoptic" / annotation["file_name"])))
        assert annotation["image_id"] == image.number
        infos = annotation["segments_info"]
        assert set(np.unique(numbers)) - {0} == {info["id"] for info in infos}
        names = {spec.id: category_name(spec.display_name) for spec in image.result.annotation_specs}
        ids_by_name: dict[str, list[int]] = {}
        for info in infos:
            mask = numbers == info["id"]
            assert info["area"] == mask.sum()
            assert info["bbox"] == [int(one) for one in PackedMask.pack(mask).bbox]
            ids_by_name.setdefault(categories[info["category_id"]]["name"], []).append(info["id"])
        own = image.category_mask()
        assert np.array_equal(numbers > 0, own > 0)
        for own_id, name in names.items():
            if own_id:
                assert np.isin(numbers[own == own_id], ids_by_name.get(name, [])).all()
        assert len(ids_by_name.get("spoon", [])) <= 1


def test_of_segments_that_overlap_the_best_has_the_pixels(
    images: list[LabelledImage], unpack: Unpack
) -> None:
    folder = unpack("coco-panoptic")
    annotation = json.loads((folder / "panoptic.json").read_text())["annotations"][4]
    numbers = rgb_to_id(np.array(Image.open(folder / "panoptic" / annotation["file_name"])))
    by_score = {info["score"]: numbers == info["id"] for info in annotation["segments_info"]}
    first, best, last = (mask_of(segment) for segment in images[4].segments)
    assert np.array_equal(by_score[0.9], best)
    assert np.array_equal(by_score[0.6], first & ~best)
    assert np.array_equal(by_score[0.7], last)


def test_a_semantic_batch_has_one_segment_of_each_category(unpack: Unpack) -> None:
    document = json.loads(
        (unpack("coco-panoptic", ExportOptions(semantic=True)) / "panoptic.json").read_text()
    )
    assert not any(one["isthing"] for one in document["categories"])
    for annotation in document["annotations"]:
        found = [info["category_id"] for info in annotation["segments_info"]]
        assert len(found) == len(set(found))


def test_categories_of_the_model_come_first(unpack: Unpack) -> None:
    specs = tuple(annotation_specs(["sky", "spoon"]))
    coco = read(unpack("coco", ExportOptions(annotation_specs=specs)))
    names = [category["name"] for category in coco.loadCats(coco.getCatIds())]
    assert names[:2] == ["sky", "spoon"]
    assert "cup" in names[2:]
