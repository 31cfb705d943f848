"""Data sets in buckets become parts: written down once, with what can't be an item told of."""

import json
from typing import Any

import pytest

from maskline.adapters.memory import MemoryArtifactStore
from maskline.batch_artifacts import part_key, problems_key
from maskline.batch_results import PromptProblem
from maskline.batches import Batch, BatchRequest, ItemForm, NotedLine, Source, SourceKind
from maskline.errors import ArtifactNotFound, MalformedRequest
from tests.unit.worker.bulk.world import HEIGHT, LIMITS, REQUEST, WIDTH, World, image_of, manifest
from worker.bulk.importing import BucketFiles, import_source

BOX = [1, 1, 4, 3]


@pytest.fixture
def artifacts() -> MemoryArtifactStore:
    return MemoryArtifactStore()


def put(artifacts: MemoryArtifactStore, *keys: str) -> None:
    for number, key in enumerate(keys):
        artifacts.put(key, image_of(number), "image/png", bucket="imports")


def batch_of(source: Source) -> Batch:
    request = BatchRequest(request=REQUEST, sources=(source,))
    return Batch(id="1", tenant="default", request=request, created_ms=0, is_complete=True)


def imported(artifacts: MemoryArtifactStore, kind: SourceKind, key: str, **more: Any) -> list[NotedLine]:
    import_source(batch_of(Source(kind=kind, bucket="imports", key=key, **more)), 1, artifacts, LIMITS)
    return [NotedLine.model_validate_json(line) for line in artifacts.get(part_key("1", 1)).splitlines()]


def problems_of(artifacts: MemoryArtifactStore) -> list[PromptProblem]:
    return [
        PromptProblem.model_validate_json(line) for line in artifacts.get(problems_key("1", 1)).splitlines()
    ]


def items(lines: list[NotedLine]) -> list[Any]:
    return [json.loads(line.text) for line in lines]


def coco(*images: str, **more: Any) -> bytes:
    document = {
        "images": [
            {"id": n, "file_name": name, "width": WIDTH, "height": HEIGHT} for n, name in enumerate(images)
        ],
        "annotations": [
            {"id": n, "image_id": n, "category_id": 7, "bbox": BOX, "area": 12, "iscrowd": 0}
            for n in range(len(images))
        ],
        "categories": [{"id": 7, "name": "cup"}],
    }
    return json.dumps(document | more).encode()


def test_images_below_a_prefix(artifacts: MemoryArtifactStore) -> None:
    put(artifacts, "a/2.png", "a/1.JPG", "a/.hidden/3.png", "a/deep/4.png", "b/5.png", "a/notes.txt", "a/")
    lines = imported(artifacts, SourceKind.IMAGES, "a/")
    assert items(lines) == [
        {"id": name, "line": line, "image": f"s3://imports/a/{name}"}
        for line, name in enumerate(("1.JPG", "2.png", "deep/4.png"), 1)
    ]
    assert [(line.line, line.form, line.failure) for line in lines] == [
        (n, ItemForm.ITEM, None) for n in (1, 2, 3)
    ]


def test_images_by_a_pattern(artifacts: MemoryArtifactStore) -> None:
    put(artifacts, "a/left_1.png", "a/right_1.png", "a/x/left_2.png")
    put(artifacts, "a/x/y/left_[3].png")

    def found(pattern: str) -> list[str]:
        artifacts.delete([part_key("1", 1)])
        return [one["id"] for one in items(imported(artifacts, SourceKind.IMAGES, "a/", pattern=pattern))]

    assert found("left_*.png") == ["left_1.png"]
    assert found("**/left_?.png") == ["left_1.png", "x/left_2.png"]
    assert found("**/*.png") == ["left_1.png", "right_1.png", "x/left_2.png", "x/y/left_[3].png"]
    assert found("x/**") == ["x/left_2.png", "x/y/left_[3].png"]
    assert found("*/*/left_[[]3].png") == ["x/y/left_[3].png"]
    assert found("**/[!r]*_[12].png") == ["left_1.png", "x/left_2.png"]


def test_keys_that_are_no_ids(artifacts: MemoryArtifactStore) -> None:
    put(artifacts, "a/good.png", "a/new\nline.png")
    good, bad = imported(artifacts, SourceKind.IMAGES, "a/")
    assert good.failure is None
    assert bad.failure is not None
    assert (bad.failure.code, json.loads(bad.text)) == ("unusable_item", {"id": "new\nline.png"})
    assert "control characters" in bad.failure.message


def test_a_coco_document(artifacts: MemoryArtifactStore) -> None:
    put(artifacts, "set/images/1.png", "set/images/2.png")
    artifacts.put("set/labels.json", coco("1.png", "2.png"), "application/json", bucket="imports")
    lines = imported(artifacts, SourceKind.COCO, "set/labels.json", images="set/images/")
    assert [one["image"] for one in items(lines)] == [f"s3://imports/set/images/{n}.png" for n in (1, 2)]
    [prompt] = items(lines)[0]["prompts"]
    assert (prompt["label"], prompt["box"]) == ("cup", [1, 1, 5, 4])


def test_what_makes_no_item_is_told(artifacts: MemoryArtifactStore) -> None:
    document = json.loads(coco("1.png", "1.png"))
    document["annotations"].append({"id": 9, "image_id": 0, "category_id": 8, "bbox": BOX})
    artifacts.put("labels.json", json.dumps(document).encode(), "application/json", bucket="imports")
    lines = imported(artifacts, SourceKind.COCO, "labels.json", images="")
    failed = [line for line in lines if line.failure is not None]
    assert len(failed) == 1
    assert len(lines) == 2
    assert failed[0].failure is not None
    assert failed[0].failure.code == "unusable_item"
    assert json.loads(failed[0].text)["id"] in failed[0].failure.message
    strays = problems_of(artifacts)
    assert [one.where for one in strays] == ["annotation 1", "annotation 9"]
    assert "image 1" in strays[0].message


def test_a_yolo_folder(artifacts: MemoryArtifactStore) -> None:
    put(artifacts, "set/images/1.png", "set/images/2.png")
    for key, text in {
        "set/data.yaml": "names: [cup]",
        "set/labels/1.txt": "0 0.5 0.5 0.5 0.5\n0 9 9 9 9\n",
        "set/labels/2.txt": "",
    }.items():
        artifacts.put(key, text.encode(), "text/plain", bucket="imports")
    lines = imported(artifacts, SourceKind.YOLO, "set/")
    [item] = items(lines)
    assert item["image"] == "s3://imports/set/images/1.png"
    [prompt] = item["prompts"]
    assert prompt["box"] == [WIDTH / 4, HEIGHT / 4, WIDTH * 3 / 4, HEIGHT * 3 / 4]
    assert [one.where for one in problems_of(artifacts)] == ["labels/1.txt, line 2"]


def test_a_manifest_is_copied_as_it_is(artifacts: MemoryArtifactStore) -> None:
    text = b'{"image": "s3://imports/1.png"}\nno JSON\n\n{"cut off'
    artifacts.put("m.jsonl", text, "application/jsonl", bucket="imports")
    import_source(
        batch_of(Source(kind=SourceKind.LINES, bucket="imports", key="m.jsonl")), 1, artifacts, LIMITS
    )
    assert artifacts.get(part_key("1", 1)) == text


def test_it_is_read_once(artifacts: MemoryArtifactStore) -> None:
    """A batch stays what it was, although the bucket has changed."""
    put(artifacts, "a/1.png")
    before = imported(artifacts, SourceKind.IMAGES, "a/")
    put(artifacts, "a/2.png")
    assert imported(artifacts, SourceKind.IMAGES, "a/") == before


@pytest.mark.parametrize(
    ("kind", "key", "told"),
    [(SourceKind.COCO, "broken.json", "JSON"), (SourceKind.YOLO, "set/", "data.yaml")],
)
def test_no_data_set(artifacts: MemoryArtifactStore, kind: SourceKind, key: str, told: str) -> None:
    artifacts.put("broken.json", b'{"images": [', "application/json", bucket="imports")
    with pytest.raises(MalformedRequest, match=told):
        imported(artifacts, kind, key)
    assert not list(artifacts.keys("batches/"))


@pytest.mark.parametrize("kind", [SourceKind.COCO, SourceKind.LINES])
def test_a_source_that_is_gone(artifacts: MemoryArtifactStore, kind: SourceKind) -> None:
    with pytest.raises(ArtifactNotFound):
        imported(artifacts, kind, "gone")


def test_files_of_a_bucket(artifacts: MemoryArtifactStore) -> None:
    put(artifacts, "a/1.png")
    files = BucketFiles(artifacts, "imports", "a/", limits=LIMITS)
    assert files.image_size("1.png") == (WIDTH, HEIGHT)
    assert files.address("1.png") == "s3://imports/a/1.png"
    with pytest.raises(FileNotFoundError, match=r"a/2\.png"):
        files.open("2.png")


def test_sources_become_results() -> None:
    """By way of parts, chunks and items; what makes none is an error among them."""
    world = World()
    put(world.artifacts, "set/1.png")
    world.artifacts.put("set/c.json", coco("1.png", "1.png", "2.png"), "application/json", bucket="imports")
    world.artifacts.put("m.jsonl", manifest([]) + b"no JSON\n", "application/jsonl", bucket="imports")
    kinds = {SourceKind.COCO: "set/c.json", SourceKind.LINES: "m.jsonl"}
    sources = tuple(
        Source(kind=kind, bucket="imports", key=key, images="set/") for kind, key in kinds.items()
    )
    batch = world.run(world.submit(sources=sources))
    assert [result.id for result in world.results(batch)] == ["1.png"]
    assert sorted(error.error.code for error in world.errors(batch)) == [
        "image_unreachable",
        "malformed_request",
        "unusable_item",
    ]
