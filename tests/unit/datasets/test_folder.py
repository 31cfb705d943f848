"""Folders of images."""

from pathlib import Path

from maskline.datasets.folder import read_folder
from maskline.datasets.local import LocalFiles
from maskline.datasets.source import Effect, Problem, SourcedItem
from tests.unit.datasets.conftest import LIMITS, SaveImage


def test_images_in_order_and_the_rest_passed_over(
    files: LocalFiles, save_image: SaveImage, tmp_path: Path
) -> None:
    for name in ("b/1.png", "a.JPG", "b.png", ".hidden.png", ".thumbnails/a.png", "b/.c/d.png"):
        save_image(name)
    (tmp_path / "notes.txt").touch()
    (tmp_path / "LICENSE").touch()
    (tmp_path / "empty.jpg").mkdir()
    found = list(read_folder(files))
    items = [one for one in found if isinstance(one, SourcedItem)]
    assert [(one.position, one.id, one.image) for one in items] == [
        (1, "a.JPG", tmp_path / "a.JPG"),
        (2, "b.png", tmp_path / "b.png"),
        (3, "b/1.png", tmp_path / "b/1.png"),
    ]
    problems = [(one.where, one.effect) for one in found if isinstance(one, Problem)]
    assert problems == [("LICENSE", Effect.PASSED_OVER), ("notes.txt", Effect.PASSED_OVER)]


def test_a_pattern(save_image: SaveImage, tmp_path: Path) -> None:
    for name in ("a/1.png", "a/2.jpg", "b/c/3.png", "4.png"):
        save_image(name)
    found = read_folder(LocalFiles(tmp_path, LIMITS, "*/**/*.png"))
    assert [one.id for one in found if isinstance(one, SourcedItem)] == ["a/1.png", "b/c/3.png"]
