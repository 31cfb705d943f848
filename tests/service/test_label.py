"""``maskline label`` over a running service: photos with boxes into every format, and what interrupts it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import supervision as sv
from PIL import Image
from pycocotools.coco import COCO

from maskline import Client, Prompt
from maskline.adapters.s3_artifacts import S3ArtifactStore
from maskline.client import ApiError
from maskline.labelling.folder import ERRORS, PROBLEMS, RESULTS, SUMMARY
from maskline.local import Stack
from maskline.local.stack import IMPORT_BUCKET
from tests.factories import picture
from worker.exporting.registry import format_names

BOXES = {
    "coffee.png": [("cup", (161, 68, 300, 235)), ("spoon", (398, 64, 160, 250))],
    "chelsea.png": [("cat", (90, 10, 330, 280))],
    "rocket.jpg": [("rocket", (305, 60, 60, 320))],
}
DISC = ("--box", "disc:17,9,63,55")
MANY = 320
FORMATS = format_names()

Label = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def label(stack: Stack, tmp_path: Path) -> Iterator[Label]:
    """Starts the command; what still runs at the end is killed."""
    running: list[subprocess.Popen[str]] = []

    def start(
        *arguments: str | Path, url: str = stack.url, key: str = stack.api_key
    ) -> subprocess.Popen[str]:
        environment = os.environ | {"MASKLINE_URL": url, "MASKLINE_API_KEY": key, "COLUMNS": "200"}
        command = [
            sys.executable,
            "-m",
            "maskline",
            "label",
            *map(str, arguments),
        ]
        process = subprocess.Popen(
            command, env=environment, cwd=tmp_path, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        running.append(process)
        return process

    yield start
    for process in running:
        if process.poll() is None:
            process.kill()
            process.communicate()


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Exit code, output, and what was told to people."""
    out, err = process.communicate(timeout=240)
    return process.returncode, out, " ".join(err.split())


def lines_of(path: Path) -> list[Any]:
    text = path.read_bytes()
    assert not text or text.endswith(b"\n")
    return [json.loads(line) for line in text.splitlines()]


def batch_of(out: Path) -> str:
    return str(json.loads((out / ".maskline" / "batch.json").read_text())["batch"])


def count(out: Path) -> int:
    """How many results are there."""
    return (out / RESULTS).read_bytes().count(b"\n") if (out / RESULTS).exists() else 0


def wait_for_more(out: Path, before: int, process: subprocess.Popen[str]) -> None:
    """Until there are more results than before, or the command has ended."""
    while count(out) <= before and process.poll() is None:
        time.sleep(0.02)


@pytest.fixture
def dataset(photos: Path, tmp_path: Path) -> Path:
    """A COCO document of boxes beside its images."""
    folder = tmp_path / "dataset"
    folder.mkdir()
    images, annotations = [], []
    for number, (name, boxes) in enumerate(BOXES.items(), 1):
        with Image.open(photos / name) as photo:
            photo.save(folder / name)
            images.append({"id": number, "file_name": name, "width": photo.width, "height": photo.height})
        for category, (_, box) in enumerate(boxes):
            annotation = {"id": 10 * number + category, "image_id": number, "bbox": box, "iscrowd": 0}
            annotations.append(annotation | {"category_id": 10 * number + category, "area": box[2] * box[3]})
    labels = [
        (10 * n + i, one) for n, boxes in enumerate(BOXES.values(), 1) for i, (one, _) in enumerate(boxes)
    ]
    document = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": number, "name": one} for number, one in labels],
    }
    (folder / "boxes.json").write_text(json.dumps(document), "utf-8")
    return folder


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Small images, no two of which are the same."""
    folder = tmp_path / "many"
    folder.mkdir()
    pixels = picture()
    for number in range(MANY):
        pixels[0, 0] = number // 256, number % 256, 0
        Image.fromarray(pixels).save(folder / f"{number:03}.png")
    return folder


def pixels_of(path: Path) -> np.ndarray[Any, Any]:
    with Image.open(path) as image:
        return np.asarray(image)


def test_photos_with_boxes_into_every_format(
    label: Label, client: Client, dataset: Path, tmp_path: Path
) -> None:
    out = tmp_path / "labels"
    formats = [text for name in ("masks", *FORMATS) for text in ("--format", name)]
    code, told, err = ended(label(dataset / "boxes.json", "--out", out, "--json", *formats))
    assert code == 0, err
    summary = json.loads(told)
    assert (summary["items"], summary["succeeded"], summary["failed"]) == (3, 3, 0)
    assert json.loads((out / SUMMARY).read_text()) == summary
    assert {one["displayName"] for one in summary["categories"]} == {"cup", "spoon", "cat", "rocket"}
    assert lines_of(out / ERRORS) == []
    results = {one["id"]: one for one in lines_of(out / RESULTS)}
    assert list(results) == list(BOXES)

    coco = COCO(str(out / "coco" / "annotations.json"))
    by_name = {one["file_name"]: one["id"] for one in coco.loadImgs(coco.getImgIds())}
    yolo = sv.DetectionDataset.from_yolo(
        str(out / "yolo/images"), str(out / "yolo/labels"), str(out / "yolo/data.yaml"), force_masks=True
    )
    assert sorted(Path(path).name for path, _, _ in yolo) == sorted(BOXES)
    for name, boxes in BOXES.items():
        stem = name.partition(".")[0]
        prompts = [Prompt(label=one, box=(x, y, x + w, y + h)) for one, (x, y, w, h) in boxes]
        job = client.wait(client.submit(dataset / name, prompts=prompts).id, timeout=120)
        assert (out / "category" / f"{stem}.png").read_bytes() == client.category_mask(job.id)
        assert (out / "confidence" / f"{stem}.png").read_bytes() == client.confidence_mask(job.id)
        category = np.asarray(Image.open(BytesIO(client.category_mask(job.id))))
        annotations = coco.loadAnns(coco.getAnnIds(imgIds=by_name[name]))
        segments = client.segments(job.id).segments
        assert [coco.loadCats(one["category_id"])[0]["name"] for one in annotations] == [
            one.label for one in segments
        ]
        together = np.any([coco.annToMask(one) for one in annotations], axis=0)
        assert np.array_equal(together, category > 0)
        voc = pixels_of(out / "voc" / "SegmentationClass" / f"{stem}.png")
        assert np.array_equal(voc > 0, category > 0)
        assert (out / "yolo/images" / name).read_bytes() == (dataset / name).read_bytes()
    assert all(any((out / name).iterdir()) for name in FORMATS)


def test_what_was_done_is_not_done_again(label: Label, dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "labels"
    assert ended(label(dataset / "boxes.json", "--out", out, "--format", "coco"))[0] == 0
    before = {path: path.read_bytes() for path in out.rglob("*.*") if path.is_file()}
    exported = (out / "coco").stat().st_mtime_ns
    assert ended(label("--resume", "--out", out))[0] == 0
    assert {path: path.read_bytes() for path in out.rglob("*.*") if path.is_file()} == before
    assert (out / "coco").stat().st_mtime_ns == exported
    code, _, err = ended(label(dataset / "boxes.json", "--out", out))
    assert (code, "is not empty; go on with it by --resume" in err) == (2, True)


@pytest.mark.parametrize("with_signal", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_labelling_goes_on(
    label: Label, client: Client, many: Path, tmp_path: Path, with_signal: signal.Signals
) -> None:
    """As the first results come, and again as more do."""
    out = tmp_path / "labels"
    # Each in its own way, or the worker would still know the results of the test before.
    process = label(many, *DISC, "--param", f"iterations={int(with_signal)}", "--out", out)
    wait_for_more(out, 0, process)
    client.batches.pause(batch_of(out))
    process.send_signal(with_signal)
    code, _, err = ended(process)
    if with_signal is signal.SIGINT:
        assert code == 130, err
        assert f"go on with: maskline label --resume --out {out}" in err
    else:
        assert code == -signal.SIGKILL
    process = label("--resume", "--out", out)
    client.batches.resume(batch_of(out))
    wait_for_more(out, count(out), process)
    process.send_signal(with_signal)
    ended(process)
    code, told, err = ended(label("--resume", "--out", out, "--json"))
    assert code == 0, err
    assert json.loads(told)["succeeded"] == MANY
    names = [f"{number:03}.png" for number in range(MANY)]
    assert [one["id"] for one in lines_of(out / RESULTS)] == names
    for kind in ("category", "confidence"):
        assert sorted(path.name for path in (out / kind).iterdir()) == names
    assert client.batches.get(batch_of(out)).items == MANY


def test_what_is_wrong_is_told_and_the_rest_goes_on(label: Label, many: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "items.jsonl"
    (many / "broken.png").write_bytes(b"no image")
    lines = [
        {"id": "good", "image": "many/000.png"},
        {"id": "broken", "image": "many/broken.png"},
        {"id": "missing", "image": "many/none.png"},
        {"id": "good", "image": "many/001.png"},
        {"id": "far", "image": "s3://closed/1.png"},
    ]
    manifest.write_text("".join(json.dumps(one) + "\n" for one in lines) + '{"image": "many/00')
    out = tmp_path / "labels"
    code, told, err = ended(label(manifest, *DISC, "--out", out))
    assert code == 1, err
    errors = lines_of(out / ERRORS)
    assert {one["id"]: one["error"]["code"] for one in errors if "id" in one} == {
        "broken": "image_unreadable",
        "far": "image_unreachable",
    }
    left_out = {one["where"]: one["error"] for one in errors if "where" in one}
    assert set(left_out) == {"line 3", "line 4", "line 6"}
    assert {one["code"] for one in left_out.values()} == {"unusable_item"}
    assert "is that of line 1 too" in left_out["line 4"]["message"]
    assert "ends in the middle of this line" in left_out["line 6"]["message"]
    assert all(f"{where}: {one['message']}" in err for where, one in left_out.items())
    assert [one["id"] for one in lines_of(out / RESULTS)] == ["good"]
    assert len(lines_of(out / PROBLEMS)) == 3

    def row(name: str) -> str:
        [line] = [line for line in told.splitlines() if f" {name} " in line]
        return line.split()[-2]

    assert [row(name) for name in ("items", "succeeded", "failed")] == ["6", "1", "5"]
    assert ended(label("--resume", "--out", out))[0] == 1
    assert lines_of(out / ERRORS) == errors


def test_prompts_that_a_source_in_a_bucket_could_not_give_are_told(
    label: Label, artifacts: S3ArtifactStore, dataset: Path, tmp_path: Path
) -> None:
    document = json.loads((dataset / "boxes.json").read_text())
    document["annotations"].append({**document["annotations"][0], "id": 99, "bbox": [9000, 9000, 10, 10]})
    artifacts.put("told/boxes.json", json.dumps(document).encode(), "application/json", bucket=IMPORT_BUCKET)
    for name in BOXES:
        artifacts.put(f"told/{name}", (dataset / name).read_bytes(), "image/png", bucket=IMPORT_BUCKET)
    out = tmp_path / "labels"
    code, _, err = ended(label(f"s3://{IMPORT_BUCKET}/told/boxes.json", "--out", out))
    assert code == 0, err
    assert len(lines_of(out / RESULTS)) == len(BOXES)
    [problem] = lines_of(out / PROBLEMS)
    assert (problem["where"], problem["effect"]) == ("annotation 99", "prompt_left_out")
    assert f"annotation 99: {problem['message']}" in err


def test_failed_items_are_tried_anew(label: Label, artifacts: S3ArtifactStore, tmp_path: Path) -> None:
    manifest = tmp_path / "items.jsonl"
    Image.fromarray(picture()).save(tmp_path / "here.png")
    lines = [{"id": "here", "image": "here.png"}, {"id": "later", "image": f"s3://{IMPORT_BUCKET}/later.png"}]
    manifest.write_text("".join(json.dumps(one) + "\n" for one in lines))
    out = tmp_path / "labels"
    assert ended(label(manifest, *DISC, "--out", out, "--format", "coco"))[0] == 1
    assert [one["id"] for one in lines_of(out / ERRORS)] == ["later"]
    assert [one["id"] for one in lines_of(out / RESULTS)] == ["here"]
    artifacts.put("later.png", (tmp_path / "here.png").read_bytes(), "image/png", bucket=IMPORT_BUCKET)
    code, _, err = ended(label("--resume", "--retry", "--out", out))
    assert code == 0, err
    assert lines_of(out / ERRORS) == []
    assert [one["id"] for one in lines_of(out / RESULTS)] == ["here", "later"]
    assert len(COCO(str(out / "coco" / "annotations.json")).getImgIds()) == 2


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--model", "none"), "model_not_found"),
        (("--format", "voc", "--format", "none"), "there is no format 'none'; there are: masks, coco, "),
    ],
)
def test_what_the_service_refuses_is_not_begun(
    label: Label, dataset: Path, tmp_path: Path, options: tuple[str, ...], told: str
) -> None:
    out = tmp_path / "labels"
    code, _, err = ended(label(dataset / "boxes.json", "--out", out, *options))
    assert code == 3
    assert told in err
    assert "--resume" not in err
    assert not list(out.iterdir())
    assert ended(label(dataset / "boxes.json", "--out", out))[0] == 0


def test_a_batch_that_is_cancelled(label: Label, client: Client, many: Path, tmp_path: Path) -> None:
    out = tmp_path / "labels"
    process = label(many, *DISC, "--out", out)
    while not (out / ".maskline" / "batch.json").exists() and process.poll() is None:
        time.sleep(0.02)
    batch = batch_of(out)
    client.batches.pause(batch)
    client.batches.cancel(batch)
    code, _, err = ended(process)
    assert code == 1, err
    assert f"the batch {batch} is cancelled" in err
    assert count(out) < MANY
    client.batches.delete(batch)
    code, _, err = ended(label("--resume", "--out", out))
    assert (code, "batch_not_found" in err) == (3, True)
    with pytest.raises(ApiError):
        client.batches.get(batch)


def test_without_a_service_at_hand(label: Label, dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "labels"
    code, _, err = ended(label(dataset / "boxes.json", "--out", out, "--local", url="", key=""))
    assert code == 0, err
    assert len(lines_of(out / RESULTS)) == 3
    assert len(list((out / "category").iterdir())) == 3
