"""Data sets in Ultralytics' layout: held against supervision reading the same folder; and what is wrong."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as masks

from maskline.batches import PromptSource
from maskline.datasets.local import LocalFiles
from maskline.datasets.source import Effect, NotADataset, Problem, SourcedItem
from maskline.datasets.yolo import labels_of, read_yolo
from maskline.requests import MAX_PROMPTS
from tests.unit.datasets.conftest import SaveImage

Write = Callable[[str, str], None]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, text: str) -> None:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    write("data.yaml", "path: .\nnames: {0: cup, 3: tea spoon}\n")
    return write


def test_boxes_and_outlines_are_those_that_supervision_reads(
    files: LocalFiles, save_image: SaveImage, write: Write, tmp_path: Path
) -> None:
    from supervision import DetectionDataset

    write("data.yaml", "names: [cup, spoon]\n")
    random = np.random.default_rng(1)
    for number in range(5):
        save_image(f"images/{number}.jpg", int(random.integers(30, 90)), int(random.integers(30, 90)))
        outlines = [" ".join(map(str, random.uniform(0, 1, 8).round(4))) for _ in range(3)]
        lines = [f"{random.integers(2)} {outline}" for outline in outlines]
        write(f"labels/{number}.txt", "\n".join([*lines, "1 0.5 0.5 0.4 0.6"]))
    theirs = DetectionDataset.from_yolo(
        str(tmp_path / "images"), str(tmp_path / "labels"), str(tmp_path / "data.yaml")
    )
    items = [item for item in read_yolo(files) if isinstance(item, SourcedItem)]
    assert [str(item.image) for item in items] == sorted(theirs.image_paths)
    for item in items:
        wanted = theirs.annotations[str(item.image)]
        assert wanted.class_id is not None
        assert [one.label for one in item.prompts or ()] == [theirs.classes[i] for i in wanted.class_id]
        assert np.allclose([one.box or () for one in item.prompts or ()], wanted.xyxy, atol=1e-3)


def test_outlines_as_masks(files: LocalFiles, save_image: SaveImage, write: Write) -> None:
    save_image("images/a.png", 20, 10)
    write("labels/a.txt", "3 0.1 0.2 0.8 0.2 0.8 0.9\n0 0.5 0.5 0.1 0.1\n0 0.001 0.01 0.002 0.01 0.001 0.02")
    box, nothing, item = read_yolo(files, prompts=PromptSource.MASKS)
    assert isinstance(box, Problem)
    assert (box.where, box.message[:11]) == ("labels/a.txt, line 2", "it is a box")
    assert isinstance(nothing, Problem)
    assert nothing.message == "its outline has no pixel on the image"
    assert isinstance(item, SourcedItem)
    (prompt,) = item.prompts or ()
    theirs = masks.merge(masks.frPyObjects([[2.0, 2.0, 16.0, 2.0, 16.0, 9.0]], 10, 20))
    assert prompt.label == "tea spoon"
    assert prompt.mask is not None
    assert prompt.mask.counts == theirs["counts"].decode()


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("1 0.5 0.5 0.2 0.2", "there is no class 1; data.yaml names 2"),
        ("0.5 0.5 0.5 0.2 0.2", "there is no class 0.5"),
        ("nan 0.5 0.5 0.2 0.2", "there is no class nan"),
        ("cup 0.5 0.5 0.2 0.2", "'cup 0.5 0.5 0.2 0.2' is not made of numbers"),
        ("0 0.5 0.5 0.2", "it has 3 numbers behind the class"),
        ("0 0.5 0.5 0.2 0.2 0.9", "it has 5 numbers behind the class"),
        ("0", "it has 0 numbers behind the class"),
        ("0 320 240 50 50", "not between 0 and 1"),
        ("0 0.5 0.5 0.2 nan", "not between 0 and 1"),
        ("0 0.5 0.5 0 0.2", "no area"),
    ],
)
def test_a_fault_in_a_line(
    files: LocalFiles, save_image: SaveImage, write: Write, line: str, told: str
) -> None:
    save_image("images/a.png")
    write("labels/a.txt", f"0 0.5 0.5 1.01 0.2\n\n{line}\n")
    problem, item = read_yolo(files)
    assert isinstance(problem, Problem)
    assert (problem.where, problem.effect) == ("labels/a.txt, line 3", Effect.PROMPT_LEFT_OUT)
    assert told in problem.message
    assert isinstance(item, SourcedItem)
    assert [one.box for one in item.prompts or ()] == [(0, 4, 20, 6)]


def test_images_with_a_fault_or_without_labels(
    files: LocalFiles, save_image: SaveImage, write: Write, tmp_path: Path
) -> None:
    box = "0 0.5 0.5 0.2 0.2\n"
    write("images/1.jpg", "no image")
    for name in ("2.jpg", "3.jpg", "4.jpg", "5.jpg"):
        save_image(f"images/{name}")
    for name, text in {"1": box, "3": "\n", "4": box * (MAX_PROMPTS + 1), "5": box}.items():
        write(f"labels/{name}.txt", text)
    save_image("elsewhere/6.jpg")
    found = list(read_yolo(files))
    assert [(one.where, one.effect) for one in found if isinstance(one, Problem)] == [
        ("images/1.jpg", Effect.ITEM_LEFT_OUT),
        ("images/2.jpg", Effect.PASSED_OVER),
        ("images/3.jpg", Effect.PASSED_OVER),
        ("images/4.jpg", Effect.ITEM_LEFT_OUT),
    ]
    assert [(one.id, one.position) for one in found if isinstance(one, SourcedItem)] == [("images/5.jpg", 5)]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("names: [", "no YAML"),
        ("train: images", "names: this field is required"),
        ("names: 7", "names"),
        ("- 1", "data.yaml"),
    ],
)
def test_a_wrong_data_file(files: LocalFiles, write: Write, text: str, told: str) -> None:
    write("data.yaml", text)
    with pytest.raises(NotADataset, match=told):
        list(read_yolo(files))


def test_no_data_file(files: LocalFiles) -> None:
    with pytest.raises(NotADataset, match=r"there is no data\.yaml"):
        list(read_yolo(files))


def test_where_labels_are() -> None:
    assert labels_of("images/val/a.b.jpg") == "labels/val/a.b.txt"
    assert labels_of("images/valid/images/a.jpg") == "images/valid/labels/a.txt"
    assert labels_of("photos/images.jpg") is None
