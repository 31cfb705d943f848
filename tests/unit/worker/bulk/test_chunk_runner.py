"""Chunks over the doubles, from their claim to their end."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any

import pytest

from maskline.adapters.memory import MemoryArtifactStore
from maskline.batch_artifacts import folder, pack_key
from maskline.batch_results import ReviewReason
from maskline.batches import ChunkPlan, ItemForm, Progress
from maskline.errors import ArtifactStoreUnavailable, DependencyError
from tests.unit.worker.bulk.breaking import Break, Breaking
from tests.unit.worker.bulk.world import NO_REVIEW, SETTINGS, QuickModels, World, image_of, manifest
from worker.bulk.chunk_keeper import ChunkKeeper


@pytest.fixture
def world() -> World:
    made = World()
    made.put_images(range(20))
    return made


def test_a_chunk_is_run_and_its_results_are_in_order(world: World) -> None:
    gates = {number: threading.Event() for number in range(3)}
    begun = threading.Semaphore(0)

    def backwards(number: int) -> None:
        begun.release()
        if number in gates:
            assert gates[number].wait(10)

    world.models = QuickModels(before=backwards)
    batch = world.hand(manifest(range(8)) + b"no json\n" + manifest([8]))
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(world.runner(at_once=3).run, "grabcut")
        for _ in gates:
            assert begun.acquire(timeout=10)  # all three are under way, and no more
        for number in (2, 1, 0):
            gates[number].set()
        running.result(10)
    assert [one.id for one in world.results(batch)] == [f"n{n}" for n in range(9)]
    assert [one.line for one in world.results(batch)] == [1, 2, 3, 4, 5, 6, 7, 8, 10]
    assert [(one.id, one.line, one.error.code) for one in world.errors(batch)] == [
        ("9", 9, "malformed_request")
    ]
    counts = world.read(batch).counts
    assert (counts.ended, counts.succeeded, counts.failed, counts.running) == (1, 9, 1, 0)
    assert sum(world.models.seen.values()) == 9


def test_chunks_are_run_until_none_waits(world: World) -> None:
    batches = [world.hand(manifest([n])) for n in range(5)]
    world.runner().run("grabcut")
    assert [world.read(batch).counts.ended for batch in batches] == [1] * 5


def test_a_worker_that_closes_begins_no_chunk(world: World) -> None:
    batches = [world.hand(manifest([n])) for n in range(3)]

    def close(number: int) -> None:
        world.is_closing = True

    world.models = QuickModels(before=close)
    world.runner().run("grabcut")
    assert [world.read(batch).counts.ended for batch in batches] == [1, 0, 0]


def test_images_of_packs(world: World) -> None:
    images = [image_of(n) for n in range(3)]
    batch = world.submit(is_complete=False)
    world.artifacts.put(pack_key(batch.id, 1), b"".join(images), "")
    offset, lines = 0, b""
    for image in images:
        lines += b'{"image": {"pack": 1, "offset": %d, "length": %d}}\n' % (offset, len(image))
        offset += len(image)
    lines += b'{"image": {"pack": 1, "offset": %d, "length": 9}}\n' % offset
    lines += b'{"image": {"pack": 2, "offset": 0, "length": 9}}\n'
    world.artifacts.put(f"{folder(batch.id)}parts/000001.jsonl", lines, "")
    plan = ChunkPlan(part=1, form=ItemForm.ITEM, offset=0, length=len(lines), line=1, items=5)
    assert world.batches.save(batch, Progress(items=5, chunks=1), 60, [plan])
    world.runner().run("grabcut")
    assert [one.line for one in world.results(batch)] == [1, 2, 3]
    assert [one.error.code for one in world.errors(batch)] == ["image_unreachable"] * 2
    assert world.models.seen == {0: 1, 1: 1, 2: 1}


def test_an_id_that_was_there_before_fails(world: World) -> None:
    text = manifest([1, 2])
    batch = world.submit(text)
    plan = ChunkPlan(part=1, form=ItemForm.ITEM, offset=0, length=len(text), line=8, items=2, repeated={9: 4})
    assert world.batches.save(batch, Progress(items=2, chunks=1), 60, [plan])
    world.runner().run("grabcut")
    [error] = world.errors(batch)
    assert (error.id, error.line, error.error.code) == ("n2", 9, "repeated_item")
    assert "line 4 has the id 'n2' too" in error.error.message
    assert error.instance == {"id": "n2", "image": "s3://imports/2.png"}
    assert world.models.seen == {1: 1}


def test_what_is_to_be_looked_at_is_in_a_file_of_its_own(world: World) -> None:
    text = manifest([1]) + manifest([2], prompts=[{"label": "cup", "points": [[1, 1]]}])
    flagged = world.hand(text, review={"minConfidence": 0.9})
    calm = world.hand(text, review=NO_REVIEW)
    world.runner().run("grabcut")
    assert [(one.id, [flag.reason for flag in one.flags]) for one in world.reviews(flagged)] == [
        (name, [ReviewReason.LOW_CONFIDENCE]) for name in ("n1", "n2")
    ]
    assert world.read(flagged).counts.flagged == 2
    assert world.reviews(calm) == []
    labels = [one.annotation_specs[1].display_name for one in world.results(calm)]
    assert labels == ["thing", "cup"]


# -- chunks that are lost


def left(world: World) -> set[str]:
    """Names of the folders of chunks' files."""
    return {key.split("/")[2] for key in world.artifacts.keys("batches/")} - {"parts"}


@pytest.mark.parametrize("after", [0, 3])
def test_a_lost_chunk_leaves_nothing(world: World, after: int) -> None:
    batch = world.hand(manifest(range(10)))
    keeper = world.keeper()

    def cancel(number: int) -> None:
        if number == after:
            world.batches.cancel("default", batch.id)
            keeper.renew()

    world.models = QuickModels(before=cancel)
    world.runner(keeper=keeper, at_once=1).run("grabcut")
    assert sum(world.models.seen.values()) <= after + 2
    assert world.read(batch).counts.ended == 0
    assert left(world) == set()


def test_who_is_overtaken_leaves_what_the_other_made(world: World) -> None:
    """It is frozen while it stores its files; another ends the chunk meanwhile."""
    batch = world.hand(manifest(range(4)))

    def overtake() -> None:
        world.batches._leases = dict.fromkeys(world.batches._leases, 0)
        assert len(world.batches.reap(9)) == 1
        world.runner().run("grabcut")

    plan = Break(at=1, names=frozenset({"put"}), instead=overtake)
    world.runner(through=partial(Breaking, plan=plan)).run("grabcut")
    assert plan.has_come
    [ended] = world.batches.ended_chunks(batch.id, 1, 1)
    assert (ended.attempt, ended.succeeded) == (2, 4)
    assert len(world.results(batch)) == 4
    assert all(key.split("-")[-1][0] == "2" for key in world.artifacts.keys(folder(batch.id)) if "-" in key)


@pytest.mark.parametrize("after", [False, True])
def test_a_chunk_broken_off_anywhere_is_run_again(after: bool) -> None:
    """Each of the calls of its life once, of whichever store."""
    for call in count(1):
        world = World()
        world.put_images(range(4))
        batch = world.hand(manifest(range(4)) + b"no json\n")
        plan = Break(call, after)
        with suppress(DependencyError):  # as a worker does
            world.runner(through=partial(Breaking, plan=plan), at_once=1).run("grabcut")
        world.batches._leases = dict.fromkeys(world.batches._leases, 0)
        world.batches.reap(9)
        world.runner().run("grabcut")
        counts = world.read(batch).counts
        assert (counts.ended, counts.succeeded, counts.failed, counts.running) == (1, 4, 1, 0), call
        assert [one.id for one in world.results(batch)] == [f"n{n}" for n in range(4)], call
        assert [one.line for one in world.errors(batch)] == [5], call
        if not plan.has_come:
            assert call > 10
            return


class Away(MemoryArtifactStore):
    """Does not answer for a while."""

    fails = 0

    def get(self, key: str, *, bucket: str | None = None, max_bytes: int | None = None) -> bytes:
        if bucket == "imports" and self.fails:
            self.fails -= 1
            raise ArtifactStoreUnavailable("no answer")
        return super().get(key, bucket=bucket, max_bytes=max_bytes)

    def check(self) -> None:
        raise ArtifactStoreUnavailable("no answer")


def test_a_chunk_whose_images_can_not_be_had_now_is_given_back() -> None:
    artifacts = Away()
    world = World(artifacts=artifacts)
    world.put_images(range(4))
    batch = world.hand(manifest(range(4)))
    artifacts.fails = 1
    with pytest.raises(ArtifactStoreUnavailable):
        world.runner().run("grabcut")
    assert world.batches.waiting("grabcut") == (1, 0)
    assert left(world) == set()
    world.runner().run("grabcut")
    assert world.read(batch).counts.succeeded == 4


def test_a_chunk_that_can_not_be_read_fails_with_all_its_items(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise ZeroDivisionError

    batch = world.hand(manifest(range(3)))
    monkeypatch.setattr("worker.bulk.chunk_runner.read_item", broken)
    world.runner().run("grabcut")
    assert [(one.line, one.error.code) for one in world.errors(batch)] == [
        (n, "internal_error") for n in (1, 2, 3)
    ]
    assert world.read(batch).counts.failed == 3


def test_a_part_that_is_gone_fails_the_chunk_with_all_its_items(world: World) -> None:
    batch = world.hand(manifest(range(3)))
    world.artifacts.delete(list(world.artifacts.keys(f"{folder(batch.id)}parts/")))
    world.runner().run("grabcut")
    assert [one.error.code for one in world.errors(batch)] == ["internal_error"] * 3
    assert world.read(batch).counts.failed == 3


# -- items that end their workers


class Killed(BaseException):
    """The process is no more: nothing is given back, and nothing told."""


@dataclass
class Dying:
    """A store that a dead worker does not reach."""

    store: Any
    is_dead: Callable[[], bool]

    def __getattr__(self, name: str) -> Any:
        if self.is_dead():
            raise Killed
        return getattr(self.store, name)


@dataclass
class Mortal:
    """Workers, each of which ends with the first deadly image."""

    world: World
    deadly: set[int]
    deaths: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.world.models = QuickModels(before=self._maybe_die)

    def _maybe_die(self, number: int) -> None:
        if number in self.deadly:
            self.deaths.append(number)
            raise Killed

    def live(self) -> None:
        """One worker, until it dies or has nothing to do; its leases lapse."""
        died_before = len(self.deaths)

        def through(store: Any) -> Any:
            return Dying(store, lambda: len(self.deaths) > died_before)

        with suppress(Killed):
            self.world.runner(through=through, at_once=4).run("grabcut")
        self.world.batches._leases = dict.fromkeys(self.world.batches._leases, 0)
        self.world.batches.reap(9)


def test_an_item_that_ends_its_workers_fails_alone(world: World) -> None:
    batch = world.hand(manifest(range(12)))
    workers = Mortal(world, {5})
    for _ in range(6):
        workers.live()
    assert world.read(batch).counts.ended == 1
    assert [one.id for one in world.results(batch)] == [f"n{n}" for n in range(12) if n != 5]
    [error] = world.errors(batch)
    assert (error.id, error.error.code) == ("n5", "worker_lost")
    assert f"{SETTINGS.max_attempts} workers were lost" in error.error.message
    assert workers.deaths == [5] * SETTINGS.max_attempts


def test_several_items_that_end_their_workers_fail_alone(world: World) -> None:
    batch = world.hand(manifest(range(8)))
    workers = Mortal(world, {0, 3, 7})
    for _ in range(10):
        workers.live()
    assert [one.id for one in world.errors(batch)] == ["n0", "n3", "n7"]
    assert {one.error.code for one in world.errors(batch)} == {"worker_lost"}
    assert [one.id for one in world.results(batch)] == ["n1", "n2", "n4", "n5", "n6"]


def test_items_that_ended_no_worker_are_not_blamed(world: World) -> None:
    """A machine that goes down again and again is no item's fault."""
    batch = world.hand(manifest(range(4)))
    for line in (1, 2, 3, 4):
        chunk = world.claim(0)
        assert world.batches.take_in_hand(chunk.key, line)
        world.batches.reap(9)
    world.runner().run("grabcut")
    assert world.read(batch).counts.succeeded == 4


# -- several threads of a worker


def test_only_two_chunks_of_a_model_are_in_hand(world: World) -> None:
    for n in range(5):
        world.hand(manifest([n]))
    gate, begun = threading.Event(), threading.Event()

    def wait(number: int) -> None:
        begun.set()
        assert gate.wait(10)

    world.models = QuickModels(before=wait)
    keeper = ChunkKeeper(world.batches, lease_s=60, deadline_s=60, on_wedged=print)
    runner = world.runner(keeper=keeper)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(runner.run, "grabcut")
        assert begun.wait(10)
        second = pool.submit(runner.run, "grabcut")
        while world.batches.waiting("grabcut")[1] < 2:
            assert not second.done()
        runner.run("grabcut")  # comes back at once
        assert world.batches.waiting("grabcut") == (3, 2)
        gate.set()
        first.result(10)
        second.result(10)
    assert world.batches.waiting("grabcut") == (0, 0)
    assert world.models.seen == dict.fromkeys(range(5), 1)
