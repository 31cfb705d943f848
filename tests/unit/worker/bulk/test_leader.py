"""Batches over the doubles, from their acceptance to their end."""

import json
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import count
from typing import Any, BinaryIO

import pytest

from maskline.adapters.memory import MemoryArtifactStore
from maskline.adapters.memory_batches import MemoryBatchStore
from maskline.batch_artifacts import RECORDS, Shard, part_key, parts_folder, record_key, summary_key
from maskline.batch_records import complete_batch, restore_batches, retry_batch
from maskline.batch_results import BatchSummary, ReviewThresholds
from maskline.batches import (
    ALL_LINES,
    Batch,
    BatchState,
    ChunkEnd,
    Destination,
    ItemFields,
    ItemForm,
    Progress,
    Source,
    SourceKind,
)
from maskline.clock import time_ms
from maskline.errors import ArtifactStoreUnavailable, DependencyError
from tests.unit.worker.bulk.breaking import Break, Breaking
from tests.unit.worker.bulk.world import NO_REVIEW, SETTINGS, QuickModels, World, image_of, manifest

BAD = b"no json\n"
KEEP_S = 3600.0


class Tolerant(MemoryArtifactStore):
    """Takes a key twice if the content is the same, as S3 takes what two leaders write."""

    def put(self, key: str, body: bytes | BinaryIO, media_type: str, *, bucket: str | None = None) -> None:
        if not isinstance(body, bytes):
            body.seek(0)
            body = body.read()
        if self._objects.get((bucket or self.bucket, key)) != body:
            super().put(key, body, media_type, bucket=bucket)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.fetching._PAUSE_S", 0.0)
    monkeypatch.setattr("worker.bulk.cutting.CHUNK_ITEMS", 2)


def make_world() -> World:
    world = World(artifacts=Tolerant())
    world.put_images(range(20))
    return world


@pytest.fixture
def world() -> World:
    return make_world()


def destination(prefix: str = "out/") -> Destination:
    return Destination(uri=f"gs://exports/{prefix}", bucket="exports", prefix=prefix)


def submit_source(world: World, *texts: bytes, **request: Any) -> Batch:
    """A batch of Vertex AI."""
    sources = []
    for number, text in enumerate(texts):
        key = f"{len(world.artifacts._objects)}/{number}.jsonl"
        world.artifacts.put(key, text, "application/jsonl", bucket="imports")
        sources.append(Source(bucket="imports", key=key))
    return world.submit(
        **{"form": ItemForm.JSONL, "sources": tuple(sources), "destination": destination(), **request}
    )


def instances(*numbers: int, **more: Any) -> bytes:
    return b"".join(
        json.dumps({"content": f"gs://imports/{n}.png", **more}).encode() + b"\n" for n in numbers
    )


def copied(world: World, name: str) -> list[Any]:
    text = world.artifacts.get(f"out/{name}", bucket="exports").decode()
    return [json.loads(line) for line in text.splitlines()]


def summary_of(world: World, batch: Batch) -> BatchSummary:
    text = world.artifacts.get(summary_key(batch.id, world.read(batch).progress.rounds))
    return BatchSummary.model_validate_json(text)


def names(world: World, batch: Batch) -> list[str]:
    return [one.id for one in world.results(batch)]


# -- one life


def test_every_item_becomes_a_line(world: World) -> None:
    batch = world.submit(manifest(range(3)) + BAD, b"\n" + manifest([7, 8, 1]), review=NO_REVIEW)
    ended = world.run(batch)
    assert ended.progress.state is BatchState.SUCCEEDED
    assert names(world, batch) == ["n0", "n1", "n2", "n7", "n8"]
    assert [(one.id, one.line, one.error.code) for one in world.errors(batch)] == [
        ("4", 4, "malformed_request"),
        ("n1", 8, "repeated_item"),
    ]
    counts, progress = ended.counts, ended.progress
    assert (counts.succeeded, counts.failed, counts.flagged, counts.running) == (5, 2, 0, 0)
    assert (counts.ended, progress.chunks, progress.items, progress.line) == (4, 4, 7, 8)
    assert progress.started_ms is not None
    assert progress.ended_ms is not None
    assert world.batches.active(9) == []
    summary = summary_of(world, batch)
    assert (summary.batch, summary.items, summary.succeeded, summary.failed) == (batch.id, 7, 5, 2)
    assert summary.errors == {"malformed_request": 1, "repeated_item": 1}
    assert [(one.display_name, one.items, one.pixels) for one in summary.categories] == [("thing", 5, 120)]
    assert {(one.line, one.id) for one in summary.slowest} == {
        (1, "n0"),
        (2, "n1"),
        (3, "n2"),
        (6, "n7"),
        (7, "n8"),
    }
    assert summary.mean_confidence == pytest.approx(220 / 255, abs=1e-5)
    assert set(world.models.seen.values()) == {1}


def test_a_batch_runs_while_it_is_uploaded(world: World) -> None:
    batch = world.submit(manifest(range(3)), is_complete=False)
    for _ in range(3):
        world.leader().look()
        world.runner().run("grabcut")
    now = world.read(batch)
    assert (now.progress.state, now.counts.succeeded) == (BatchState.RUNNING, 3)
    world.artifacts.put(part_key(batch.id, 2), manifest([3]), "")
    world.batches.add_part("default", batch.id, 2)
    complete_batch("default", batch.id, world.artifacts, world.batches)
    assert world.run(batch).progress.state is BatchState.SUCCEEDED
    assert names(world, batch) == ["n0", "n1", "n2", "n3"]


@pytest.mark.parametrize("text", [b"", b"\n \r\n"])
def test_a_batch_without_items_fails(world: World, text: bytes) -> None:
    ended = world.run(world.submit(text))
    assert ended.progress.state is BatchState.FAILED
    assert ended.progress.failure is not None
    assert ended.progress.failure.code == "malformed_request"


def test_a_batch_without_parts_fails(world: World) -> None:
    assert world.run(world.submit()).progress.state is BatchState.FAILED


@pytest.mark.parametrize("parts", [(), (manifest([0, 1]),)])
def test_a_batch_that_its_client_has_left_fails(
    world: World, parts: tuple[bytes, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = world.submit(*parts, is_complete=False)
    assert not world.run(batch).progress.state.is_final
    later_ms = time_ms() + int(SETTINGS.job_expiry * 1000)
    monkeypatch.setattr("worker.bulk.leader.time_ms", lambda: later_ms - 60_000)
    assert not world.run(batch).progress.state.is_final
    monkeypatch.setattr("worker.bulk.leader.time_ms", lambda: later_ms + 60_000)
    progress = world.run(batch).progress
    assert progress.state is BatchState.FAILED
    assert progress.failure is not None
    assert progress.failure.code == "batch_left"


def test_a_source_that_is_gone_fails_the_batch(world: World) -> None:
    batch = submit_source(world, instances(0))
    [key] = [
        key for bucket, key in world.artifacts._objects if key.endswith(".jsonl") and bucket == "imports"
    ]
    del world.artifacts._objects["imports", key]
    failure = world.run(batch).progress.failure
    assert failure is not None
    assert failure.code == "artifact_not_found"


def test_a_cancelled_batch_ends_at_once(world: World) -> None:
    batch = world.submit(manifest(range(6)))
    world.leader().look()
    chunk = world.claim()
    world.batches.cancel("default", batch.id)
    world.leader().look()
    ended = world.read(batch)
    assert (ended.progress.state, ended.counts.running) == (BatchState.CANCELLED, 0)
    assert ended.progress.failure is not None
    assert ended.progress.failure.code == "cancelled"
    assert world.batches.renew([chunk.key], 60) == {chunk.key}
    assert summary_of(world, batch).succeeded == 0
    world.runner().run("grabcut")
    assert not world.models.seen


def test_a_paused_batch_waits(world: World) -> None:
    batch = world.submit(manifest(range(4)))
    world.batches.pause("default", batch.id, is_paused=True)
    for _ in range(3):
        world.leader().look()
        world.runner().run("grabcut")
    assert world.read(batch).progress.items == 4
    assert not world.models.seen
    world.batches.pause("default", batch.id, is_paused=False)
    assert world.run(batch).counts.succeeded == 4


def test_tenths_are_noted_once_all_items_are_known(world: World) -> None:
    batch = world.submit(manifest(range(10)), is_complete=False)
    tenths = []
    world.leader().look()
    for step in range(4):
        chunk = world.claim()
        world.batches.release(chunk.key)
        world.is_closing = False
        world.models = QuickModels(before=lambda number: setattr(world, "is_closing", True))
        world.runner().run("grabcut")  # one chunk
        world.is_closing = False
        if step == 1:
            complete_batch("default", batch.id, world.artifacts, world.batches)
        world.leader().look()
        tenths.append(world.read(batch).progress.tenths)
    assert tenths == [0, 4, 6, 8]


# -- sources and destinations


def test_results_are_copied_in_their_order(world: World) -> None:
    batch = submit_source(world, instances(0, 1), b"\r\n\n" + instances(2)[:-1] + b"\n" + BAD)
    ended = world.run(batch)
    assert (ended.progress.state, ended.counts.succeeded, ended.counts.failed) == (BatchState.SUCCEEDED, 3, 1)
    first, second = copied(world, "predictions_0001.jsonl"), copied(world, "predictions_0002.jsonl")
    assert [line["instance"] for line in first + second] == [
        {"content": f"gs://imports/{n}.png"} for n in range(3)
    ]
    assert all(line["prediction"].keys() == {"categoryMask", "confidenceMask"} for line in first + second)
    [error] = copied(world, "errors_0002.jsonl")
    assert error["error"]["code"] == 3
    assert [(one.code, one.message) for one in ended.progress.partial_failures] == [
        (3, error["error"]["message"])
    ]
    assert {key for bucket, key in world.artifacts._objects if bucket == "exports"} == {
        "out/predictions_0001.jsonl",
        "out/predictions_0002.jsonl",
        "out/errors_0002.jsonl",
    }


def test_a_native_batch_s_errors_are_partial_failures_too(world: World) -> None:
    batch = world.submit(manifest([0, 99]) + BAD * 30, destination=destination())
    progress = world.run(batch).progress
    assert len(progress.partial_failures) == 20
    assert progress.partial_failures[0].code == 5
    assert copied(world, "errors_0001.jsonl")[0]["id"] == "n99"


def test_a_chunk_that_is_late_holds_up_the_copies_of_those_after_it(world: World) -> None:
    batch = world.submit(manifest(range(6)), destination=destination())
    world.leader().look()
    late = world.claim()
    world.runner().run("grabcut")
    world.leader().look()
    now = world.read(batch)
    assert (now.counts.ended, now.progress.published) == (2, 0)
    world.batches.release(late.key)
    assert world.run(batch).progress.published == 3


def test_keys_and_fields_of_instances(world: World) -> None:
    batch = submit_source(
        world, instances(0, id=7, note="n"), fields=ItemFields(key_field="id", excluded=("note",))
    )
    assert world.run(batch).counts.succeeded == 1
    assert copied(world, "predictions_0001.jsonl")[0]["key"] == 7


def test_the_images_of_a_prefix(world: World) -> None:
    for key in ("set/a/1.PNG", "set/b.png", "set/.hidden/c.png", "set/note.txt", "settled.png"):
        world.artifacts.put(key, image_of(1), "image/png", bucket="imports")

    def found(prefix: str, pattern: str = "") -> list[str]:
        source = Source(kind=SourceKind.IMAGES, bucket="imports", key=prefix, pattern=pattern)
        batch = world.submit(sources=(source,))
        assert world.run(batch).progress.state is BatchState.SUCCEEDED
        return [one.id for one in world.results(batch)]

    assert found("set/") == ["a/1.PNG", "b.png"]
    assert found("set") == ["a/1.PNG", "b.png", "tled.png"]
    assert found("set/", "**/*.PNG") == ["a/1.PNG"]
    assert found("set/", "b.???") == ["b.png"]


# -- trying anew


def test_what_failed_is_tried_anew(world: World) -> None:
    text = manifest([0, 50, 1, 51]) + BAD + manifest([2, 2, 52], prompts=[{"label": "é", "points": [[1, 1]]}])
    batch = world.submit(text)
    assert world.run(batch).counts.failed == 5
    world.put_images([50, 52])
    retried = retry_batch("default", batch.id, 10, world.artifacts, world.batches)
    assert retried.is_retrying
    ended = world.run(batch)
    progress, counts = ended.progress, ended.counts
    assert (progress.state, progress.rounds, progress.items) == (BatchState.SUCCEEDED, 1, 8)
    assert (counts.succeeded, counts.failed) == (5, 3)
    assert names(world, batch) == ["n0", "n1", "n2", "n50", "n52"]
    assert [(one.id, one.line, one.error.code) for one in world.errors(batch)] == [
        ("n51", 4, "image_unreachable"),
        ("5", 5, "malformed_request"),
        ("n2", 7, "repeated_item"),
    ]
    assert world.errors(batch)[1].instance == "no json"
    assert [one.line for one in world.results(batch)] == [1, 3, 6, 2, 8]
    assert world.results(batch)[-1].segments[0].label == "é"
    assert (summary_of(world, batch).succeeded, summary_of(world, batch).failed) == (5, 3)
    assert set(world.models.seen.values()) == {1}
    world.put_images([51])
    retry_batch("default", batch.id, 10, world.artifacts, world.batches)
    ended = world.run(batch)
    assert (ended.progress.rounds, ended.counts.succeeded, ended.counts.failed) == (2, 6, 2)


def test_a_long_item_is_as_long_when_it_is_tried_anew(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    item = {"image": "s3://imports/60.png", "metadata": {"é": [1] * 200, "ü": "ß" * 200}}
    text = json.dumps(item, ensure_ascii=False, separators=(",", ":")).encode()
    monkeypatch.setattr("worker.bulk.lines.MAX_ITEM_BYTES", len(text))
    batch = world.submit(text)
    assert world.run(batch).counts.failed == 1
    world.put_images([60])
    retry_batch("default", batch.id, 10, world.artifacts, world.batches)
    assert world.run(batch).counts.succeeded == 1
    assert world.results(batch)[0].instance == item


def test_a_round_that_is_cancelled_before_it_begins(world: World) -> None:
    batch = world.submit(manifest([0, 50]))
    world.run(batch)
    retry_batch("default", batch.id, 10, world.artifacts, world.batches)
    world.batches.cancel("default", batch.id)
    world.leader().look()
    ended = world.read(batch)
    assert (ended.progress.state, ended.is_retrying) == (BatchState.CANCELLED, False)
    assert world.batches.active(9) == []
    ends = [
        Progress.model_validate_json(world.artifacts.get(record_key(batch.id, f"end-{n}"))) for n in (0, 1)
    ]
    assert [end.state for end in ends] == [BatchState.SUCCEEDED, BatchState.CANCELLED]
    forget(world)
    assert world.read(batch).progress.state is BatchState.CANCELLED


def test_a_round_whose_errors_are_gone_fails(world: World) -> None:
    batch = world.submit(manifest([0, 50]))
    world.run(batch)
    world.artifacts.delete([key for key in world.artifacts.keys("batches/") if "/errors/" in key])
    retry_batch("default", batch.id, 10, world.artifacts, world.batches)
    world.leader().look()
    ended = world.read(batch)
    assert (ended.progress.state, ended.is_retrying) == (BatchState.FAILED, False)


def test_a_round_whose_note_was_not_taken_is_noted_by_the_leader(world: World) -> None:
    batch = world.submit(manifest([0, 50]))
    world.run(batch)
    world.batches.retry("default", batch.id)
    world.run(batch)
    assert record_key(batch.id, "retry-1") in set(world.artifacts.keys("batch-records/"))


# -- many batches, many leaders


def test_one_leader_at_a_time(world: World) -> None:
    batch = world.submit(manifest([0]))
    assert world.jobs.lead("batches", "other", 60)
    world.leader().look()
    assert world.read(batch) == batch


def test_no_more_workers_are_called_than_there_is_work_for(world: World) -> None:
    world.submit(manifest(range(3)))
    world.leader().look()
    assert world.queue.chunks == ["grabcut"] * 2
    world.queue.chunks.clear()
    world.submit(manifest(range(20)))
    world.leader().look()
    assert world.queue.chunks == ["grabcut"] * 2  # for each worker
    world.queue.chunks.clear()
    held = [world.claim() for _ in range(3)]
    world.leader().look()
    assert world.queue.chunks == []
    for chunk in held[:2]:
        world.batches.finish(chunk.key, ChunkEnd(number=chunk.number, attempt=1, succeeded=2), 2)
    world.leader().look()
    assert world.queue.chunks == ["grabcut"]


def test_chunks_whose_worker_was_lost_are_handed_out_again(world: World) -> None:
    batch = world.submit(manifest(range(2)))
    world.leader().look()
    held = world.claim(0)
    assert world.batches.renew([held.key], 0) == set()
    assert world.batches.take_in_hand(held.key, ALL_LINES)
    world.leader().look()
    again = world.claim()
    assert (again.attempt, again.losses) == (2, 1)
    world.batches.release(again.key)
    assert world.run(batch).counts.succeeded == 2


def test_one_batch_leaves_time_for_others(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.bulk.leader._SHARE_S", 0.0)
    monkeypatch.setattr("worker.bulk.cutting._BLOCK_BYTES", 100)
    batches = [world.submit(manifest(range(20))) for _ in range(2)]
    world.leader().look()
    first, second = (world.read(batch).progress.items for batch in batches)
    assert 0 < first == second < 20
    for batch in batches:
        assert world.run(batch).counts.succeeded == 20


class PartlyAway(Tolerant):
    """One destination does not answer."""

    is_away = True

    def copy(self, key: str, to_key: str, *, to_bucket: str) -> None:
        if to_key.startswith("away/") and self.is_away:
            raise ArtifactStoreUnavailable("no answer")
        super().copy(key, to_key, to_bucket=to_bucket)


def test_batches_that_can_not_move_hold_up_no_others() -> None:
    artifacts = PartlyAway()
    world = World(artifacts=artifacts)
    world.put_images(range(10))
    away = [world.submit(manifest([n]), destination=destination("away/")) for n in range(3)]
    good = world.submit(manifest(range(6)), destination=destination())
    leader = world.leader()
    for _ in range(6):
        leader.look()
        world.runner().run("grabcut")
    assert world.read(good).progress.state is BatchState.SUCCEEDED
    assert {world.read(one).progress.state for one in away} == {BatchState.RUNNING}
    artifacts.is_away = False
    leader.look()
    assert {world.read(one).progress.state for one in away} == {BatchState.SUCCEEDED}


def test_a_batch_that_something_unforeseen_stops_holds_up_no_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck, good = world.submit(manifest([0])), world.submit(manifest([1]))
    tries: list[Batch] = []
    save = world.batches.save

    def broken(batch: Batch, *rest: Any, **more: Any) -> Batch | None:
        if batch.id == stuck.id:
            tries.append(batch)
            raise ZeroDivisionError
        return save(batch, *rest, **more)

    monkeypatch.setattr(world.batches, "save", broken)
    leader = world.leader()
    for _ in range(3):
        leader.look()
        world.runner().run("grabcut")
    assert world.read(good).progress.state is BatchState.SUCCEEDED
    assert len(tries) == 1
    monkeypatch.undo()
    leader._still_until.clear()
    for _ in range(3):
        leader.look()
        world.runner().run("grabcut")
    assert world.read(stuck).progress.state is BatchState.SUCCEEDED


# -- steps that are broken off


def a_native_batch(world: World) -> Batch:
    return world.submit(manifest(range(4)) + BAD, b"\n" + manifest([3, 4]), review=ReviewThresholds())


def a_vertex_batch(world: World) -> Batch:
    return submit_source(world, instances(0, 1, 2) + BAD, instances(3))


def outcome(world: World, batch: Batch) -> Any:
    """What came of a batch, without times."""
    ended = world.read(batch)
    lines = {shard: [json.loads(line) for line in world.lines(batch, shard)] for shard in Shard}
    for line in lines[Shard.PREDICTIONS]:
        line.pop("timings", None)
    exported = {
        key: [{**json.loads(line), "timings": None} for line in body.splitlines()]
        for (bucket, key), body in world.artifacts._objects.items()
        if bucket == "exports"
    }
    counts = ended.counts
    progress = ended.progress
    return (
        progress.state,
        (counts.ended, counts.succeeded, counts.failed, counts.flagged, counts.running),
        (progress.items, progress.chunks, progress.line, progress.published, progress.partial_failures),
        lines,
        exported,
        summary_of(world, batch).model_copy(update={"seconds": 0, "slowest": (), "batch": ""}),
        [key.rpartition("/")[2] for key in world.artifacts.keys(f"{RECORDS}{batch.id}/")],
    )


def outcome_of_a_calm_life(make: Callable[[World], Batch]) -> Any:
    world = make_world()
    batch = make(world)
    world.run(batch)
    return outcome(world, batch)


MAKERS = pytest.mark.parametrize("make", [a_native_batch, a_vertex_batch])


@MAKERS
@pytest.mark.parametrize("survives", [False, True])
@pytest.mark.parametrize("after", [False, True])
def test_a_life_broken_off_anywhere_is_gone_on_with(
    make: Callable[[World], Batch], after: bool, survives: bool
) -> None:
    """Each of the leader's calls once, of any store; ``survives``: the leader, else there is a new one."""
    expected = outcome_of_a_calm_life(make)
    for call in count(1):
        world, plan = make_world(), Break(call, after)
        batch = make(world)
        leader = world.leader(through=partial(Breaking, plan=plan))
        for _ in range(12):
            with suppress(DependencyError):  # as a worker does
                leader.look()
            leader._back_until.clear()
            if plan.has_come and not survives:
                leader = world.leader()
            world.runner().run("grabcut")
        assert outcome(world, batch) == expected, call
        assert set(world.models.seen.values()) == {1}, call
        if not plan.has_come:
            assert call > 30
            return


@MAKERS
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("is_cancelled", [False, True])
def test_a_leader_that_is_overtaken_anywhere_changes_nothing(
    make: Callable[[World], Batch], after: bool, is_cancelled: bool
) -> None:
    """It is frozen in a call, while another brings the batch to its end."""
    expected = outcome_of_a_calm_life(make)
    for call in count(1):
        world = make_world()
        batch = make(world)
        ends: list[Batch] = []

        def overtake(world: World = world, batch: Batch = batch, ends: list[Batch] = ends) -> None:
            world.jobs._leaders.clear()
            if is_cancelled:
                world.batches.cancel("default", batch.id)
            ends.append(world.run(batch))
            world.jobs._leaders.clear()

        plan = Break(call, after, instead=overtake)
        frozen = world.leader("frozen", through=partial(Breaking, plan=plan))
        for _ in range(8):
            frozen.look()
            world.runner().run("grabcut")
        if not ends:
            assert call > 30
            return
        assert ends[0].progress.state.is_final, call
        assert world.read(batch) == ends[0], call
        if not is_cancelled:
            assert outcome(world, batch) == expected, call
        note = world.artifacts.get(record_key(batch.id, "end-0"))
        assert Progress.model_validate_json(note).state is ends[0].progress.state, call
        assert set(world.models.seen.values()) <= {1}, call


# -- a store that lost its memory


def forget(world: World) -> None:
    """The store loses its memory, and gets the batches again from the bucket."""
    world.batches = MemoryBatchStore()
    restore_batches(world.artifacts, world.batches, KEEP_S)


@MAKERS
def test_a_batch_is_gone_on_with_whenever_the_memory_is_lost(
    make: Callable[[World], Batch], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.bulk.cutting._BLOCK_BYTES", 120)
    calm = make_world()
    calm_batch = make(calm)
    calm.run(calm_batch)
    expected = outcome(calm, calm_batch)
    for ended_before in range(calm.read(calm_batch).counts.ended + 1):
        for looks in range(1, 3):
            world = make_world()
            batch = make(world)
            world.leader().look()
            run_chunks(world, ended_before)
            for _ in range(looks):
                world.leader().look()
            forget(world)
            world.run(batch)
            assert outcome(world, batch) == expected
            assert set(world.models.seen.values()) == {1}
            forget(world)  # after its end too
            world.run(batch)
            assert outcome(world, batch) == expected
            assert set(world.models.seen.values()) == {1}


def run_chunks(world: World, number: int) -> None:
    """Run so many chunks, if as many wait."""
    for _ in range(number):
        world.models.before = lambda _: setattr(world, "is_closing", True)
        world.runner().run("grabcut")
        world.is_closing = False
    world.models.before = lambda _: None


@pytest.mark.parametrize("ended_before", [0, 1, 2])
@pytest.mark.parametrize("looks", [0, 1, 2])
def test_a_round_is_gone_on_with_whenever_the_memory_is_lost(
    world: World, ended_before: int, looks: int
) -> None:
    batch = world.submit(manifest([0, 50, 51, 1, 52, 2]) + BAD)
    world.run(batch)
    world.put_images([50, 52])
    retry_batch("default", batch.id, 10, world.artifacts, world.batches)
    for _ in range(looks):
        world.leader().look()
    run_chunks(world, ended_before)
    forget(world)
    ended = world.run(batch)
    assert ended.progress.rounds == 1
    assert (ended.counts.succeeded, ended.counts.failed, ended.progress.items) == (5, 2, 7)
    assert names(world, batch) == ["n0", "n1", "n2", "n50", "n52"]
    assert [one.id for one in world.errors(batch)] == ["n51", "7"]
    assert summary_of(world, batch).errors == {"image_unreachable": 1, "malformed_request": 1}
    assert set(world.models.seen.values()) == {1}


@pytest.mark.parametrize("state", [BatchState.CANCELLED, BatchState.FAILED])
def test_an_end_is_remembered(world: World, state: BatchState) -> None:
    batch = world.submit(manifest(range(4)) if state is BatchState.CANCELLED else b"\n")
    world.leader().look()
    run_chunks(world, 1)
    world.batches.cancel("default", batch.id)
    world.leader().look()
    before = world.read(batch)
    forget(world)
    after = world.run(batch)
    assert after.progress.state is before.progress.state
    assert after.progress.failure == before.progress.failure
    assert world.batches.active(9) == []


def test_parts_that_are_uploaded_after_the_memory_was_lost(world: World) -> None:
    batch = world.submit(manifest([0, 1, 2]), is_complete=False)
    world.leader().look()
    run_chunks(world, 1)
    forget(world)
    world.artifacts.put(part_key(batch.id, 2), manifest([3]), "")
    world.batches.add_part("default", batch.id, 2)
    complete_batch("default", batch.id, world.artifacts, world.batches)
    assert world.run(batch).counts.succeeded == 4
    assert names(world, batch) == ["n0", "n1", "n2", "n3"]
    assert set(world.models.seen.values()) == {1}


# -- what is left


def test_old_batches_are_removed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.bulk.leader._TIDY_S", -1.0)
    settings = SETTINGS.model_copy(update={"job_expiry": 1e-9})
    old, going_on = world.submit(manifest([0])), world.submit(manifest([1]), is_complete=False)
    assert world.run(old).progress.state is BatchState.SUCCEEDED
    world.artifacts.clock_s = lambda: 4e9
    world.leader(settings=settings).look()
    assert {key.split("/")[1] for key in world.artifacts.keys("batch")} == {going_on.id}
    assert list(world.artifacts.keys(parts_folder(going_on.id)))
