"""Weights from the Hugging Face hub, by its own client against a small hub of ours."""

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import huggingface_hub.constants
import pytest

from maskline.catalog import ModelSpec, Weights
from maskline.errors import WeightsUnusable
from maskline.sums import SUMS
from maskline.weights import Check, WeightStore

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """As much of the hub's HTTP API as its client uses to download a model."""

    files: ClassVar[dict[str, bytes]] = {}
    sums: ClassVar[dict[str, str]] = {}
    asked: ClassVar[list[str]] = []

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        self.asked.append(self.path)
        if self.path.startswith("/api/models/some/model"):
            siblings = [
                {
                    "rfilename": name,
                    "size": len(body),
                    **(
                        {"lfs": {"sha256": self.sums[name], "size": len(body), "pointerSize": 1}}
                        if name in self.sums
                        else {}
                    ),
                }
                for name, body in self.files.items()
            ]
            document = {"id": "some/model", "modelId": "some/model", "sha": COMMIT, "siblings": siblings}
            self._send(json.dumps(document).encode(), "application/json", with_body=with_body)
            return
        name = self.path.removeprefix(f"/some/model/resolve/{COMMIT}/").split("?")[0]
        if name not in self.files:
            self.send_error(404)
            return
        self._send(self.files[name], "application/octet-stream", with_body=with_body)

    def _sibling(self, name: str, body: bytes) -> dict[str, object]:
        known: dict[str, object] = {"rfilename": name, "size": len(body)}
        if name in self.sums:
            known["lfs"] = {"sha256": self.sums[name], "size": len(body), "pointerSize": 1}
        return known

    def _send(self, body: bytes, media_type: str, *, with_body: bool) -> None:
        self.send_response(200)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    tensors = bytes(range(256)) * 400
    Hub.files = {
        "config.json": b"{}",
        "preprocessor_config.json": b"{}",
        "model.safetensors": tensors,
        "pytorch_model.bin": b"never wanted",
        "README.md": b"never wanted",
        "runs/log.json": b"never wanted",
    }
    Hub.sums = {"model.safetensors": hashlib.sha256(tensors).hexdigest()}
    Hub.asked.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(
        huggingface_hub.constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        endpoint + "/{repo_id}/resolve/{revision}/{filename}",
    )
    yield
    server.shutdown()
    thread.join()
    server.server_close()


SPEC = ModelSpec(id="mine", family="transformers", display_name="M", weights=Weights(hub="some/model"))


@pytest.mark.usefixtures("site")
def test_a_model_is_downloaded_once_whole_and_verified(tmp_path: Path) -> None:
    store = WeightStore(tmp_path)
    with pytest.raises(WeightsUnusable, match="run: maskline models pull mine"):
        store.find(SPEC)
    seen: list[tuple[int, int | None]] = []
    folder = store.pull(SPEC, lambda done, total: seen.append((done, total)))
    wanted = {"config.json", "preprocessor_config.json", "model.safetensors"}
    total = sum(len(Hub.files[name]) for name in wanted)
    assert seen[0] == (0, total)
    assert seen[-1] == (total, total)
    assert {file.name for file in folder.iterdir()} == wanted | {SUMS}
    assert (folder / "model.safetensors").read_bytes() == Hub.files["model.safetensors"]
    Hub.asked.clear()
    assert store.pull(SPEC) == store.find(SPEC) == store.verify(SPEC) == folder
    assert Hub.asked == []
    assert store.check_of(SPEC) is Check.SUMS
    (folder / "model.safetensors").write_bytes(b"other")
    with pytest.raises(
        WeightsUnusable, match=r"model\.safetensors is gone or altered; remove .*/main and run: "
    ):
        store.verify(SPEC)


@pytest.mark.usefixtures("site")
def test_weights_of_the_older_kind_are_taken_where_there_are_no_others(tmp_path: Path) -> None:
    del Hub.files["model.safetensors"]
    assert (WeightStore(tmp_path).pull(SPEC) / "pytorch_model.bin").exists()


@pytest.mark.usefixtures("site")
def test_what_is_not_the_file_is_not_kept(tmp_path: Path) -> None:
    Hub.sums["model.safetensors"] = "0" * 64
    with pytest.raises(WeightsUnusable, match=r"another model\.safetensors of some/model"):
        WeightStore(tmp_path).pull(SPEC)
    assert not (tmp_path / "some--model" / "main").exists()
    assert list(tmp_path.rglob("model.safetensors")) == []


@pytest.mark.usefixtures("site")
@pytest.mark.parametrize(
    ("name", "message"),
    [("some/other", "some/other can't be fetched from the hub"), ("some/model", "no weights")],
)
def test_models_that_can_not_be_had(tmp_path: Path, name: str, message: str) -> None:
    Hub.files = {"config.json": b"{}"}
    spec = SPEC.model_copy(update={"weights": Weights(hub=name)})
    with pytest.raises(WeightsUnusable, match=message):
        WeightStore(tmp_path).pull(spec)


def test_a_hub_that_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(WeightsUnusable, match="can't be fetched from the hub"):
        WeightStore(tmp_path).pull(SPEC)


@pytest.mark.usefixtures("site")
def test_revisions_lie_side_by_side_and_never_mix(tmp_path: Path) -> None:
    store = WeightStore(tmp_path)
    stale = tmp_path / "some--model" / "main.fedcba.partial"
    stale.mkdir(parents=True)
    (stale / "model-00001.safetensors").write_bytes(b"of another commit")
    folder = store.pull(SPEC)
    assert {file.name for file in folder.glob("*.safetensors")} == {"model.safetensors"}
    assert not stale.exists()
    pinned = SPEC.model_copy(update={"weights": Weights(hub="some/model", revision="refs/pr/1")})
    with pytest.raises(WeightsUnusable, match="run: maskline models pull mine"):
        store.verify(pinned)
    assert store.pull(pinned) != folder
    assert store.verify(SPEC) == folder
