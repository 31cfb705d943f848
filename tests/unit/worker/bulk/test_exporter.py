"""Exports of batches: made once, of all results, with the images called as their items are."""

import json
from io import BytesIO
from zipfile import ZipFile

import pytest
from PIL import Image

from maskline.batch_artifacts import export_key, failed_export_key
from maskline.batches import Batch, ExportRequest
from maskline.errors import ArtifactStoreUnavailable
from maskline.jobs import Failure
from tests.factories import make_card
from tests.unit.worker.bulk.world import NO_REVIEW, World, image_of, manifest, models_of, no_url
from worker.bulk.exporter import BatchExporter
from worker.fetching import fetcher

ITEMS = 150
COCO = ExportRequest(format="coco")
YOLO = ExportRequest(format="yolo")


@pytest.fixture
def world() -> World:
    return World()


def ended(world: World, items: int = ITEMS, missing: int = 70) -> Batch:
    world.put_images(number for number in range(items) if number != missing)
    return world.run(world.submit(manifest(range(items)), review=NO_REVIEW))


def export(world: World, batch: Batch, asked: ExportRequest = COCO) -> None:
    BatchExporter(
        batches=world.batches,
        house=world.jobs,
        artifacts=world.artifacts,
        fetch=fetcher(world.artifacts, no_url, 10**6),
        models=models_of(make_card()),
        max_image_bytes=10**6,
        import_buckets=("imports",),
    ).export("default", batch.id, asked.to_json())


def archive_of(world: World, batch: Batch, asked: ExportRequest = COCO, rounds: int = 0) -> ZipFile:
    return ZipFile(BytesIO(world.artifacts.get(export_key(batch.id, rounds, asked.file_name))))


def failure_of(world: World, batch: Batch, asked: ExportRequest) -> Failure:
    key = failed_export_key(batch.id, 0, asked.file_name)
    return Failure.model_validate_json(world.artifacts.get(key))


def coco_of(archive: ZipFile) -> dict[str, list[dict[str, object]]]:
    [name] = [one for one in archive.namelist() if one.endswith(".json")]
    document: dict[str, list[dict[str, object]]] = json.loads(archive.read(name))
    return document


def test_every_result_is_in_it_once(world: World) -> None:
    batch = ended(world)
    export(world, batch)
    names = [one["file_name"] for one in coco_of(archive_of(world, batch))["images"]]
    assert names == [f"n{number}.png" for number in range(ITEMS) if number != 70]


def test_the_images_are_those_of_the_items(world: World) -> None:
    batch = ended(world, items=3, missing=1)
    export(world, batch, YOLO)
    archive = archive_of(world, batch, YOLO)
    for number in (0, 2):
        [name] = [one for one in archive.namelist() if one.endswith(f"/n{number}.png")]
        content = archive.read(name)
        assert content == image_of(number)
        assert Image.open(BytesIO(content)).format == "PNG"


def test_it_is_made_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = ended(world, items=3)
    export(world, batch)

    def never(*args: object) -> None:
        raise AssertionError("it was made again")

    monkeypatch.setattr("worker.bulk.exporter.export", never)
    export(world, batch)
    assert archive_of(world, batch).testzip() is None


def test_another_worker_makes_it(world: World) -> None:
    batch = ended(world, items=3)
    assert world.jobs.lead(f"export:{export_key(batch.id, 0, COCO.file_name)}", "another", 60)
    export(world, batch)
    assert not list(world.artifacts.keys(f"batches/{batch.id}/exports/"))


def test_outlines_are_another_archive(world: World) -> None:
    batch = ended(world, items=2)
    outlines = ExportRequest(format="coco", polygons=True)
    export(world, batch, outlines)
    export(world, batch)
    as_polygons = coco_of(archive_of(world, batch, outlines))["annotations"]
    as_masks = coco_of(archive_of(world, batch))["annotations"]
    assert [type(one["segmentation"]) for one in as_polygons] == [list, list]
    assert [type(one["segmentation"]) for one in as_masks] == [dict, dict]


def test_what_was_tried_anew_is_in_the_next_one(world: World) -> None:
    batch = ended(world, items=3, missing=1)
    export(world, batch)
    world.put_images([1])
    world.batches.retry("default", batch.id)
    world.run(batch)
    export(world, batch)
    assert len(coco_of(archive_of(world, batch))["images"]) == 2
    assert len(coco_of(archive_of(world, batch, rounds=1))["images"]) == 3


def test_a_format_that_is_none(world: World) -> None:
    batch = ended(world, items=2)
    asked = ExportRequest(format="nothing")
    export(world, batch, asked)
    assert "there is no format 'nothing'; there are: coco" in failure_of(world, batch, asked).message


def test_an_image_that_is_gone(world: World) -> None:
    """A format that carries images can't be made; that is told, rather than tried for ever."""
    batch = ended(world, items=2)
    del world.artifacts._objects["imports", "1.png"]
    export(world, batch, YOLO)
    failure = failure_of(world, batch, YOLO)
    assert failure.code == "export_failed"
    assert "1.png" in failure.message
    export(world, batch)
    assert len(coco_of(archive_of(world, batch))["images"]) == 2


def test_a_store_that_is_away_is_asked_later(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = ended(world, items=2)

    def away(key: str, **options: object) -> bytes:
        raise ArtifactStoreUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(world.artifacts, "get", away)
        with pytest.raises(ArtifactStoreUnavailable):
            export(world, batch)
    assert not list(world.artifacts.keys(f"batches/{batch.id}/exports/"))


def test_a_batch_that_is_gone(world: World) -> None:
    batch = ended(world, items=1)
    world.batches.delete("default", batch.id)
    export(world, batch)
    assert not list(world.artifacts.keys(f"batches/{batch.id}/exports/"))
