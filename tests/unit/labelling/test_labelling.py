"""A data set from its images to its labels, over a service that goes away in the middle."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import httpx
import pytest

from maskline.batch_resources import BatchResource, NewBatch
from maskline.batch_results import ReviewThresholds
from maskline.client import ApiError, BatchDidNotSucceed, Client, ConnectionFailed
from maskline.datasets.source import Effect, NotADataset
from maskline.labelling import labelling, uploading
from maskline.labelling.folder import (
    ERRORS,
    PROBLEMS,
    RESULTS,
    SUMMARY,
    FolderInUse,
    LabellingDocument,
    NotResumable,
    OutputFolder,
)
from maskline.labelling.labelling import MASKS, Labelling, Report, UnknownFormat
from tests.unit.labelling.service import Impatient, Service
from tests.unit.labelling.test_downloading import lines_of
from tests.unit.worker.bulk.world import image_of

NAMES = sorted(f"{'more/' * (n % 2)}{n // 2}.{'png' if n % 4 < 2 else 'jpg'}" for n in range(12))


@pytest.fixture(autouse=True)
def small_and_impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploading, "_FIRST_ITEMS", 2)
    monkeypatch.setattr(uploading, "_MOST_ITEMS", 4)
    monkeypatch.setattr(labelling, "_LOOK_S", 0.005)


def document(source: Path | str, *formats: str) -> LabellingDocument:
    return LabellingDocument(
        source=str(source),
        idempotency_key="k",
        batch=NewBatch(review=ReviewThresholds(min_confidence=0.9)),
        prompts="boxes",
        formats=formats or (MASKS,),
    )


@contextmanager
def resumed(out: Path, client: Client) -> Iterator[Labelling]:
    with OutputFolder(out) as folder:
        begun = Labelling(client, folder.resume(), folder)
        begun._stopping = Impatient()
        yield begun


def run(out: Path, client: Client, *, is_retry: bool = False) -> Report:
    with resumed(out, client) as begun:
        return begun.run(lambda batch: None, is_retry=is_retry)


@pytest.fixture
def out(tmp_path: Path, photos: Path) -> Path:
    with OutputFolder(tmp_path / "out") as folder:
        folder.begin(document(photos))
    return tmp_path / "out"


def begun_with(asked: LabellingDocument, out: Path) -> Path:
    with OutputFolder(out) as folder:
        folder.begin(asked)
    return out


def require_all(out: Path) -> None:
    assert sorted(one["id"] for one in lines_of(out / RESULTS)) == NAMES
    files = sorted(path.name for path in (out / "category").rglob("*.png"))
    assert len(files) == len(NAMES)
    assert (out / ERRORS).read_bytes() == b""


def test_a_folder_of_images(client: Client, out: Path) -> None:
    seen: list[BatchResource] = []
    with resumed(out, client) as begun:
        report = begun.run(seen.append)
    assert report.has_all_succeeded
    assert report.summary.succeeded == len(NAMES)
    assert report.batch.counts.flagged == len(NAMES)
    assert {batch.id for batch in seen} == {report.batch.id}
    require_all(out)


@pytest.mark.parametrize("is_after", [False, True])
@pytest.mark.parametrize("first", [1, 2, 3, 5, 8, 11, 14, 18])
def test_a_service_that_goes_away(
    service: Service, client: Client, out: Path, first: int, is_after: bool
) -> None:
    """For good, from one of its calls on; and comes back."""
    calls = count(1)

    def go_away(request: httpx.Request) -> None:
        if next(calls) >= first:
            raise httpx.ConnectError("gone")

    if is_after:
        service.after = go_away
    else:
        service.before = go_away
    with pytest.raises(ConnectionFailed):
        run(out, client)
    service.before = service.after = lambda request: None
    run(out, client)
    require_all(out)
    assert len(service.world.batches.all("default")) == 1


def test_when_all_is_done_nothing_is(service: Service, client: Client, out: Path) -> None:
    first = run(out, client)
    files = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    service.requests.clear()
    again = run(out, client)
    assert again == first
    assert not [one for one in service.requests if one.startswith(("PUT", "DELETE"))]
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == files


def test_exports_are_put_in_place_once(
    service: Service, client: Client, tmp_path: Path, photos: Path
) -> None:
    out = begun_with(document(photos, "coco", "none", "voc"), tmp_path / "out")
    report = run(out, client)
    assert list(report.failed_exports) == ["none"]
    assert "there is no format 'none'" in report.failed_exports["none"]
    assert not (out / "category").exists()
    images = json.loads((out / "coco" / "annotations.json").read_text())["images"]
    assert sorted(one["item_id"] for one in images) == NAMES
    service.requests.clear()
    run(out, client)
    assert {one.rpartition("/")[2] for one in service.requests if "/exports/" in one} == {"none"}


def manifest(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "items.jsonl"
    (tmp_path / "0.png").write_bytes(image_of(0))
    path.write_text("".join(lines))
    return path


def test_what_the_data_set_leaves_out_is_an_error(client: Client, tmp_path: Path) -> None:
    source = manifest(tmp_path, '{"image": "0.png"}\n', "no JSON\n", '{"image": "1.png"}\n')
    out = begun_with(document(source), tmp_path / "out")
    report = run(out, client)
    assert (report.left_out, report.has_all_succeeded) == (2, False)
    told = json.loads((out / SUMMARY).read_text())
    assert (told["items"], told["succeeded"], told["failed"]) == (3, 1, 2)
    assert told["errors"] == {"unusable_item": 2}
    errors = lines_of(out / ERRORS)
    assert [(one["where"], one["error"]["code"]) for one in errors] == [
        ("line 2", "unusable_item"),
        ("line 3", "unusable_item"),
    ]
    assert [one.where for one in report.problems] == ["line 2", "line 3"]
    assert run(out, client) == report
    assert lines_of(out / ERRORS) == errors


def test_failed_items_are_tried_anew(service: Service, client: Client, tmp_path: Path) -> None:
    lines = [json.dumps({"id": f"n{n}", "image": f"s3://imports/{n}.png"}) + "\n" for n in range(9)]
    source = manifest(tmp_path, *lines, "no JSON\n")
    service.world.put_images(n for n in range(9) if n not in {2, 5})
    out = begun_with(document(source, MASKS, "coco"), tmp_path / "out")
    assert run(out, client).summary.failed == 3
    assert [one.get("id") for one in lines_of(out / ERRORS)] == ["n2", "n5", None]
    service.world.put_images([5])
    report = run(out, client, is_retry=True)
    assert (report.summary.succeeded, report.summary.failed, report.left_out) == (8, 2, 1)
    assert [one.get("id") for one in lines_of(out / ERRORS)] == ["n2", None]
    assert [one["id"] for one in lines_of(out / RESULTS)] == [*(f"n{n}" for n in (0, 1, 3, 4, 6, 7, 8)), "n5"]
    images = json.loads((out / "coco" / "annotations.json").read_text())["images"]
    assert len(images) == 8
    assert (out / "category" / "n5.png").exists()
    service.world.put_images([2])
    assert run(out, client, is_retry=True).summary.failed == 1
    assert [one.get("id") for one in lines_of(out / ERRORS)] == [None]
    service.requests.clear()
    run(out, client, is_retry=True)
    assert not [one for one in service.requests if one.endswith(":retry")]


def test_a_batch_that_was_cancelled(service: Service, client: Client, out: Path) -> None:
    service.works = False
    calls = count(1)

    def cancel(request: httpx.Request) -> None:
        if request.url.path.endswith("/parts/1") and next(calls) == 1:
            service.world.batches.cancel("default", service.batch().id)
            service.world.leader().look()

    service.after = cancel
    for _ in range(2):
        with pytest.raises(BatchDidNotSucceed, match="is cancelled"):
            run(out, client)


def test_a_batch_that_is_gone(service: Service, client: Client, out: Path) -> None:
    """No other is made in its place: what came of it is here already."""
    run(out, client)
    service.world.batches.delete("default", service.batch().id)
    with pytest.raises(ApiError, match="batch_not_found"):
        run(out, client)
    assert not service.world.batches.all("default")


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({}, "there is nothing to label"),
        ({"notes.txt": "", ".hidden.png": ""}, r"notes\.txt: its name does not end as that of an image"),
        ({"data.yaml": "names: 7"}, "data.yaml"),
        ({"data.yaml": "names: [cup]"}, "there is nothing to label"),
    ],
)
def test_a_folder_of_nothing(
    service: Service, client: Client, tmp_path: Path, files: dict[str, str], told: str
) -> None:
    source = tmp_path / "nothing"
    source.mkdir()
    for name, text in files.items():
        (source / name).write_text(text)
    out = begun_with(document(source), tmp_path / "out")
    with pytest.raises(NotADataset, match=told):
        run(out, client)
    assert not service.world.batches.all("default")
    with OutputFolder(out) as folder:
        folder.resume()
        folder.abandon()
    assert list(out.iterdir()) == []
    begun_with(document(source), out)


def test_a_format_that_no_worker_knows(
    service: Service, client: Client, photos: Path, tmp_path: Path
) -> None:
    service.world.directory.publish("w", [], 60, export_formats=("coco", "voc"))
    out = begun_with(document(photos, MASKS, "voc", "coc"), tmp_path / "out")
    with resumed(out, client) as begun:
        with pytest.raises(UnknownFormat, match="there is no format 'coc'; there are: masks, coco, voc"):
            begun.require_formats()
        assert not service.world.batches.all("default")
        assert list(begun.run(lambda batch: None).failed_exports) == ["coc"]


def test_names_that_can_not_be_shown(client: Client, tmp_path: Path) -> None:
    source = tmp_path / "odd"
    source.mkdir()
    for name in (b"good.png", b"new\nline.png", b"\xff.png"):
        (Path(str(source)) / name.decode("utf-8", "surrogateescape")).write_bytes(image_of(1))
    report = run(begun_with(document(source), tmp_path / "out"), client)
    assert [one.where for one in report.problems] == ["new\\nline.png", "\\udcff.png"]
    assert report.effects == {Effect.ITEM_LEFT_OUT: 2}
    assert len(lines_of(tmp_path / "out" / PROBLEMS)) == 2


# --- the folder


def test_a_folder_with_something_in_it(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    with OutputFolder(tmp_path) as folder, pytest.raises(FileExistsError, match="is not empty; give another"):
        folder.begin(document("photos"))
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_folder_that_was_begun(out: Path) -> None:
    with OutputFolder(out) as folder, pytest.raises(FileExistsError, match="go on with it by --resume"):
        folder.begin(document("photos"))


def test_a_folder_that_was_never_begun(tmp_path: Path) -> None:
    with (
        OutputFolder(tmp_path / "none") as folder,
        pytest.raises(NotResumable, match="nothing to go on with"),
    ):
        folder.resume()
    assert not (tmp_path / "none").exists()


def test_a_damaged_folder(out: Path) -> None:
    (out / ".maskline" / "labelling.json").write_text("{")
    with OutputFolder(out) as folder, pytest.raises(NotResumable, match="is damaged"):
        folder.resume()


def test_one_command_at_a_time(out: Path) -> None:
    with OutputFolder(out) as one, OutputFolder(out) as other:
        one.resume()
        with pytest.raises(FolderInUse, match="another command works in"):
            other.resume()
        one.close()
        assert other.resume() == document(out.parent / "photos")
