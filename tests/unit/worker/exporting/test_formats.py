"""What holds for every export format."""

import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from tempfile import TemporaryFile
from zipfile import ZipFile

import pytest

from maskline.file_names import file_name
from tests.labelled_images import drawn, hard_shapes, labelled
from worker.exporting.format import ExportOptions
from worker.exporting.labelled_image import LabelledImage
from worker.exporting.registry import export, find_format, format_names

FORMATS = format_names()
A_FEW, MANY = 500, 2500
LEAST_FOR_AN_IMAGE = 32  # bytes: less than any object of Python's takes


def tiny_images(count: int) -> Iterator[LabelledImage]:
    one = labelled(1, "x", drawn((60, 80), hard_shapes()[-2:]), b"image")
    for number in range(1, count + 1):
        item_id = f"item-{number}"
        result = one.result.model_copy(update={"id": item_id})
        yield replace(one, number=number, file_name=file_name(item_id, "png"), result=result)


def peak_memory(format_name: str, count: int) -> int:
    with TemporaryFile() as file:
        tracemalloc.start()
        try:
            export(format_name, tiny_images(count), file)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()


def test_the_folder_is_the_registry() -> None:
    wanted = ("coco", "coco-panoptic", "cvat", "hugging-face", "label-studio", "voc", "yolo")
    assert wanted == FORMATS
    assert {name for name in FORMATS if find_format(name).CARRIES_IMAGES} == {"hugging-face", "yolo"}
    assert len({find_format(name).DESCRIPTION for name in FORMATS}) == len(FORMATS)


def test_a_format_that_is_none() -> None:
    with pytest.raises(ValueError, match="there is no format 'coco_panoptic'; there are: coco, coco-"):
        export("coco_panoptic", [], BytesIO())


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("polygons", [False, True])
def test_the_same_images_give_the_same_bytes(name: str, polygons: bool, images: list[LabelledImage]) -> None:
    options = ExportOptions(polygons=polygons)
    one, other = BytesIO(), BytesIO()
    export(name, images, one, options)
    export(name, iter(images), other, options)
    assert one.getvalue() == other.getvalue()


@pytest.mark.parametrize("name", FORMATS)
def test_an_export_of_nothing(name: str) -> None:
    file = BytesIO()
    export(name, [], file)
    with ZipFile(file) as archive:
        assert archive.testzip() is None
        assert archive.namelist()


@pytest.mark.parametrize("name", FORMATS)
def test_names_stay_within_the_archive(name: str, images: list[LabelledImage]) -> None:
    file = BytesIO()
    export(name, images, file)
    with ZipFile(file) as archive:
        names = archive.namelist()
    assert len({one.lower() for one in names}) == len(names)
    assert not any(".." in one or one.startswith("/") for one in names)


@pytest.mark.parametrize("name", FORMATS)
def test_memory_does_not_grow_with_the_images(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What may stay in memory before it goes to a temporary file is made small, so that it does."""
    for module in ("spool", "zip_members"):
        monkeypatch.setattr(f"worker.exporting.{module}._IN_MEMORY_BYTES", 1 << 10)
    peak_memory(name, 10)  # imports and caches
    growth = peak_memory(name, MANY) - peak_memory(name, A_FEW)
    assert growth < (MANY - A_FEW) * LEAST_FOR_AN_IMAGE


@pytest.mark.parametrize("name", ["coco-panoptic", "hugging-face", "voc"])
def test_a_result_without_its_mask(name: str) -> None:
    [image] = tiny_images(1)
    prediction = image.result.prediction.model_copy(update={"category_mask": None})
    image = replace(image, result=image.result.model_copy(update={"prediction": prediction}))
    with pytest.raises(ValueError, match="the item 'item-1' has no category mask, which this export needs"):
        export(name, [image], BytesIO())


@pytest.mark.parametrize("name", ["a.png", "images/train/a.png", "x/images/images/a.png"])
def test_readers_of_yolo_find_the_labels_beside_images_in_folders_of_any_name(name: str) -> None:
    [image] = tiny_images(1)
    file = BytesIO()
    export("yolo", [replace(image, file_name=name)], file)
    [written] = (one for one in ZipFile(file).namelist() if one.endswith(".png"))
    # As Ultralytics finds them: in place of the last folder called images.
    labels = "/labels/".join(f"/{written}".rsplit("/images/", 1)).removesuffix(".png") + ".txt"
    assert labels.lstrip("/") in ZipFile(file).namelist()
