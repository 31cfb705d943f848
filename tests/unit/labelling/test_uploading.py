"""Uploading a data set: everything once, whenever it is broken off."""

import threading
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskline.batch_resources import NewBatch
from maskline.client import Client, ConnectionFailed
from maskline.datasets.source import Effect, Problem, Sourced, SourcedItem
from maskline.labelling import uploading
from maskline.labelling.folder import LabellingDocument, OutputFolder
from maskline.labelling.uploading import Uploader
from maskline.requests import Prompt
from tests.unit.labelling.interrupting import Interrupted, Interruption
from tests.unit.labelling.service import Service
from tests.unit.worker.bulk.world import image_of

DOCUMENT = LabellingDocument(source="photos", idempotency_key="k", batch=NewBatch(), prompts="boxes")
ITEMS = 9


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploading, "_FIRST_ITEMS", 2)
    monkeypatch.setattr(uploading, "_MOST_ITEMS", 4)


@pytest.fixture
def folder(tmp_path: Path) -> Iterable[OutputFolder]:
    with OutputFolder(tmp_path / "out") as begun:
        begun.begin(DOCUMENT)
        yield begun


def dataset(folder: Path) -> list[SourcedItem]:
    items = []
    for number in range(ITEMS):
        path = folder / f"{number}.png"
        path.write_bytes(image_of(number))
        items.append(SourcedItem(position=number + 1, id=path.name, image=path))
    return items


def upload(client: Client, folder: OutputFolder, sourced: Iterable[Sourced]) -> list[Problem]:
    problems: list[Problem] = []
    batch = client.batches.create(DOCUMENT.batch, idempotency_key="k")
    assert Uploader(client.batches, batch.id, folder, problems.append).upload(sourced, threading.Event())
    return problems


def require_all(service: Service, sourced: Iterable[SourcedItem]) -> None:
    """Every item is there once, with its image."""
    assert service.batch().is_complete
    there = {item.id: service.image(item) for item in service.items()}
    assert len(there) == len(service.items())
    assert there == {one.id: Path(one.image).read_bytes() for one in sourced}


def test_parts_grow(client: Client, service: Service, folder: OutputFolder, tmp_path: Path) -> None:
    sourced = dataset(tmp_path)
    assert upload(client, folder, sourced) == []
    require_all(service, sourced)
    assert [len(one.ids) for one in folder.uploaded()] == [2, 4, 3]


@pytest.mark.filterwarnings("ignore:unclosed file", "ignore::pytest.PytestUnraisableExceptionWarning")
@settings(max_examples=25, deadline=None)
@given(lines=st.lists(st.integers(1, 400), max_size=4), calls=st.integers(1, 12), is_after=st.booleans())
def test_interrupted_between_any_two_lines(lines: list[int], calls: int, is_after: bool) -> None:
    """Of the program, or in a request: before the service sees it, or before its answer comes."""
    service = Service(works=False)
    with TemporaryDirectory() as place, service.client() as client:
        sourced = dataset(Path(place))
        out = Path(place) / "out"
        with OutputFolder(out) as folder:
            folder.begin(DOCUMENT)
        for at in lines:
            with Interruption(at), OutputFolder(out) as folder:
                folder.resume()
                upload(client, folder, sourced)
        left = iter(range(calls))

        def break_off(request: httpx.Request) -> None:
            if next(left, None) is None:
                raise Interrupted

        service.before, service.after = (_nothing, break_off) if is_after else (break_off, _nothing)
        with Interruption(0), OutputFolder(out) as folder:
            folder.resume()
            upload(client, folder, sourced)
        service.before = service.after = _nothing
        with OutputFolder(out) as folder:
            folder.resume()
            upload(client, folder, sourced)
        require_all(service, sourced)


def _nothing(request: httpx.Request) -> None:
    """For a service that answers."""


def test_a_part_is_sent_again_to_the_letter(
    client: Client, service: Service, folder: OutputFolder, tmp_path: Path
) -> None:
    """Although the data set has changed meanwhile: the service may have the part already."""
    sourced = dataset(tmp_path)
    bodies: list[bytes] = []

    def break_off(request: httpx.Request) -> None:
        if request.url.path.endswith("/parts/2"):
            bodies.append(request.read())
            raise httpx.ReadError("gone")

    service.before = break_off
    with pytest.raises(ConnectionFailed):
        upload(client, folder, sourced)
    service.before = lambda request: bodies.append(request.read())
    other = [one for one in sourced if one.id != "3.png"]
    assert (
        upload(client, folder, [SourcedItem(position=1, id="0a.png", image=tmp_path / "0.png"), *other]) == []
    )
    assert bodies[0] in bodies[-6:]
    ids = [str(item.id) for item in service.items()]
    assert sorted(ids) == ["0.png", "0a.png", *(f"{n}.png" for n in range(1, ITEMS))]


def test_a_killed_process_leaves_half_a_note(client: Client, service: Service, tmp_path: Path) -> None:
    """Of a part that it did not begin to upload, for that comes after its note."""
    sourced = dataset(tmp_path)

    def break_off(request: httpx.Request) -> None:
        if request.url.path.endswith("/packs/3"):
            raise httpx.ReadError("gone")

    service.before = break_off
    with OutputFolder(tmp_path / "out") as folder:
        folder.begin(DOCUMENT)
        with pytest.raises(ConnectionFailed):
            upload(client, folder, sourced)
    service.before = _nothing
    log = tmp_path / "out" / ".maskline" / "uploaded.jsonl"
    log.write_bytes(log.read_bytes()[:-9])
    for _ in range(2):
        with OutputFolder(tmp_path / "out") as folder:
            folder.resume()
            upload(client, folder, sourced)
            assert [one.part for one in folder.uploaded()] == [1, 2, 3, 4]
    require_all(service, sourced)


def test_a_complete_batch_is_left_alone(client: Client, folder: OutputFolder, tmp_path: Path) -> None:
    upload(client, folder, dataset(tmp_path))

    def nothing() -> Iterable[Sourced]:
        raise AssertionError("the data set was read")
        yield

    assert upload(client, folder, nothing()) == []


def test_it_stops_when_it_is_told(
    client: Client, service: Service, folder: OutputFolder, tmp_path: Path
) -> None:
    stopping = threading.Event()
    service.after = lambda request: stopping.set() if request.url.path.endswith("/parts/1") else None
    batch = client.batches.create(DOCUMENT.batch, idempotency_key="k")
    uploader = Uploader(client.batches, batch.id, folder, print)
    assert not uploader.upload(dataset(tmp_path), stopping)
    assert (service.batch().parts, service.batch().is_complete) == (1, False)


def test_identical_images_are_packed_once(
    client: Client, service: Service, folder: OutputFolder, tmp_path: Path
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(image_of(1))
    upload(client, folder, [SourcedItem(position=n, id=str(n), image=path) for n in (1, 2)])
    assert len({str(item.image) for item in service.items()}) == 1


def test_addresses_go_as_they_are(
    client: Client, service: Service, folder: OutputFolder, tmp_path: Path
) -> None:
    local = dataset(tmp_path)[:1]
    remote = SourcedItem(position=2, id="far", image="https://images.test/a.png")
    upload(client, folder, [*local, remote])
    assert [item.image for item in service.items()][1] == "https://images.test/a.png"


def test_what_can_not_be_uploaded_is_told_and_the_others_go_on(
    client: Client, service: Service, folder: OutputFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploading, "MAX_PACK_BYTES", 5000)
    monkeypatch.setattr(uploading, "MAX_ITEM_BYTES", 100_000)
    good = dataset(tmp_path)[:1]
    (tmp_path / "empty.png").touch()
    (tmp_path / "huge.png").write_bytes(b"x" * 5001)
    (tmp_path / "folder.png").mkdir()
    label = "ü" * 128
    prompts = tuple(Prompt(label=label, box=(0, 0, 1, 1)) for _ in range(1000))
    bad: list[Sourced] = [
        SourcedItem(position=2, id="empty", image=tmp_path / "empty.png"),
        SourcedItem(position=3, id="huge", image=tmp_path / "huge.png"),
        SourcedItem(position=4, id="gone", image=tmp_path / "gone.png"),
        SourcedItem(position=5, id="folder", image=tmp_path / "folder.png"),
        SourcedItem(position=6, id="line\nbreak", image=tmp_path / "0.png"),
        SourcedItem(position=7, id="\udcff", image=tmp_path / "0.png"),
        SourcedItem(position=8, id="far", image="s3://bucket"),
        SourcedItem(position=9, id="many", image=tmp_path / "0.png", prompts=prompts),
        Problem(where="line 10", message="it is none", effect=Effect.ITEM_LEFT_OUT),
    ]
    problems = upload(client, folder, [*bad, *good])
    require_all(service, good)
    told = {one.where: one.message for one in problems}
    assert all(one.effect is Effect.ITEM_LEFT_OUT for one in problems)
    assert told["empty"] == "the file is empty"
    assert told["huge"] == "it has 5001 bytes; at most 5000 can be uploaded"
    assert "No such file" in told["gone"]
    assert "directory" in told["folder"]
    assert "control characters" in told["line\nbreak"]
    assert "\udcff" in told
    assert "give s3://BUCKET/KEY" in told["far"]
    assert "at most 100000 are taken" in told["many"]
    assert told["line 10"] == "it is none"


def test_a_part_is_no_larger_than_it_may_be(
    client: Client, service: Service, folder: OutputFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploading, "_MOST_BYTES", 250)
    sourced = dataset(tmp_path)
    size = len(image_of(0))
    upload(client, folder, sourced)
    require_all(service, sourced)
    assert max(len(one.ids) for one in folder.uploaded()) == max(1, 250 // size)
