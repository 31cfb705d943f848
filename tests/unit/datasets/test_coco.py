"""COCO documents: held against pycocotools reading the same file; and what is wrong with them."""

import io
import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as masks
from pycocotools.coco import COCO

from maskline.batches import PromptSource
from maskline.datasets.coco import read_coco
from maskline.datasets.local import LocalFiles
from maskline.datasets.source import Effect, NotADataset, Problem, SourcedItem
from maskline.requests import MAX_PROMPTS
from tests.unit.datasets.conftest import SaveImage

CATEGORIES = [{"id": 1, "name": "cup"}, {"id": 7, "name": "tea spoon"}]
IMAGE = {"id": 5, "file_name": "a.jpg", "width": 20, "height": 10}
SQUARE = [2.0, 2.0, 8.0, 2.0, 8.0, 8.0, 2.0, 8.0]
ANNOTATION = {"id": 1, "image_id": 5, "category_id": 1, "bbox": [1, 2, 3, 4], "segmentation": [SQUARE]}


class Bucket:
    """Images at addresses, of which nothing more is known."""

    def address(self, name: str) -> str:
        return f"s3://photos/{name}"


def document(**changes: Any) -> bytes:
    return json.dumps(
        {"images": [IMAGE], "annotations": [ANNOTATION], "categories": CATEGORIES} | changes
    ).encode()


def read(
    text: bytes, prompts: PromptSource = PromptSource.BOXES
) -> tuple[list[SourcedItem], list[tuple[str, Effect]], str]:
    found = list(read_coco(io.BytesIO(text), Bucket(), prompts=prompts))  # type: ignore[arg-type]
    problems = [one for one in found if isinstance(one, Problem)]
    return (
        [one for one in found if isinstance(one, SourcedItem)],
        [(one.where, one.effect) for one in problems],
        " ".join(one.message for one in problems),
    )


def a_data_set(seed: int) -> dict[str, Any]:
    """With boxes over the edge, outlines in all of COCO's forms, and crowds."""
    random = np.random.default_rng(seed)
    images: list[dict[str, Any]] = [
        {"id": int(id), "file_name": f"{id:012}.jpg", "width": int(width), "height": int(height)}
        for id, (width, height) in zip(
            random.permutation(100)[:12], random.integers(20, 60, (12, 2)), strict=True
        )
    ]
    annotations = []
    for id in range(1, 80):
        image = images[random.integers(len(images))]
        height, width = image["height"], image["width"]
        x, y = random.uniform(-5, width - 3), random.uniform(-5, height - 3)
        pixels = np.asfortranarray(random.random((height, width)) < 0.4, np.uint8)
        packed = masks.encode(pixels)
        lengths = np.diff(np.flatnonzero(np.diff(pixels.ravel(order="F"), prepend=0, append=2))).tolist()
        starts = int(np.flatnonzero(pixels.ravel(order="F"))[0])
        annotations.append(
            {
                "id": id,
                "image_id": image["id"],
                "category_id": int(random.choice([1, 7])),
                "bbox": [round(float(n), 2) for n in (x, y, *random.uniform(6, 30, 2))],
                "iscrowd": int(id % 10 == 0),
                "segmentation": [
                    [[round(float(n), 2) for n in random.uniform(0, 20, 8)], SQUARE],
                    {"size": [height, width], "counts": packed["counts"].decode()},
                    {"size": [height, width], "counts": [starts, *lengths]},
                ][id % 3],
            }
        )
    order = {"annotations": annotations, "info": {"images": [1]}, "images": images, "categories": CATEGORIES}
    return order if seed % 2 else dict(reversed(order.items()))


@pytest.mark.parametrize("seed", range(4))
def test_boxes_are_those_that_pycocotools_reads(tmp_path: Path, seed: int) -> None:
    file = tmp_path / "instances.json"
    file.write_text(json.dumps(a_data_set(seed)))
    theirs = COCO(file)
    items, _, _ = read(file.read_bytes())
    assert [item.metadata["cocoImageId"] for item in items] == list(theirs.imgs)
    for item in items:
        image = theirs.imgs[item.metadata["cocoImageId"]]
        assert (item.id, item.image) == (image["file_name"], f"s3://photos/{image['file_name']}")
        wanted = []
        for one in theirs.loadAnns(theirs.getAnnIds(imgIds=[image["id"]], iscrowd=False)):
            x, y, width, height = one["bbox"]
            clipped = np.clip([x, y, x + width, y + height], 0, [image["width"], image["height"]] * 2)
            wanted.append((theirs.cats[one["category_id"]]["name"], clipped.tolist()))
        assert [(one.label, list(one.box or ())) for one in item.prompts or ()] == wanted


@pytest.mark.parametrize("seed", range(4))
def test_masks_are_those_that_pycocotools_decodes(tmp_path: Path, seed: int) -> None:
    file = tmp_path / "instances.json"
    file.write_text(json.dumps(a_data_set(seed)))
    theirs = COCO(file)
    items, problems, told = read(file.read_bytes(), PromptSource.MASKS)
    assert len(items) == len(theirs.imgs)
    assert {effect for _, effect in problems} == {Effect.PASSED_OVER}, told  # the crowds
    for item in items:
        annotations = theirs.loadAnns(theirs.getAnnIds(imgIds=[item.metadata["cocoImageId"]], iscrowd=False))
        for prompt, one in zip(item.prompts or (), annotations, strict=True):
            assert prompt.mask is not None
            ours = {"size": list(prompt.mask.size), "counts": prompt.mask.counts.encode()}
            assert np.array_equal(masks.decode(ours), theirs.annToMask(one))


@pytest.mark.parametrize(
    ("changes", "where", "effect", "told"),
    [
        (
            {"images": [IMAGE, {"id": 6}]},
            "image 6",
            Effect.ITEM_LEFT_OUT,
            "file_name: this field is required",
        ),
        ({"images": [IMAGE, 3]}, "image number 2", Effect.ITEM_LEFT_OUT, "give fields with their values"),
        ({"images": [IMAGE, IMAGE | {"file_name": "b.jpg"}]}, "image 5", Effect.ITEM_LEFT_OUT, "has its id"),
        ({"images": [IMAGE, IMAGE | {"id": 6}]}, "image 6", Effect.ITEM_LEFT_OUT, "file_name 'a.jpg'"),
        (
            {"images": [IMAGE, IMAGE | {"id": 6, "file_name": "b.jpg"}]},
            "image 6",
            Effect.PASSED_OVER,
            "has no annotation",
        ),
        (
            {"categories": [*CATEGORIES, {"id": 1, "name": "mug"}]},
            "category 1",
            Effect.PROMPT_LEFT_OUT,
            "'mug' is left out",
        ),
    ],
)
def test_a_fault_in_an_image_or_category(
    changes: dict[str, Any], where: str, effect: Effect, told: str
) -> None:
    items, problems, message = read(document(**changes))
    assert [item.id for item in items] == ["a.jpg"]
    assert problems == [(where, effect)]
    assert told in message


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"image_id": 99}, "of image 99, which is not in the document"),
        ({"category_id": 99}, "of category 99, which is not in the document"),
        ({"bbox": [1, 1, 0, 4]}, "has no area on the image of 20 x 10 pixels"),
        ({"bbox": [30, 1, 5, 4]}, "has no area on the image"),
        ({"bbox": [1, 1, 4]}, "bbox"),
        ({"bbox": [1, 1, 4, "wide"]}, "bbox"),
        ({"bbox": [1, 1, 4, 1e300]}, "bbox"),
        ({"id": 1}, "an earlier annotation has this id too"),
    ],
)
def test_a_fault_in_an_annotation(changes: dict[str, Any], told: str) -> None:
    one = ANNOTATION | {"id": 2} | changes
    items, problems, message = read(document(annotations=[ANNOTATION, one]))
    assert [len(item.prompts or ()) for item in items] == [1]
    assert problems == [(f"annotation {one['id']}", Effect.PROMPT_LEFT_OUT)]
    assert told in message


@pytest.mark.parametrize(
    ("segmentation", "told"),
    [
        ([], "segmentation"),
        ([[1, 2, 3, 4]], "segmentation"),
        ([[1, 2, 3, 4, 5, 6, 7]], "odd number of coordinates"),
        ([[50.0, 50.0, 60.0, 50.0, 60.0, 60.0]], "no pixel on the image"),
        ({"size": [20, 10], "counts": [200]}, "not [height, width] of the image, [10, 20]"),
        ({"size": [10, 20], "counts": [200]}, "no pixel on the image"),
        ({"size": [10, 20], "counts": [5, 5]}, "add up to 10 pixels"),
        ({"size": [10, 20], "counts": "~"}, "none of COCO's compressed run lengths"),
    ],
)
def test_a_fault_in_a_segmentation(segmentation: object, told: str) -> None:
    one = ANNOTATION | {"id": 2, "segmentation": segmentation}
    items, problems, message = read(document(annotations=[ANNOTATION, one]), PromptSource.MASKS)
    assert [len(item.prompts or ()) for item in items] == [1]
    assert problems == [("annotation 2", Effect.PROMPT_LEFT_OUT)]
    assert told in message


def test_an_image_with_too_many_annotations() -> None:
    many = [ANNOTATION | {"id": id} for id in range(MAX_PROMPTS + 1)]
    assert read(document(annotations=many))[:2] == ([], [("image 5", Effect.ITEM_LEFT_OUT)])


def test_images_that_are_missing(files: LocalFiles, save_image: SaveImage) -> None:
    path = save_image("a.jpg")
    text = document(
        images=[IMAGE | {"id": 4, "file_name": "\0"}, IMAGE],
        annotations=[ANNOTATION, ANNOTATION | {"id": 2, "image_id": 4}],
    )
    problem, item = read_coco(io.BytesIO(text), files)
    assert problem == Problem(
        where="image 4", message="there is no file '\\x00'", effect=Effect.ITEM_LEFT_OUT
    )
    assert isinstance(item, SourcedItem)
    assert (item.image, item.position) == (path, 2)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"", "no whole JSON document"),
        (b"{", "no whole JSON document"),
        (document()[:-10], "no whole JSON document"),
        (document() + b"}", "no whole JSON document"),
        (b'{"images": [\xff\xff]}', "no whole JSON document"),
        (b"[]", "no images, categories, annotations"),
        (b'{"images": [], "annotations": {}}', "no images, categories, annotations"),
        (document(categories=[]), "no categories"),
    ],
)
def test_what_is_no_such_document(text: bytes, told: str) -> None:
    with pytest.raises(NotADataset, match=told):
        read(text)


def test_it_can_be_gone_on_with_in_another_thread() -> None:
    found = read_coco(io.BytesIO(document(images=[IMAGE | {"id": 1, "file_name": "b.jpg"}, IMAGE])), Bucket())  # type: ignore[arg-type]
    assert isinstance(next(found), Problem)
    rest: list[object] = []
    thread = threading.Thread(target=lambda: rest.extend(found))
    thread.start()
    thread.join()
    assert [type(one) for one in rest] == [SourcedItem]
