"""What a data set of this machine is, by its name."""

from pathlib import Path

import pytest

from maskline.batches import PromptSource, SourceKind
from maskline.datasets.source import NotADataset, SourcedItem
from maskline.labelling.sources import kind_of, read_source
from tests.unit.worker.bulk.world import image_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images in folders, one of which is called like a pattern."""
    for name in ("a.png", "b.JPG", "x/c.png", "set[1]/d.png", "notes.txt", ".hidden/e.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(image_of(0))
    (tmp_path / "link.png").symlink_to(tmp_path / "a.png")
    (tmp_path / "nowhere.png").symlink_to(tmp_path / "none.png")
    (tmp_path / "around").symlink_to(tmp_path)
    return tmp_path


def ids(source: str) -> list[str]:
    found = read_source(source, prompts=PromptSource.BOXES, images=None)
    return [one.id for one in found if isinstance(one, SourcedItem)]


def test_a_folder(folder: Path) -> None:
    """Links to files are followed, those to nowhere and to folders are not."""
    assert kind_of(str(folder)) is SourceKind.IMAGES
    assert ids(str(folder)) == ["a.png", "b.JPG", "link.png", "set[1]/d.png", "x/c.png"]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.png", ["a.png", "link.png"]),
        ("*/c.png", ["x/c.png"]),
        ("**/*.[jJ]*", ["b.JPG"]),
        ("none/*.png", []),
        ("set[1]", ["d.png"]),
    ],
)
def test_a_pattern(folder: Path, pattern: str, found: list[str]) -> None:
    """What is there by its name is no pattern, although it looks like one."""
    source = str(folder / pattern)
    assert kind_of(source) is SourceKind.IMAGES
    assert ids(source) == found


def test_a_data_set_of_yolo(folder: Path) -> None:
    (folder / "data.yaml").write_text("names: [cup]")
    assert kind_of(str(folder)) is SourceKind.YOLO
    assert kind_of(str(folder / "data.yaml")) is SourceKind.YOLO


def test_files_by_their_extension(folder: Path) -> None:
    for name, kind in {"m.jsonl": SourceKind.LINES, "c.json": SourceKind.COCO}.items():
        with pytest.raises(FileNotFoundError, match=name):
            kind_of(str(folder / name))
        (folder / name).touch()
        assert kind_of(str(folder / name)) is kind
    with pytest.raises(NotADataset, match="neither a folder nor"):
        kind_of(str(folder / "a.png"))
