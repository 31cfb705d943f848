"""Manifests, and what is wrong with their lines."""

import io
import json

import pytest

from maskline.batch_items import MAX_ITEM_BYTES, BatchItem
from maskline.datasets.local import LocalFiles
from maskline.datasets.manifest import read_manifest
from maskline.datasets.source import Effect, Problem, SourcedItem
from tests.unit.datasets.conftest import SaveImage

GOOD = b'{"image": "s3://photos/a.jpg"}'


def test_items_are_those_of_a_batch(files: LocalFiles) -> None:
    item = {
        "id": "a7",
        "image": "s3://photos/a7.jpg",
        "subtask": "instance",
        "prompts": [{"label": "cup", "box": [10, 20, 200, 180]}],
        "parameters": {"confidenceThreshold": 0.5},
        "autoOrient": False,
        "metadata": {"shelf": [1, None]},
    }
    (sourced,) = read_manifest(io.BytesIO(json.dumps(item).encode()), files)
    assert isinstance(sourced, SourcedItem)
    assert sourced.at("s3://photos/a7.jpg") == BatchItem.model_validate({**item, "line": 1})


def test_images_by_their_path(files: LocalFiles, save_image: SaveImage) -> None:
    path = save_image("photos/a b.jpg")
    text = b'\xef\xbb\xbf{"image": "photos/a b.jpg"}\r\n\n  \n{"image": "HTTPS://x.test/a.jpg", "id": "x"}\n'
    lines = list(read_manifest(io.BytesIO(text), files))
    assert [one.where for one in lines if isinstance(one, Problem)] == ["line 4"]  # a scheme in capitals
    (item,) = (one for one in lines if isinstance(one, SourcedItem))
    assert (item.image, item.id, item.position) == (path, "1", 1)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b"{", "invalid JSON"),
        (b"7", "give fields with their values"),
        (b"\xff", "invalid"),
        (b"{}", "image: this field is required"),
        (b'{"image": ""}', "there is no image ''"),
        (b'{"image": "none.jpg"}', "there is no image 'none.jpg'; give its path from the manifest's folder"),
        (b'{"image": "../"}', "there is no image '../'"),
        (b'{"image": "%s"}' % (b"x" * 5000), "there is no image"),
        (b'{"image": "s3://"}', "give s3://BUCKET/KEY"),
        (b'{"image": {"pack": 1, "offset": 0, "length": 1}}', "image: it should be a valid string"),
        (b'{"image": "s3://b/a.jpg", "id": "2"}', "the id '2' is that of line 2 too"),
        (b'{"image": "s3://b/a.jpg", "box": []}', "box: there is no such field"),
        (b'{"image": "s3://b/a.jpg", "prompts": [{"label": "x"}]}', "neither a box nor points nor a mask"),
        (b'{"image": "s3://b/a.jpg", "metadata": "%s"}' % (b"x" * MAX_ITEM_BYTES), "longer than the 1048576"),
    ],
)
def test_a_fault_in_a_line(files: LocalFiles, line: bytes, told: str) -> None:
    text = b"\n".join([b"", GOOD, line, GOOD + b"\n"])
    first, problem, last = read_manifest(io.BytesIO(text), files)
    assert isinstance(problem, Problem)
    assert (problem.where, problem.effect) == ("line 3", Effect.ITEM_LEFT_OUT)
    assert told in problem.message
    assert [one.id for one in (first, last) if isinstance(one, SourcedItem)] == ["2", "4"]


def test_a_line_that_is_cut_off(files: LocalFiles) -> None:
    good, problem = read_manifest(io.BytesIO(GOOD + b"\n" + GOOD[:-9]), files)
    assert isinstance(good, SourcedItem)
    assert isinstance(problem, Problem)
    assert problem.message.endswith("; the manifest ends in the middle of this line")


def test_the_last_line_needs_no_end(files: LocalFiles) -> None:
    assert [type(one) for one in read_manifest(io.BytesIO(GOOD), files)] == [SourcedItem]
