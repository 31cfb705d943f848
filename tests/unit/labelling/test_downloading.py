"""Downloading results: every line once, in files that are whole, whenever it is broken off."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskline.batch_results import ReviewThresholds
from maskline.batches import Batch
from maskline.client import ApiError, Client
from maskline.labelling.downloading import Downloader
from maskline.labelling.folder import ERRORS, RESULTS, REVIEW, OutputFolder
from tests.unit.labelling.interrupting import Interruption
from tests.unit.labelling.service import Impatient, Service
from tests.unit.labelling.test_uploading import DOCUMENT
from tests.unit.worker.bulk.world import manifest

ITEMS = 140  # of three chunks
FAILING = (7, 70, 139)
NAMES = ["a/b.png", "a/B.png", "a/b.jpg", "ä\u2028ö.png", "../x.png"]


def labelled(service: Service) -> Batch:
    """A batch that has ended, with results, errors and reviews, and odd names."""
    world = service.world
    world.put_images(number for number in range(ITEMS) if number not in FAILING)
    lines = [json.loads(line) for line in manifest(range(ITEMS)).splitlines()]
    for line, name in zip(lines, NAMES, strict=False):
        line["id"] = name
    text = "".join(json.dumps(line) + "\n" for line in lines)
    return world.run(world.submit(text.encode(), review=ReviewThresholds(min_confidence=0.9)))


def begun(out: Path) -> None:
    with OutputFolder(out) as folder:
        folder.begin(DOCUMENT)


def download(client: Client, batch: Batch, out: Path) -> None:
    with OutputFolder(out) as folder:
        folder.resume()
        assert Downloader(client.batches, batch.id, folder, with_masks=True).download(Impatient())


def lines_of(path: Path) -> list[Any]:
    text = path.read_bytes()
    assert text.endswith(b"\n")
    return [json.loads(line) for line in text.removesuffix(b"\n").split(b"\n")]


def require_all(service: Service, batch: Batch, out: Path) -> None:
    """The files are whole: what the service has, each line once, and the masks under their names."""
    expected = [json.loads(one.to_json()) for one in service.world.results(batch)]
    masks = [one.pop("prediction") for one in expected]
    came = lines_of(out / RESULTS)
    assert [one | {"prediction": {}} for one in expected] == [
        {name: value for name, value in one.items() if name != "file"} for one in came
    ]
    assert all((out / "category" / one["file"]).exists() for one in came)
    assert [one["id"] for one in lines_of(out / ERRORS)] == [f"n{number}" for number in FAILING]
    assert lines_of(out / REVIEW) == [json.loads(one.to_json()) for one in service.world.reviews(batch)]
    for kind, field in (("category", "categoryMask"), ("confidence", "confidenceMask")):
        files = sorted(path for path in (out / kind).rglob("*") if path.is_file())
        assert [path.suffix for path in files] == [".png"] * len(masks)
        assert sorted(path.read_bytes() for path in files) == sorted(
            base64.b64decode(one[field]) for one in masks
        )
        named = (out / kind / "n100.png").read_bytes()
        [mask] = [m for one, m in zip(expected, masks, strict=True) if one["id"] == "n100"]
        assert named == base64.b64decode(mask[field])


@pytest.fixture
def batch(service: Service) -> Batch:
    return labelled(service)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    begun(tmp_path / "out")
    return tmp_path / "out"


def test_everything_comes(client: Client, service: Service, batch: Batch, out: Path) -> None:
    download(client, batch, out)
    require_all(service, batch, out)
    assert not list(out.rglob("*.new"))
    assert (out / "category/a/b.png").exists()
    assert len(list((out / "category/a").iterdir())) == 1
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.*")}
    download(client, batch, out)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.*")} == before


@pytest.fixture(scope="module")
def ended() -> Callable[[], tuple[Service, Batch]]:
    service = Service()
    batch = labelled(service)
    return lambda: (service, batch)


@pytest.mark.filterwarnings("ignore:unclosed file", "ignore::pytest.PytestUnraisableExceptionWarning")
@settings(max_examples=25, deadline=None)
@given(lines=st.lists(st.integers(1, 4500), min_size=1, max_size=4))
def test_interrupted_between_any_two_lines(
    ended: Callable[[], tuple[Service, Batch]], lines: list[int]
) -> None:
    service, batch = ended()
    with TemporaryDirectory() as place, service.client() as client:
        out = Path(place) / "out"
        begun(out)
        for at in lines:
            with Interruption(at):
                download(client, batch, out)
        download(client, batch, out)
        require_all(service, batch, out)


def test_a_killed_process_leaves_what_is_put_right(
    client: Client, service: Service, batch: Batch, out: Path
) -> None:
    """It leaves half a line, or the lines of a chunk that nobody noted."""
    for name in (RESULTS, ERRORS, REVIEW):
        (out / name).write_text('{"id": "half\n{"id":' + 10**6 * "x")
    download(client, batch, out)
    require_all(service, batch, out)


def test_an_address_that_is_over_is_asked_for_again(
    client: Client, service: Service, batch: Batch, out: Path
) -> None:
    asked: list[str] = []

    def refuse_twice(request: httpx.Request) -> None:
        if request.url.path.startswith("/v1/artifacts"):
            asked.append(request.url.path)
            if len(asked) in {2, 3}:
                raise httpx.ReadError("broken off")

    service.before = refuse_twice
    download(client, batch, out)
    require_all(service, batch, out)
    pages = [one for one in service.requests if one.endswith("/shards")]
    assert len(pages) == 4


def test_a_file_that_is_gone_is_no_endless_wait(
    client: Client, service: Service, batch: Batch, out: Path
) -> None:
    gone = list(service.world.artifacts.keys(f"batches/{batch.id}/errors/"))[1:]
    service.world.artifacts.delete(gone)
    with pytest.raises(ApiError, match="404"):
        download(client, batch, out)
    assert [one["id"] for one in lines_of(out / ERRORS)] == ["n7"]


def test_a_cancelled_batch_with_gaps(client: Client, service: Service, out: Path) -> None:
    """Of its chunks some have ended, far from each other: what there is comes, and then the end is seen."""
    world = service.world
    service.works = False
    world.put_images(range(2))
    lines = [json.loads(line) for line in manifest(range(64 * 250)).splitlines()]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    batch = world.submit(text.encode())
    while not world.read(batch).is_all_cut:
        world.leader().look()
    held = [world.claim() for _ in range(250)]
    for chunk in held:
        if chunk.number in {1, 240}:
            world.batches.release(chunk.key)
    world.runner().run("grabcut")
    client.batches.cancel(batch.id)
    world.leader().look()
    download(client, batch, out)
    assert [one["id"] for one in lines_of(out / RESULTS)] == ["n0", "n1"]
    with OutputFolder(out) as folder:
        folder.resume()
        assert folder.downloaded == 240


def test_without_masks_there_are_no_files_of_them(client: Client, batch: Batch, out: Path) -> None:
    with OutputFolder(out) as folder:
        folder.resume()
        Downloader(client.batches, batch.id, folder, with_masks=False).download(Impatient())
    assert sorted(path.name for path in out.iterdir()) == [".maskline", ERRORS, RESULTS, REVIEW]


def test_it_stops_when_it_is_told(client: Client, service: Service, batch: Batch, out: Path) -> None:
    stopping = Impatient()
    service.after = lambda request: stopping.set() if "artifacts" in request.url.path else None
    with OutputFolder(out) as folder:
        folder.resume()
        assert not Downloader(client.batches, batch.id, folder, with_masks=True).download(stopping)
        assert folder.downloaded == 1
