"""Weights: found, downloaded, gone on with, and checked."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from pydantic import ValidationError

from maskline.catalog import ModelSpec, Weights, add_to_catalog, load_catalog
from maskline.errors import WeightsUnusable
from maskline.sums import write_sums
from maskline.weights import Check, WeightStore

CONTENT = bytes(range(256)) * 5000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Site(BaseHTTPRequestHandler):
    ranges: ClassVar[list[str | None]] = []

    def do_GET(self) -> None:
        asked = self.headers["Range"]
        self.ranges.append(asked)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and "norange" not in self.path else 0
        if self.path.startswith("/none"):
            self.send_error(404)
            return
        if start >= len(CONTENT):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        self.wfile.write(CONTENT[start:])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site() -> Iterator[str]:
    Site.ranges.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def model(url: str, sha256: str = SHA256) -> ModelSpec:
    weights = Weights(url=url, sha256=sha256, size=len(CONTENT))
    return ModelSpec(id="some/model", family="sam", display_name="Some", weights=weights)


def test_a_file_is_downloaded_once_and_verified(site: str, tmp_path: Path) -> None:
    store, spec = WeightStore(tmp_path / "new"), model(f"{site}/w.pth")
    seen: list[tuple[int, int | None]] = []
    with pytest.raises(WeightsUnusable, match="run: maskline models pull some/model"):
        store.find(spec)
    path = store.pull(spec, lambda done, total: seen.append((done, total)))
    assert path == store.find(spec) == tmp_path / "new" / "some--model" / "w.pth"
    assert path.read_bytes() == CONTENT
    assert (seen[0], seen[-1]) == ((0, len(CONTENT)), (len(CONTENT), len(CONTENT)))
    assert store.pull(spec) == store.verify(spec) == path
    assert len(Site.ranges) == 1
    assert [file.name for file in path.parent.iterdir()] == ["w.pth"]


@pytest.mark.parametrize("there", [1, 700_000, len(CONTENT)])
@pytest.mark.parametrize("name", ["w.pth", "norange.pth"])
def test_a_download_that_broke_off_is_gone_on_with(site: str, tmp_path: Path, there: int, name: str) -> None:
    store, spec = WeightStore(tmp_path), model(f"{site}/{name}")
    partial = tmp_path / "some--model" / f"{name}.partial"
    partial.parent.mkdir()
    partial.write_bytes(CONTENT[:there])
    assert store.pull(spec).read_bytes() == CONTENT
    assert Site.ranges == [f"bytes={there}-"]


def test_what_is_not_the_file_is_not_kept(site: str, tmp_path: Path) -> None:
    store, spec = WeightStore(tmp_path), model(f"{site}/w.pth", sha256="0" * 64)
    with pytest.raises(WeightsUnusable, match=f"SHA-256 is {SHA256}"):
        store.pull(spec)
    assert list((tmp_path / "some--model").iterdir()) == []


def test_an_altered_file_is_found_out(site: str, tmp_path: Path) -> None:
    store, spec = WeightStore(tmp_path), model(f"{site}/w.pth")
    path = store.pull(spec)
    path.write_bytes(CONTENT[:-1] + b"\0")
    for look in (store.verify, store.pull):
        with pytest.raises(WeightsUnusable, match="is not the file that the catalog names") as caught:
            look(spec)
        assert caught.value.message.endswith("; remove it and run: maskline models pull some/model")


@pytest.mark.parametrize("url", ["{site}/none.pth", "http://127.0.0.1:1/w.pth"])
def test_a_file_that_can_not_be_fetched(site: str, tmp_path: Path, url: str) -> None:
    with pytest.raises(WeightsUnusable, match="can't be fetched"):
        WeightStore(tmp_path).pull(model(url.format(site=site)))


def test_a_path_is_taken_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "mine.pth"
    spec = ModelSpec(id="mine", family="sam", display_name="Mine", weights=Weights(path=file))
    store = WeightStore(tmp_path / "elsewhere")
    with pytest.raises(WeightsUnusable, match="put them there"):
        store.pull(spec)
    file.write_bytes(b"x")
    assert store.pull(spec) == file
    assert store.check_of(spec) is Check.PRESENCE


def test_weights_of_ones_own_are_checked_as_far_as_can_be(tmp_path: Path) -> None:
    file, folder = tmp_path / "mine.pth", tmp_path / "mine"
    store = WeightStore(tmp_path / "elsewhere")
    file.write_bytes(CONTENT)
    known = ModelSpec(id="f", family="sam", display_name="F", weights=Weights(path=file, sha256=SHA256))
    assert store.check_of(known) is Check.CATALOG
    assert store.verify(known) == file
    file.write_bytes(b"x")
    with pytest.raises(WeightsUnusable, match=r"; put the right file there, or change the catalog$"):
        store.verify(known)
    spec = ModelSpec(id="d", family="transformers", display_name="D", weights=Weights(path=folder))
    folder.mkdir()
    assert store.check_of(spec) is Check.PRESENCE
    (folder / "config.json").write_bytes(CONTENT)
    write_sums(folder, {"config.json": SHA256})
    assert store.check_of(spec) is Check.SUMS
    assert store.verify(spec) == folder
    (folder / "config.json").unlink()
    with pytest.raises(
        WeightsUnusable, match=r"config\.json is gone or altered; put it back, or mend .*SUMS$"
    ):
        store.verify(spec)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"url": "https://example.com/a.pth"},
        {"url": "https://example.com/a.pth", "sha256": SHA256, "path": "a"},
        {"url": "ftp://example.com/a.pth", "sha256": SHA256},
        {"hub": "no-slash"},
        {"path": "a", "revison": "x"},
    ],
)
def test_a_catalog_says_where_weights_are_in_one_way(fields: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        Weights.model_validate(fields)


def test_the_shipped_catalog_is_whole() -> None:
    for spec in load_catalog().values():
        assert spec.license, spec.id
        assert spec.description, spec.id
        assert spec.weights is None or spec.weights.size is None or spec.weights.size > 1 << 20


def test_a_model_is_added_to_a_catalog_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "catalog.yaml"
    first, second = (
        model("https://example.com/a.pth"),
        ModelSpec(
            id="two",
            family="transformers",
            display_name="Zwei: größer",
            weights=Weights(path=tmp_path / "two"),
            labels=("a", "b"),
            options={"subtasks": ["panoptic", "semantic"]},
        ),
    )
    add_to_catalog(file, first)
    file.write_text("# ours\n" + file.read_text())
    add_to_catalog(file, second)
    assert file.read_text().startswith("# ours\n")
    known = load_catalog(file)
    assert (known["some/model"], known["two"]) == (first, second)
    with pytest.raises(ValueError, match="has 'two' already"):
        add_to_catalog(file, second)
    assert load_catalog(file) == known


@pytest.mark.parametrize(
    "text", ["models: []\n", "models:\n- {id: a, family: sam, displayName: A}\nother: 1\n"]
)
def test_a_catalog_that_can_not_be_added_to_stays_as_it_is(tmp_path: Path, text: str) -> None:
    file = tmp_path / "catalog.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match="put this under its models"):
        add_to_catalog(file, model("https://example.com/a.pth"))
    assert file.read_text() == text
