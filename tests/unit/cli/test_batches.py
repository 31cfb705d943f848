"""``maskline batches`` and ``maskline label`` as a process sees them."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from maskline.batch_resources import NewBatch
from tests.unit.cli.test_cli import PROBLEM, Maskline, Service, maskline, service
from tests.unit.client.test_batches import BATCH as QUEUED

__all__ = ["maskline", "service"]  # the fixtures

COUNTS = {"queued": 5, "running": 4, "succeeded": 3, "failed": 2, "cancelled": 0, "flagged": 1}
BATCH: dict[str, Any] = QUEUED | {
    "id": "b1",
    "state": "running",
    "displayName": "[bold]mugs[/b]",
    "items": 14,
    "counts": COUNTS,
    "itemsPerSecond": 2.5,
    "secondsLeft": 3.6,
}
ONE = "/v1/batches/b1"


def test_a_batch_is_shown(service: Service, maskline: Maskline) -> None:
    service.on(f"GET {ONE}", BATCH)
    assert maskline("batches", "show", "b1") == (
        0,
        "b1  running  [bold]mugs[/b]\n"
        "  14 items: 5 queued, 4 running, 3 succeeded, 2 failed, 0 cancelled, 1 to be looked at\n"
        "  2.5 items a second; 4 s left\n",
        "",
    )
    service.on(
        f"GET {ONE}",
        BATCH | {"isAllRead": False, "secondsLeft": None, "error": {"code": "c", "message": "[m]"}},
    )
    out = maskline("batches", "show", "b1").out
    assert "  14 or more items: " in out
    assert out.endswith("  2.5 items a second\n  c: [m]\n")


def test_batches_are_listed(service: Service, maskline: Maskline) -> None:
    service.on("GET /v1/batches", {"batches": [BATCH, BATCH | {"id": "b2"}]})
    ended = maskline("batches", "list", "--limit", "1")
    assert "b1" in ended.out
    assert "[bold]mugs[/b]" in ended.out
    assert "b2" not in ended.out
    listed = json.loads(maskline("batches", "list", "--json").out)
    assert [one["id"] for one in listed] == ["b1", "b2"]


@pytest.mark.parametrize("verb", ["pause", "resume", "cancel", "retry"])
def test_a_batch_is_steered(service: Service, maskline: Maskline, verb: str) -> None:
    service.on(f"POST {ONE}:{verb}", BATCH)
    assert json.loads(maskline("batches", verb, "b1", "--json").out)["id"] == "b1"
    service.refuse(f"POST {ONE}:{verb}", 409, "batch_not_finished")
    assert maskline("batches", verb, "b1") == (3, "", "batch_not_finished (409): why\n")


def test_a_batch_is_deleted(service: Service, maskline: Maskline) -> None:
    service.on(f"DELETE {ONE}", status=204)
    assert maskline("batches", "delete", "b1") == (0, "", "")


def test_an_export_is_saved(service: Service, maskline: Maskline, tmp_path: Path) -> None:
    service.on(f"GET {ONE}/exports/coco", content=b"archive")
    file = tmp_path / "coco.zip"
    ended = maskline("batches", "export", "b1", "coco", "--out", file, "--polygons")
    assert (ended.code, file.read_bytes()) == (0, b"archive")
    assert service.requests[-1].url.params["polygons"] == "true"
    assert maskline("batches", "export", "b1", "coco", "--out", file).code == 2
    assert file.read_bytes() == b"archive"


def test_an_export_that_fails_leaves_no_file(service: Service, maskline: Maskline, tmp_path: Path) -> None:
    service.refuse(f"GET {ONE}/exports/none", 422, "export_failed")
    file = tmp_path / "none.zip"
    assert maskline("batches", "export", "b1", "none", "--out", file).code == 3
    assert not file.exists()


# --- label: what is wrong before anything is sent


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "give a source, or --resume"),
        (["none"], "/none'; give a folder, a glob, a manifest or a bucket's URI"),
        (["none.jsonl"], "/none.jsonl'; give a folder"),
        (["photo.png"], "is neither a folder nor a .jsonl, .json or .yaml file"),
        (["photos", "--format", "../x"], "'../x' is no name of a format"),
        (["photos", "--format", "COCO"], "'COCO' is no name of a format"),
        (["photos", "--retry"], "give a source, or --resume"),
        (["photos", "--out", "full"], "is not empty; give another"),
        (["photos", "--out", "photo.png"], "photo.png"),
        (["photos"], "there is nothing to label"),
        (["photos/*.png"], "there is nothing to label"),
        (["coco.json"], "the document is no whole JSON document"),
        (["s3://"], "give s3://BUCKET/PREFIX"),
        (["s3:///a.jsonl"], "give s3://BUCKET/KEY"),
        (["photos", "--min-confidence", "2"], "min-confidence"),
        (["--resume"], "there is nothing to go on with"),
        (["--resume", "--out", "begun", "--format", "coco"], "leave it out with --resume"),
        (["photos", "--resume", "--out", "begun"], "leave it out with --resume"),
    ],
)
def test_wrong_use_of_label(
    service: Service, maskline: Maskline, tmp_path: Path, arguments: list[str], told: str
) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photo.png").touch()
    (tmp_path / "coco.json").write_text("[")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.txt").touch()
    ended = maskline("label", *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert told in " ".join(ended.err.replace("│", " ").split())
    assert not service.requests
    assert not (tmp_path / "labels" / ".maskline").exists()


def put_photo(folder: Path) -> None:
    (folder / "photos").mkdir()
    (folder / "photos" / "a.png").write_bytes(b"x")


def test_a_refusal_leaves_what_can_be_gone_on_with(
    service: Service, maskline: Maskline, tmp_path: Path
) -> None:
    put_photo(tmp_path)
    service.refuse("POST /v1/batches", 401, "unauthenticated")
    ended = maskline("label", "photos", "--model", "none")
    assert ended.code == 3
    assert "unauthenticated (401): why" in ended.told
    assert "go on with: maskline label --resume --out labels" in ended.told
    first = service.requests[-1]
    assert maskline("label", "--resume").code == 3
    assert service.requests[-1].headers["Idempotency-Key"] == first.headers["Idempotency-Key"]
    asked = NewBatch.model_validate_json(first.content)
    assert NewBatch.model_validate_json(service.requests[-1].content) == asked
    assert asked.model == "none"


def test_a_refusal_that_would_come_again_leaves_the_folder_as_it_was(
    service: Service, maskline: Maskline, tmp_path: Path
) -> None:
    put_photo(tmp_path)
    service.refuse("POST /v1/batches", 404, "model_not_found")
    ended = maskline("label", "photos", "--model", "none")
    assert ended.code == 3
    assert "model_not_found (404): why" in ended.told
    assert "--resume" not in ended.told
    assert not list((tmp_path / "labels").iterdir())


def test_ctrl_c_tells_how_to_go_on(service: Service, maskline: Maskline, tmp_path: Path) -> None:
    put_photo(tmp_path)
    service.answers["POST /v1/batches"] = KeyboardInterrupt()
    ended = maskline("label", "photos", "--out", "my labels")
    assert ended.code == 130
    assert "maskline label --resume --out 'my labels'" in ended.told


@pytest.mark.parametrize(
    ("source", "sent"),
    [
        ("s3://b/photos/", {"images": "s3://b/photos/", "pattern": ""}),
        ("s3://b/photos/*/left_?.jpg", {"images": "s3://b/photos/", "pattern": "*/left_?.jpg"}),
        ("gs://b/*.png", {"images": "gs://b/", "pattern": "*.png"}),
        ("s3://b/items.jsonl", {"manifest": "s3://b/items.jsonl", "prompts": "masks"}),
        ("s3://b/set/coco.json", {"coco": "s3://b/set/coco.json", "prompts": "masks"}),
        ("s3://b/set/data.yaml", {"yolo": "s3://b/set/", "prompts": "masks"}),
    ],
)
def test_the_service_is_told_of_sources_in_buckets(
    service: Service, maskline: Maskline, source: str, sent: dict[str, str]
) -> None:
    service.answers["POST /v1/batches"] = httpx.Response(422, content=json.dumps(PROBLEM).encode())
    assert maskline("label", source, "--prompts", "masks").code == 3
    assert service.sent["source"] == sent
