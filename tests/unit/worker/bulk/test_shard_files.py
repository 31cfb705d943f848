"""The files of a chunk: a line for each item, in the form that its batch speaks, and what they come to."""

import json
from dataclasses import replace
from typing import Any

import pytest
from pydantic import JsonValue

from maskline.adapters.memory import MemoryArtifactStore
from maskline.batch_artifacts import Shard, chunk_end_key, shard_key
from maskline.batch_results import ItemError, ItemResult, ItemReview, ReviewThresholds
from maskline.batches import SLOWEST, BatchRequest, ChunkEnd, ChunkKey, ItemFields, ItemForm, LabelSum
from maskline.jobs import Failure
from tests.unit.worker.bulk.world import REQUEST, World, item_of
from worker.bulk.item_runner import Labelled
from worker.bulk.shard_files import ShardFiles

CHUNK = ChunkKey("b", 12, 3)
GONE = Failure(code="image_unreachable", message="there is none")


@pytest.fixture(scope="module")
def outcome() -> Labelled:
    world = World()
    world.put_images([1])
    item = item_of()
    made = world.item_runner().run(item, world.images(item), ReviewThresholds(min_confidence=1))
    assert isinstance(made, Labelled)
    return made


@pytest.fixture
def artifacts() -> MemoryArtifactStore:
    return MemoryArtifactStore()


def write(
    artifacts: MemoryArtifactStore, *outcomes: tuple[Any, Labelled | Failure], **request: Any
) -> ChunkEnd:
    with ShardFiles(CHUNK, BatchRequest(request=REQUEST, **request)) as files:
        for item, outcome in outcomes:
            files.add(item, outcome)
        return files.store(artifacts)


def lines(artifacts: MemoryArtifactStore, shard: Shard) -> list[bytes]:
    return artifacts.get(shard_key(CHUNK, shard)).splitlines()


def test_each_item_is_a_line(artifacts: MemoryArtifactStore, outcome: Labelled) -> None:
    good = replace(outcome, flags=())
    end = write(artifacts, (item_of(1), outcome), (item_of(2), GONE), (item_of(3), good), (item_of(4), GONE))
    results = [ItemResult.model_validate_json(line) for line in lines(artifacts, Shard.PREDICTIONS)]
    assert [(one.id, one.line, one.instance) for one in results] == [
        (f"item {n}", n, {"id": f"item {n}", "image": "s3://imports/1.png"}) for n in (1, 3)
    ]
    assert results[0].prediction == outcome.prediction
    assert results[0].segments == outcome.segments
    assert results[0].annotation_specs == outcome.annotation_specs
    assert results[0].timings == outcome.timings
    assert (results[0].flags, results[1].flags) == (outcome.flags, ())
    errors = [ItemError.model_validate_json(line) for line in lines(artifacts, Shard.ERRORS)]
    assert [(one.id, one.line, one.error) for one in errors] == [("item 2", 2, GONE), ("item 4", 4, GONE)]
    [review] = [ItemReview.model_validate_json(line) for line in lines(artifacts, Shard.REVIEW)]
    assert (review.id, review.flags) == ("item 1", outcome.flags)
    assert (end.number, end.attempt) == (12, 3)
    assert (end.succeeded, end.failed, end.flagged) == (2, 2, 1)
    assert end.errors == {"image_unreachable": 2}
    assert end.labels == {"thing": LabelSum(items=2, segments=2, pixels=48)}
    assert end.confidence == pytest.approx(2 * outcome.mean_confidence, abs=1e-5)
    assert end.slowest.keys() == {"1 item 1", "3 item 3"}
    assert ChunkEnd.model_validate_json(artifacts.get(chunk_end_key(CHUNK))) == end


def test_files_without_lines_are_not_there(artifacts: MemoryArtifactStore, outcome: Labelled) -> None:
    write(artifacts, (item_of(1), replace(outcome, flags=())))
    assert set(artifacts.keys("")) == {shard_key(CHUNK, Shard.PREDICTIONS), chunk_end_key(CHUNK)}


def test_the_slowest_items_are_told(artifacts: MemoryArtifactStore, outcome: Labelled) -> None:
    timings = [outcome.timings.model_copy(update={"model": float(1000 * n)}) for n in range(25)]
    end = write(artifacts, *((item_of(n), replace(outcome, timings=one)) for n, one in enumerate(timings, 1)))
    assert set(end.slowest) == {f"{n} item {n}" for n in range(26 - SLOWEST, 26)}


@pytest.mark.parametrize("form", [ItemForm.JSONL, ItemForm.FILE_LIST])
def test_vertex_ai_s_lines_are_its_own(
    artifacts: MemoryArtifactStore, outcome: Labelled, form: ItemForm
) -> None:
    instance: JsonValue = {"content": "gs://imports/1.png"}
    item = replace(item_of(1), form=form, instance=instance)
    write(artifacts, (item, outcome), (item, GONE), form=form)
    prediction = {
        "categoryMask": outcome.prediction.category_mask,
        "confidenceMask": outcome.prediction.confidence_mask,
    }
    assert [json.loads(line) for line in lines(artifacts, Shard.PREDICTIONS)] == [
        {"instance": instance, "prediction": prediction}
    ]
    assert [json.loads(line) for line in lines(artifacts, Shard.ERRORS)] == [
        {"instance": instance, "error": {"code": 5, "message": "there is none"}}
    ]


def test_a_key_stands_for_the_instance(artifacts: MemoryArtifactStore, outcome: Labelled) -> None:
    with_key = replace(item_of(1), form=ItemForm.JSONL, instance={"content": "c", "id": 7})
    without = replace(item_of(2), form=ItemForm.JSONL, instance={"content": "c"})
    write(
        artifacts,
        (with_key, outcome),
        (without, GONE),
        form=ItemForm.JSONL,
        fields=ItemFields(key_field="id"),
    )
    assert [json.loads(line)["key"] for line in lines(artifacts, Shard.PREDICTIONS)] == [7]
    assert [json.loads(line)["instance"] for line in lines(artifacts, Shard.ERRORS)] == [{"content": "c"}]
