"""The command ``maskline`` as a process sees it: arguments in; exit code, output and requests out."""

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
import typer
from PIL import Image
from pydantic import ValidationError
from typer.core import TyperGroup
from typer.main import get_command

from maskline.catalog import load_catalog
from maskline.cli import app, main
from maskline.cli.context import EXIT_CODES
from maskline.cli.prompts import read_prompts
from maskline.client import Client
from maskline.requests import Prompt

JOB: dict[str, Any] = {
    "id": "0123456789abcdef0123456789abcdef",
    "state": "queued",
    "version": 1,
    "model": "a-model-with-quite-a-long-name/of-two-parts",
    "subtask": "semantic",
    "outputs": ["categoryMask", "confidenceMask", "segments"],
    "priority": "interactive",
    "createdAt": "2026-01-02T03:04:05Z",
    "expiresAt": "2026-01-03T03:04:05Z",
    "attempt": 0,
}
DONE = JOB | {
    "state": "succeeded",
    "timings": dict.fromkeys(("queue", "fetch", "decode", "model", "batch", "render", "store"), 1.5),
}
FAILED = JOB | {"state": "failed", "error": {"code": "prediction_failed", "message": "[red]no[/blue]"}}
CARD: dict[str, Any] = {
    "id": "grabcut",
    "family": "grabcut",
    "displayName": "GrabCut",
    "description": "Takes [0, 1] and [/odd] things",
    "subtasks": ["semantic", "instance"],
    "promptKinds": ["box"],
    "available": True,
}
OTHER_CARD: dict[str, Any] = CARD | {"id": "net", "promptKinds": [], "available": False}
PROBLEM = {"type": "about:blank", "title": "t", "status": 401, "code": "unauthenticated", "detail": "why"}
KEY = {
    "id": "k1",
    "name": "[bold]lab[/b]",
    "tenant": "lab",
    "scopes": ["submit", "read"],
    "createdAt": "2026-01-02T03:04:05Z",
}


class Ended(NamedTuple):
    """A command that ran."""

    code: int
    out: str
    err: str

    @property
    def told(self) -> str:
        """Standard error without its line breaks."""
        return " ".join(self.err.split())


Maskline = Callable[..., Ended]


class Service:
    """Plays the service: an answer for each method and path."""

    def __init__(self) -> None:
        self.answers: dict[str, httpx.Response | BaseException] = {}
        self.requests: list[httpx.Request] = []
        self.clients: list[tuple[str | None, str | None]] = []

    def on(self, call: str, body: object = None, status: int = 200, content: bytes = b"") -> None:
        self.answers[call] = httpx.Response(
            status, content=content if body is None else json.dumps(body).encode()
        )

    def refuse(self, call: str, status: int, code: str) -> None:
        self.on(call, PROBLEM | {"status": status, "code": code}, status)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.requests.append(request)
        answer = self.answers[f"{request.method} {request.url.path}"]
        if isinstance(answer, BaseException):
            raise answer
        return httpx.Response(answer.status_code, content=answer.content)

    @property
    def sent(self) -> Any:
        """The JSON of the latest body."""
        return json.loads(self.requests[-1].content)

    def client(self, url: str | None, api_key: str | None) -> Client:
        self.clients.append((url, api_key))
        return Client(url, api_key, transport=httpx.MockTransport(self), sleep=lambda _: None)


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Service:
    played = Service()
    monkeypatch.setattr("maskline.cli.context.Client", played.client)
    monkeypatch.delenv("MASKLINE_URL", raising=False)
    monkeypatch.delenv("MASKLINE_API_KEY", raising=False)
    monkeypatch.chdir(tmp_path)
    return played


@pytest.fixture
def maskline(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Maskline:
    monkeypatch.setattr("typer.rich_utils.FORCE_TERMINAL", None)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.setenv("COLUMNS", "120")

    def run(*arguments: str | Path) -> Ended:
        monkeypatch.setattr(sys, "argv", ["maskline", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        code = caught.value.code
        assert code is None or isinstance(code, int)
        out, err = capsys.readouterr()
        return Ended(code or 0, out, re.sub(r"\x1b\[[\d;]*m", "", err))

    return run


JOB_PATH = f"/v1/jobs/{JOB['id']}"
ID = str(JOB["id"])

# --- exit codes


def test_done(service: Service, maskline: Maskline) -> None:
    service.on(f"GET {JOB_PATH}", DONE)
    ended = maskline("get", ID)
    assert ended.code == 0
    assert ended.out.startswith(f"{ID}  succeeded\n")
    assert "model 2 ms" in ended.out
    assert not ended.err


@pytest.mark.parametrize("command", [("wait", ID), ("submit", "https://x.test/a.png", "--wait")])
def test_a_job_without_success(service: Service, maskline: Maskline, command: tuple[str, ...]) -> None:
    service.on("POST /v1/jobs", JOB, 202)
    service.on(f"GET {JOB_PATH}", FAILED)
    ended = maskline(*command)
    assert ended.code == 1
    assert not ended.out
    assert f"the job {ID} is failed: prediction_failed: [red]no[/blue]" in ended.told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nonsense"], "nonsense"),
        (["get"], "job_id"),
        (["list", "--limit", "0"], "limit"),
        (["submit", "no-such-file.png"], "no-such-file.png"),
        (["submit", "ftp://x.test/a.png"], "No such file"),
        (["submit", "s3://b/a.png", "--expires-in", "1"], "expires_in: it should be"),
        (["submit", "s3://b/a.png", "--webhook", "nowhere"], "url: give an http or https URL"),
        (["submit", "s3://b/a.png", "--param", "threshold"], "NAME=VALUE"),
        (["submit", "s3://b/a.png", "--metadata", "=1"], "NAME=VALUE"),
        (["submit", "s3://b/a.png", "--box", "cat:1,2,3"], "LABEL:x1,y1,x2,y2"),
        (["submit", "s3://b/a.png", "--box", "cat:3,3,1,1"], "encloses no area"),
        (["submit", "s3://b/a.png", "--prompts", "none.json"], "none.json"),
    ],
)
def test_wrong_use(service: Service, maskline: Maskline, arguments: list[str], told: str) -> None:
    ended = maskline(*arguments)
    assert ended.code == 2
    assert told in ended.told
    assert not ended.out
    assert not service.requests


@pytest.mark.parametrize("text", ["{", "7", "{}", '["x"]', "[{}]", '[{"label": "cat"}]', "\xff"])
def test_a_wrong_prompts_file(service: Service, maskline: Maskline, tmp_path: Path, text: str) -> None:
    file = tmp_path / "prompts.json"
    file.write_text(text, "latin-1")
    ended = maskline("submit", "s3://b/a.png", "--prompts", file)
    assert ended.code == 2
    assert ended.told
    assert not ended.told.startswith(":")


def test_a_refusal(service: Service, maskline: Maskline) -> None:
    service.refuse(f"GET {JOB_PATH}", 404, "job_not_found")
    assert maskline("get", ID, "--json") == (3, "", "job_not_found (404): why\n")


def test_an_answer_from_something_else(service: Service, maskline: Maskline) -> None:
    service.on(f"GET {JOB_PATH}", content=b"<html>")
    ended = maskline("get", ID)
    assert (ended.code, ended.out) == (3, "")
    assert "is this URL Maskline's?" in ended.told


def test_an_unavailable_service(service: Service, maskline: Maskline) -> None:
    service.refuse(f"GET {JOB_PATH}", 503, "job_store_unavailable")
    ended = maskline("get", ID)
    assert (ended.code, ended.out) == (4, "")
    assert "job_store_unavailable" in ended.told


def test_a_service_out_of_reach(service: Service, maskline: Maskline) -> None:
    service.answers["GET /v1/models"] = httpx.ConnectError("refused")
    ended = maskline("models", "list")
    assert (ended.code, ended.out) == (4, "")
    assert "http://127.0.0.1:8080 can't be reached: refused" in ended.told


def test_an_url_without_its_scheme(service: Service, maskline: Maskline) -> None:
    ended = maskline("list", "--url", "localhost:8080")
    assert ended.code == 4
    assert "http://" in ended.told


def test_the_wait_is_over(service: Service, maskline: Maskline) -> None:
    service.on(f"GET {JOB_PATH}", JOB | {"place": 3})
    ended = maskline("wait", ID, "--timeout", "0", "--json")
    assert (ended.code, json.loads(ended.out)["place"]) == (5, 3)
    assert f"the job {ID} is still queued" in ended.told


def test_ctrl_c(service: Service, maskline: Maskline) -> None:
    service.answers[f"GET {JOB_PATH}"] = KeyboardInterrupt()
    assert maskline("wait", ID).code == 130


def test_an_error_that_nobody_expects_is_not_hidden(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.answers[f"GET {JOB_PATH}"] = ZeroDivisionError()
    monkeypatch.setattr(sys, "argv", ["maskline", "get", ID])
    with pytest.raises(ZeroDivisionError):
        main()


def test_help_and_the_docs_tell_the_exit_codes(maskline: Maskline) -> None:
    told = "Exit codes: " + "; ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items()) + "."
    ended = maskline("--help")
    assert ended.code == 0
    assert told in " ".join(ended.out.split())
    docs = Path(__file__).parents[3] / "docs" / "api.md"
    assert told in " ".join(docs.read_text("utf-8").split())


def test_the_docs_name_every_command_and_every_option_of_models_add() -> None:
    docs = Path(__file__).parents[3] / "docs"
    api, models = ((docs / name).read_text("utf-8") for name in ("api.md", "models.md"))
    command = get_command(app)
    assert isinstance(command, TyperGroup)
    groups = {name: one for name, one in command.commands.items() if isinstance(one, TyperGroup)}
    assert f"`maskline {' | '.join(name for name in command.commands if name not in groups)}`" in api
    for name, group in groups.items():
        assert f"`maskline {name} {' | '.join(group.commands)}`" in api
    options = [option for one in groups["models"].commands["add"].params for option in one.opts]
    assert [option for option in options if option.startswith("--") and f"`{option}`" not in models] == []


def test_weights_that_can_not_be_had(maskline: Maskline, tmp_path: Path) -> None:
    for command in ("verify", "pull"):
        catalog = tmp_path / "own.yaml"
        catalog.write_text(
            "models: [{id: a, family: sam, displayName: A, weights: {path: none.pth}}]", "utf-8"
        )
        ended = maskline("models", command, "a", "--catalog", catalog)
        assert (ended.code, ended.out) == (4, "")
        assert "none.pth; put them there" in ended.told


def test_version(maskline: Maskline) -> None:
    assert maskline("version") == (0, version("maskline") + "\n", "")


# --- where the service is


def test_the_service_of_this_folder_is_taken(service: Service, maskline: Maskline, tmp_path: Path) -> None:
    service.on(f"GET {JOB_PATH}", JOB)
    (tmp_path / "maskline-data").mkdir()
    (tmp_path / "maskline-data/service.json").write_text('{"url": "http://here.test", "apiKey": "k0"}')
    maskline("get", ID)
    maskline("get", ID, "--api-key", "mine")
    maskline("get", ID, "--url", "http://there.test")
    assert service.clients == [
        ("http://here.test", "k0"),
        ("http://here.test", "mine"),
        ("http://there.test", None),
    ]


def test_the_environment_names_the_service(
    service: Service, maskline: Maskline, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.on(f"GET {JOB_PATH}", JOB)
    monkeypatch.setenv("MASKLINE_URL", "http://env.test")
    monkeypatch.setenv("MASKLINE_API_KEY", "k2")
    maskline("get", ID)
    assert service.clients == [("http://env.test", "k2")]


# --- submit


def test_everything_of_a_submission_is_sent(service: Service, maskline: Maskline, tmp_path: Path) -> None:
    service.on("POST /v1/jobs", JOB, 202)
    file = tmp_path / "prompts.json"
    file.write_text('[{"label": "dog", "points": [[1, 2]], "pointLabels": [1]}]')
    options = [
        *("--model", "grabcut", "--box", "cat:0,0,9,9", "--point", "cat:1,1", "--not-point", "cat:5,5"),
        *("--prompts", str(file), "--threshold", "0.25", "--param", "iterations=3", "--param", "mode=fast"),
        *("--subtask", "instance", "--priority", "bulk", "--no-auto-orient", "--metadata", 'tags=["a"]'),
        *("--metadata", "note=NaN", "--webhook", "https://hook.test/x", "--expires-in", "60"),
    ]
    ended = maskline("submit", "https://x.test/a.png", *options)
    assert ended == (0, f"{ID}  queued\n", "")
    sent = service.sent
    assert [prompt["label"] for prompt in sent["prompts"]] == ["dog", "cat"]
    assert sent["prompts"][1] == {
        "label": "cat",
        "box": [0, 0, 9, 9],
        "points": [[1, 1], [5, 5]],
        "pointLabels": [1, 0],
    }
    assert sent["parameters"] == {"iterations": 3, "mode": "fast", "confidenceThreshold": 0.25}
    assert sent["metadata"] == {"tags": ["a"], "note": "NaN"}
    assert (sent["model"], sent["subtask"], sent["priority"]) == ("grabcut", "instance", "bulk")
    assert (sent["autoOrient"], sent["expiresIn"]) == (False, 60)
    assert sent["webhook"]["url"] == "https://hook.test/x"


def test_a_file_is_uploaded(service: Service, maskline: Maskline, tmp_path: Path) -> None:
    service.on("POST /v1/jobs", JOB, 202)
    (tmp_path / "a.png").write_bytes(b"\x89PNG")
    assert maskline("submit", "a.png").code == 0
    body = service.requests[-1].content
    assert b'filename="a.png"' in body
    assert b"\x89PNG" in body


def with_results(service: Service) -> None:
    service.on("POST /v1/jobs", JOB, 202)
    service.on(f"GET {JOB_PATH}", DONE)
    service.on(f"GET {JOB_PATH}/prediction", {"categoryMask": "s3://b/c.png"})
    service.on(f"GET {JOB_PATH}/segments", {"width": 2, "height": 1, "segments": []})
    for name in ("overlay", "categoryMask", "confidenceMask"):
        service.on(f"GET {JOB_PATH}/{name}.png", content=name.encode())


@pytest.mark.parametrize("command", [("wait", ID), ("submit", "s3://b/a.png")])
def test_results_are_saved(
    service: Service, maskline: Maskline, tmp_path: Path, command: tuple[str, ...]
) -> None:
    with_results(service)
    ended = maskline(*command, "--out", "new/folder", "--json")
    assert ended.code == 0
    assert json.loads(ended.out)["state"] == "succeeded"
    folder = tmp_path / "new/folder"
    assert {file.name for file in folder.iterdir()} == {
        *("prediction.json", "segments.json", "overlay.png", "category.png", "confidence.png")
    }
    assert (folder / "category.png").read_bytes() == b"categoryMask"
    assert json.loads((folder / "prediction.json").read_text()) == {"categoryMask": "s3://b/c.png"}
    assert json.loads((folder / "segments.json").read_text())["width"] == 2


def test_only_what_was_made_is_saved(service: Service, maskline: Maskline, tmp_path: Path) -> None:
    with_results(service)
    service.on(f"GET {JOB_PATH}", DONE | {"outputs": ["segments"]})
    assert maskline("wait", ID, "--out", "out").code == 0
    assert {file.name for file in (tmp_path / "out").iterdir()} == {
        *("prediction.json", "segments.json", "overlay.png")
    }


# --- JSON, and nothing else


@pytest.mark.parametrize(
    ("arguments", "call", "body"),
    [
        (["submit", "s3://b/a.png"], "POST /v1/jobs", JOB),
        (["wait", ID], f"GET {JOB_PATH}", DONE),
        (["get", ID], f"GET {JOB_PATH}", FAILED),
        (["cancel", ID], f"POST {JOB_PATH}:cancel", JOB | {"state": "cancelled"}),
        (["list"], "GET /v1/jobs", {"jobs": [JOB, FAILED]}),
        (["models", "list"], "GET /v1/models", {"models": [CARD], "defaultModel": "grabcut"}),
        (["models", "show", "grabcut"], "GET /v1/models/grabcut", CARD),
        (["keys", "list"], "GET /v1/keys", {"keys": [KEY]}),
        (["keys", "create", "lab"], "POST /v1/keys", KEY | {"key": "mk_k1_s"}),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else "",
)
def test_json_is_all_that_standard_output_gets(
    service: Service, maskline: Maskline, arguments: list[str], call: str, body: dict[str, Any]
) -> None:
    service.on(call, body)
    ended = maskline(*arguments, *([] if arguments[1:2] == ["show"] else ["--json"]))
    assert ended.code == 0
    expected = next((body[name] for name in ("jobs", "keys") if name in body), body)
    found = json.loads(ended.out)
    pairs = zip(found, expected, strict=True) if isinstance(expected, list) else [(found, expected)]
    for one, other in pairs:
        assert {name: one[name] for name in other if name != "models"} == {
            name: value for name, value in other.items() if name != "models"
        }


# --- for people


def test_jobs_are_listed_in_full(service: Service, maskline: Maskline) -> None:
    service.on("GET /v1/jobs", {"jobs": [JOB, FAILED]})
    ended = maskline("list", "--state", "failed", "--model", "m")
    rows = ended.out.splitlines()[3:5]
    assert [row.split("│")[1].strip() for row in rows] == [ID, ID]
    assert all(JOB["model"] in row and "2026-01-02 03:04:05" in row for row in rows)
    assert "prediction_failed" in rows[1]
    assert dict(service.requests[-1].url.params) == {"state": "failed", "model": "m", "pageSize": "100"}


def test_no_page_is_fetched_past_the_limit(service: Service, maskline: Maskline) -> None:
    service.on("GET /v1/jobs", {"jobs": [JOB, JOB], "nextPageToken": "t"})
    assert len(json.loads(maskline("list", "--limit", "2", "--json").out)) == 2
    assert len(service.requests) == 1
    assert len(json.loads(maskline("list", "--limit", "3", "--json").out)) == 3


def test_models_are_listed_to_the_letter(service: Service, maskline: Maskline) -> None:
    service.on("GET /v1/models", {"models": [CARD, OTHER_CARD], "defaultModel": "grabcut"})
    first, second = maskline("models", "list").out.splitlines()[3:5]
    assert [cell.strip() for cell in first.split("│")[1:-1]] == [
        *("grabcut (default)", "grabcut", "semantic, instance", "box", "yes", CARD["description"])
    ]
    assert [cell.strip() for cell in second.split("│")[1:-1]][3:5] == ["none", "no worker"]


def test_a_model_of_ones_own_is_added_and_listed_with_its_weights(maskline: Maskline, tmp_path: Path) -> None:
    catalog, weights = tmp_path / "own.yaml", tmp_path / "own.pth"
    add = ("models", "add", "our/sam", "--family", "sam", "--variant", "vit_b", "--catalog", str(catalog))
    refused = maskline(*add)
    assert refused.code == 2
    assert "weights: give exactly one of url, path and hub" in refused.told
    assert not catalog.exists()
    added = maskline(*add, "--path", weights, "--license", "MIT")
    assert (added.code, added.out) == (0, f"our/sam is in {catalog}\n")
    assert added.told == f"There is nothing at {weights} yet; put the weights there."
    again = maskline(*add, "--path", weights)
    assert again.code == 2
    assert "already" in again.told
    here = ("models", "list", "--here", "--json", "--catalog", str(catalog), "--folder", str(tmp_path))
    states = {model["id"]: model["weightsState"] for model in json.loads(maskline(*here).out)}
    assert states["grabcut"] == "none needed"
    assert states["sam_vit_b"] == states["our/sam"] == "missing"
    weights.write_bytes(b"x")
    [ours] = [model for model in json.loads(maskline(*here).out) if model["id"] == "our/sam"]
    assert (ours["weightsState"], ours["options"], ours["license"]) == ("here", {"variant": "vit_b"}, "MIT")
    assert (ours["offeredHere"], "leftOut" in ours) == (True, False)
    listed = maskline(*here[:3], *here[4:])
    [row] = [line for line in listed.out.splitlines() if "our/sam" in line]
    assert [cell.strip() for cell in row.split("│")[1:6]] == ["our/sam", "sam", "here", "yes", "MIT"]
    assert "nothing else was checked" in listed.told


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("sam --path file", "needs its --variant, one of vit_b, vit_l, vit_h"),
        ("sam --path file --variant vit_x", "'vit_x' is not one of 'vit_b', 'vit_l', 'vit_h'"),
        ("sam --path folder --variant vit_b", "folder is a folder; the weights of sam are a file"),
        ("sam --hub a/b --variant vit_b", "--hub is not for sam"),
        ("sam --path file --variant vit_b --labels ade20k", "--labels is not for sam"),
        ("transformers --path file", "file is a file; the weights of transformers are a folder"),
        ("transformers --path folder --variant vit_b", "--variant is not for transformers"),
        ("transformers --weights-url https://a.test/b", "--weights-url is not for transformers"),
        ("sam --path file --variant vit_b --device gpu", "give cpu, mps, cuda, or one of several GPUs"),
        ("transformers --path folder --labels ade", "'ade' is not one of 'ade20k', 'coco_panoptic'"),
        ("transformers --hub name", "weights.hub: give the name of a model on the hub, as OWNER/NAME"),
        ("grabcut", "'grabcut' is not one of 'sam', 'transformers'"),
        ("sam --path file --variant vit_b --catalog no/own.yaml", "there is no folder no to put it into"),
    ],
)
def test_a_model_that_can_not_work_is_not_added(
    maskline: Maskline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: str, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    Path("folder").mkdir()
    ended = maskline("models", "add", "mine", "--catalog", "own.yaml", "--family", *options.split())
    assert (ended.code, ended.out) == (2, "")
    assert told in " ".join(ended.told.replace("│", " ").split())
    assert not Path("own.yaml").exists()


def test_a_model_is_added_with_its_device(maskline: Maskline, tmp_path: Path) -> None:
    catalog = tmp_path / "own.yaml"
    options = ("--family", "transformers", "--hub", "a/b", "--device", "cuda:1", "--catalog", catalog)
    assert maskline("models", "add", "mine", *options).code == 0
    assert load_catalog(catalog)["mine"].options == {"device": "cuda:1"}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("--device cpu --device cuda0", "'--device': give cpu, mps, cuda, or one of several GPUs"),
        ("--device cpu --device cuda:77", "there is no cuda:77"),
        ("--port 65536", "less than or equal to 65535"),
        ("--workers 1 --device cuda:0 --device cuda:1", "2 devices need at least as many --workers"),
    ],
)
def test_what_can_not_be_served_starts_nothing(
    maskline: Maskline, tmp_path: Path, options: str, told: str
) -> None:
    ended = maskline("up", "--data-dir", tmp_path / "data", *options.split())
    assert ended.code == 2
    assert told in " ".join(ended.told.replace("│", " ").split())
    assert not (tmp_path / "data").exists()


def test_to_take_the_place_of_a_shipped_model_is_told(maskline: Maskline, tmp_path: Path) -> None:
    options = ("--family", "transformers", "--path", tmp_path, "--catalog", tmp_path / "own.yaml")
    ended = maskline("models", "add", "sam_vit_b", *options)
    assert ended.code == 0
    assert ended.told == "sam_vit_b takes the place of the shipped model with that id."


def test_models_that_a_worker_leaves_out_are_listed_with_the_reason(
    maskline: Maskline, tmp_path: Path
) -> None:
    catalog = tmp_path / "own.yaml"
    catalog.write_text(
        """\
models:
  - {id: a, family: sams, displayName: A}
  - {id: b, family: sam, displayName: B, weights: {path: b.pth}, options: {variant: vit_x}}
  - {id: c, family: transformers, displayName: C}
  - {id: d, family: transformers, displayName: D, weights: {hub: d/d}, options: {dtype: int8}}
"""
    )
    reasons = {
        "a": "the catalog's entry 'a': family: there is no 'sams'; there are: grabcut, sam, transformers",
        "b": "the catalog's entry 'b': options.variant: give one of vit_b, vit_l, vit_h",
        "c": "the catalog's entry 'c': weights: a model of the family 'transformers' needs them",
        "d": "the catalog's entry 'd': options.dtype: it should be 'float32' or 'bfloat16'",
    }
    here = ("models", "list", "--here", "--catalog", str(catalog), "--folder", str(tmp_path))
    models = json.loads(maskline(*here, "--json").out)
    assert {model["id"]: model["leftOut"] for model in models if not model["offeredHere"]} == reasons
    listed = maskline(*here)
    assert listed.err.splitlines() == [f"{model}: {reason}" for model, reason in reasons.items()]
    assert [line.split("│")[4].strip() for line in listed.out.splitlines()[-5:-1]] == ["no"] * 4


def test_where_no_worker_is_installed_that_is_told(
    maskline: Maskline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "worker").mkdir()
    (tmp_path / "worker/__init__.py").touch()
    (tmp_path / "worker/offer.py").write_text("import structlog_is_not_here")
    monkeypatch.chdir(tmp_path)
    ended = maskline("models", "list", "--here", "--json", "--folder", tmp_path)
    assert ended.code == 0
    assert ended.told.startswith("no worker can run here (ModuleNotFoundError: No module named")
    assert not any("offeredHere" in model or "leftOut" in model for model in json.loads(ended.out))


def test_what_was_checked_of_weights_is_told(maskline: Maskline, tmp_path: Path) -> None:
    catalog, weights = tmp_path / "own.yaml", tmp_path / "own.pth"
    weights.write_bytes(b"x")
    add = ("--family", "sam", "--variant", "vit_b", "--path", weights, "--catalog", catalog)
    sha256 = hashlib.sha256(b"x").hexdigest()
    assert maskline("models", "add", "plain", *add).code == 0
    assert maskline("models", "add", "known", *add, "--sha256", sha256).code == 0
    for command in ("verify", "pull"):
        ask = ("models", command, "--catalog", catalog, "--folder", tmp_path)
        assert maskline(*ask, "grabcut") == (0, "", "grabcut needs no weights\n")
        known, plain = maskline(*ask, "known"), maskline(*ask, "plain")
        assert known[:2] == plain[:2] == (0, f"{weights}\n")
        assert known.told == "checked against the catalog's SHA-256"
        assert plain.told == "no SHA-256 is known; checked only that it is there"
    weights.write_bytes(b"y")
    wrong = maskline("models", "verify", "known", "--catalog", catalog)
    assert (wrong.code, wrong.out) == (4, "")
    assert wrong.told.endswith("put the right file there, or change the catalog")


def test_keys_are_listed_to_the_letter(service: Service, maskline: Maskline) -> None:
    service.on("GET /v1/keys", {"keys": [KEY, KEY | {"expiresAt": "2027-01-02T03:04:05Z"}]})
    rows = maskline("keys", "list").out.splitlines()[3:5]
    assert [[cell.strip() for cell in row.split("│")[1:-1]] for row in rows] == [
        ["k1", "[bold]lab[/b]", "lab", "submit, read", "2026-01-02 03:04", "never"],
        ["k1", "[bold]lab[/b]", "lab", "submit, read", "2026-01-02 03:04", "2027-01-02 03:04"],
    ]


def test_a_new_key_stands_alone_on_standard_output(service: Service, maskline: Maskline) -> None:
    key = "mk_k1_" + "f" * 200
    service.on("POST /v1/keys", KEY | {"key": key})
    ended = maskline("keys", "create", "lab", "--expires-in", "60")
    assert ended.out == key + "\n"
    assert "not shown again" in ended.err
    assert service.sent == {"name": "lab", "expiresIn": 60}
    maskline("keys", "create", "lab", "--tenant", "t1", "--scope", "read", "--scope", "admin")
    assert service.sent == {"name": "lab", "tenant": "t1", "scopes": ["read", "admin"]}
    wrong = maskline("keys", "create", "lab", "--tenant", "a:b")
    assert wrong.code == 2
    assert "a-z" in wrong.told


WEBHOOK = {
    "id": "wh_1",
    "url": "https://x.test/[hook]",
    "events": ["job.failed", "batch.failed"],
    "description": "[bold]ours[/b]",
    "enabled": False,
    "disabled": {"reason": "gone", "note": "it answered with 410", "at": "2026-01-02T03:04:05Z"},
    "createdAt": "2026-01-02T03:04:05Z",
}
LETTER = {
    "id": "evt_1_failed.wh_1",
    "eventId": "evt_1_failed",
    "type": "job.failed",
    "subject": "1",
    "version": 3,
    "happenedAt": "2026-01-02T03:04:05Z",
    "buriedAt": "2026-01-05T03:04:05Z",
    "tries": 10,
    "problem": "it answered with status 500",
}


def cells(table: str) -> list[list[str]]:
    """What stands in the rows of a table."""
    return [[cell.strip() for cell in row.split("│")[1:-1]] for row in table.splitlines()[3:-1]]


def test_a_secret_is_shown_with_its_webhook(service: Service, maskline: Maskline) -> None:
    secret = "whsec_" + "A" * 32
    service.on("POST /v1/webhooks", WEBHOOK | {"secret": secret}, 201)
    options = ("--event", "job.failed", "--event", "batch.failed", "--secret", secret, "--description", "x")
    ended = maskline("webhooks", "add", "https://x.test", *options)
    assert ended.out == f"wh_1  {secret}\n"
    assert "not shown again" in ended.err
    assert service.sent == {
        "url": "https://x.test",
        "events": ["job.failed", "batch.failed"],
        "secret": secret,
        "description": "x",
    }
    service.on("POST /v1/webhooks/wh_1:rotate", WEBHOOK | {"secret": secret})
    assert maskline("webhooks", "rotate", "wh_1", "--keep-old-for", "60").out == f"wh_1  {secret}\n"
    assert service.sent == {"keepOldFor": 60}
    assert maskline("webhooks", "add", "ftp://x.test").code == 2


def test_webhooks_are_shown_to_the_letter(service: Service, maskline: Maskline) -> None:
    service.on("GET /v1/webhooks", {"webhooks": [WEBHOOK]})
    state = "disabled: it answered with 410"
    assert cells(maskline("webhooks", "list").out) == [
        ["wh_1", "https://x.test/[hook]", "job.failed, batch.failed", state, "[bold]ours[/b]"]
    ]
    assert json.loads(maskline("webhooks", "list", "--json").out) == [WEBHOOK]
    service.on("GET /v1/webhooks/wh_1", WEBHOOK)
    shown = f"wh_1  {state}\n  https://x.test/[hook]\n  job.failed, batch.failed\n  [bold]ours[/b]\n"
    assert maskline("webhooks", "show", "wh_1").out == shown
    rotated = WEBHOOK | {"enabled": True, "disabled": None, "oldSecretEndsAt": "2026-01-03T03:04:05Z"}
    service.on("PATCH /v1/webhooks/wh_1", rotated)
    told = maskline("webhooks", "enable", "wh_1").out
    assert told.startswith("wh_1  enabled\n")
    assert told.endswith("until 2026-01-03 03:04 UTC\n")
    assert service.sent == {"enabled": True}
    maskline("webhooks", "disable", "wh_1")
    assert service.sent == {"enabled": False}


def test_the_answer_to_a_test_event_is_told(service: Service, maskline: Maskline) -> None:
    service.on("POST /v1/webhooks/wh_1:test", {"eventId": "e", "delivered": True, "status": 204})
    assert maskline("webhooks", "test", "wh_1") == (0, "delivered: status 204\n", "")
    failed = {"eventId": "e", "delivered": False, "problem": "it [/b]"}
    service.on("POST /v1/webhooks/wh_1:test", failed)
    assert maskline("webhooks", "test", "wh_1") == (1, "not delivered: it [/b]\n", "")
    ended = maskline("webhooks", "test", "wh_1", "--json")
    assert (ended.code, json.loads(ended.out)) == (1, failed)


def test_dead_letters_are_listed_and_sent_again(service: Service, maskline: Maskline) -> None:
    service.on("GET /v1/webhooks/deadLetters", {"deadLetters": [LETTER, LETTER]})
    listed = maskline("webhooks", "deadletters", "--webhook", "wh_1", "--limit", "1").out
    assert cells(listed) == [
        ["evt_1_failed.wh_1", "job.failed", "2026-01-05 03:04:05", "10", "it answered with status 500"]
    ]
    assert dict(service.requests[-1].url.params)["webhook"] == "wh_1"
    service.on("POST /v1/webhooks/deadLetters/evt_1_failed.wh_1:replay", {"replayed": 1})
    assert maskline("webhooks", "replay", "evt_1_failed.wh_1") == (0, "", "1 sent again\n")
    service.on("POST /v1/webhooks/deadLetters:replay", {"replayed": 7})
    times = ("--since", "2026-01-05", "--until", "2026-01-06T01:00:00.25+01:00")
    assert maskline("webhooks", "replay", *times, "--webhook", "wh_1").err == "7 sent again\n"
    assert service.sent == {
        "since": "2026-01-05T00:00:00Z",
        "until": "2026-01-06T01:00:00.250000+01:00",
        "webhook": "wh_1",
    }


@pytest.mark.parametrize("arguments", [(), ("evt_1.own", "--since", "2026-01-05"), ("--since", "yesterday")])
def test_which_dead_letters_are_to_be_sent_again_must_be_clear(
    service: Service, maskline: Maskline, arguments: tuple[str, ...]
) -> None:
    assert maskline("webhooks", "replay", *arguments).code == 2
    assert not service.requests


def test_what_is_removed_leaves_no_words(service: Service, maskline: Maskline) -> None:
    service.on("DELETE /v1/keys/k1", status=204)
    service.on(f"DELETE {JOB_PATH}", status=204)
    service.on("DELETE /v1/webhooks/wh_1", status=204)
    assert maskline("keys", "revoke", "k1") == (0, "", "")
    assert maskline("webhooks", "remove", "wh_1") == (0, "", "")
    assert maskline("delete", ID) == (0, "", "")


def test_the_failure_of_a_job_is_shown_to_the_letter(service: Service, maskline: Maskline) -> None:
    service.on(f"GET {JOB_PATH}", FAILED)
    assert maskline("get", ID).out == f"{ID}  failed\n  prediction_failed: [red]no[/blue]\n"


# --- prompts


def test_points_belong_to_the_latest_box_of_their_label() -> None:
    found = read_prompts(
        ["cat:0,0,2,2", "cat:4,4,8,8", "dog:1,1,2,2"], ["cat:5,5", "cup:1,2", "cup:3,4"], ["cat:7,7"], None
    )
    assert found == (
        Prompt(label="cat", box=(0, 0, 2, 2)),
        Prompt(label="cat", box=(4, 4, 8, 8), points=((5, 5), (7, 7)), point_labels=(1, 0)),
        Prompt(label="dog", box=(1, 1, 2, 2)),
        Prompt(label="cup", points=((1, 2), (3, 4)), point_labels=(1, 1)),
    )


def test_numbers_and_labels_may_be_odd() -> None:
    (only,) = read_prompts(["a: b:-1.5, 2e0 ,3,4"], [], [], None)
    assert only == Prompt(label="a: b", box=(-1.5, 2, 3, 4))


def test_no_prompts_at_all() -> None:
    assert read_prompts([], [], [], None) == ()


@pytest.mark.parametrize(
    "text", ["", "cat", "cat:", ":1,2", "1,2", "cat:1", "cat:1,2,3", "cat:1,x", "cat:1;2"]
)
def test_a_point_of_another_form(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="LABEL:x,y"):
        read_prompts([], [text], [], None)


@pytest.mark.parametrize("text", ["cat:1,2", "cat:1,2,3,4,5", "1,2,3,4", "cat:a,b,c,d"])
def test_a_box_of_another_form(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="LABEL:x1,y1,x2,y2"):
        read_prompts([text], [], [], None)


@pytest.mark.parametrize(
    ("boxes", "points", "others"),
    [
        (["cat:2,2,1,1"], [], []),
        (["cat:0,0,inf,1"], [], []),
        ([], ["cat:nan,1"], []),
        ([], [], ["cat:1,1"]),
    ],
)
def test_prompts_that_make_no_sense(boxes: list[str], points: list[str], others: list[str]) -> None:
    with pytest.raises(ValidationError):
        read_prompts(boxes, points, others, None)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('{"prompts": []}', "prompts.json has to hold a JSON list of prompts: give a list"),
        ('[{"box": [1, 1, 2, 2]}]', r"prompts.json has to hold .*: \[0\].label: this field is required"),
        ("", "prompts.json has to hold a JSON list of prompts: invalid JSON"),
    ],
)
def test_a_file_of_no_prompts_is_told_with_its_name(tmp_path: Path, content: str, told: str) -> None:
    file = tmp_path / "prompts.json"
    file.write_text(content)
    with pytest.raises(typer.BadParameter, match=told):
        read_prompts([], [], [], file)


# --- the whole, as a process


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        key_is_right = self.headers["Authorization"] == "Bearer right"
        body = json.dumps(DONE if key_is_right else PROBLEM).encode()
        self.send_response(200 if key_is_right else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as http_server:
        thread = threading.Thread(target=http_server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{http_server.server_port}"
        http_server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("CATALOG_FILE", "none.yaml", "the catalog none.yaml can't be read: No such file or directory\n"),
        ("CATALOG_FILE", "own.yaml", "own.yaml: a: family: this field is required\n"),
        ("LEASE", "never", "MASKLINE_LEASE: it should be a valid number"),
    ],
)
@pytest.mark.parametrize("command", [("up", "--data-dir", "data"), ("demo", "--out", "demo")])
def test_a_service_with_wrong_settings_is_not_started(
    tmp_path: Path, command: tuple[str, ...], name: str, value: str, told: str
) -> None:
    (tmp_path / "own.yaml").write_text("models: [{id: a, displayName: A}]")
    ended = subprocess.run(
        [sys.executable, "-m", "maskline", *command],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, f"MASKLINE_{name}": value},
        timeout=60,
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert told in ended.stderr
    assert list(tmp_path.rglob("*.log")) == []


@pytest.mark.parametrize(("key", "code"), [("right", 0), ("wrong", 3)])
def test_the_process(server: str, key: str, code: int, tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "maskline", "get", ID, "--json", "--url", server, "--api-key", key],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "NO_PROXY": "127.0.0.1", "FORCE_COLOR": ""},
        timeout=60,
    )
    assert ended.returncode == code
    if code:
        told = "unauthenticated (401): why (here: api_key, or the variable MASKLINE_API_KEY)\n"
        assert (ended.stdout, ended.stderr) == ("", told)
    else:
        assert json.loads(ended.stdout)["id"] == ID
        assert not ended.stderr


# --- masks held against each other


def _save_mask(path: Path, ids: bytes) -> None:
    path.parent.mkdir(exist_ok=True)
    mask = Image.frombytes("L", (len(ids), 1), ids)
    mask.save(path)


def test_evaluate(service: Service, maskline: Maskline, tmp_path: Path) -> None:
    _save_mask(tmp_path / "pred" / "a.png", bytes([0, 1, 1, 1]))
    _save_mask(tmp_path / "gt" / "a.png", bytes([0, 1, 2, 255]))
    (tmp_path / "labels.txt").write_text("background\n[bold]cup[/b]\n")
    arguments = ("evaluate", "pred", "gt", "--ignore", "255", "--labels", "labels.txt")
    ended = maskline(*arguments)
    assert ended.code == 0
    assert "1 compared, 0 not; mIoU 50.00%, pixel accuracy 66.67%" in ended.told
    (row,) = (line for line in ended.out.splitlines() if "cup" in line)
    assert [cell.strip() for cell in row.strip("│").split("│")] == [
        "1",
        "[bold]cup[/b]",
        "50.00%",
        "1",
        "1",
        "2",
    ]
    found = json.loads(maskline(*arguments, "--json").out)
    assert (found["meanIou"], found["pixels"]) == (0.5, 3)
    assert [one.get("iou") for one in found["classes"]] == [1, 0.5, 0]
    assert not service.requests


def test_evaluate_tells_what_could_not_be_compared(maskline: Maskline, tmp_path: Path) -> None:
    for name in ("pred/a.png", "pred/b.png", "gt/a.png", "gt/c.png"):
        _save_mask(tmp_path / name, bytes([0, 1]))
    (tmp_path / "labels.json").write_text("{}")
    folders = (tmp_path / "pred", tmp_path / "gt")
    ended = maskline("evaluate", *folders, "--json")
    assert ended.code == 1
    assert json.loads(ended.out)["faults"] == 2
    assert [line.partition(":")[0] for line in ended.err.splitlines()] == ["c.png", "b.png"]
    assert maskline("evaluate", tmp_path / "none", folders[1]).code == 2
    assert maskline("evaluate", *folders, "--labels", tmp_path / "labels.json").code == 2


def test_evaluate_needs_masks(maskline: Maskline, tmp_path: Path) -> None:
    ended = maskline("evaluate", tmp_path, tmp_path)
    assert ended.code == 1
    assert "0 compared, 0 not; mIoU -, pixel accuracy -" in ended.told
