"""Holding chunks: renewed while they are held, told when they are lost, and given up when nothing moves."""

from collections.abc import Callable

import pytest

from maskline.adapters.memory_batches import MemoryBatchStore
from maskline.batches import ChunkKey
from tests.unit.worker.bulk.world import LEASE_S, World, manifest
from worker.bulk.chunk_keeper import ChunkKeeper
from worker.leases import LeaseLost


class Clock:
    """Stands, unless it is told that time passes."""

    now_ms = 1_700_000_000_000

    def __call__(self) -> int:
        return self.now_ms

    def pass_s(self, seconds: float) -> None:
        self.now_ms += int(seconds * 1000)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def world(clock: Clock) -> World:
    return World(batches=MemoryBatchStore(clock_ms=clock))


def keeper_of(world: World, deadline_s: float = 60, on_wedged: Callable[[], None] = print) -> ChunkKeeper:
    return ChunkKeeper(world.batches, lease_s=LEASE_S, deadline_s=deadline_s, on_wedged=on_wedged)


def test_a_chunk_is_renewed_as_long_as_it_is_held(world: World, clock: Clock) -> None:
    world.hand(manifest([1]))
    chunk, keeper = world.claim(LEASE_S), keeper_of(world)
    with keeper.holding(chunk.key) as lease:
        for _ in range(5):
            clock.pass_s(LEASE_S - 1)
            keeper.renew()
            assert world.batches.reap(9) == []
            lease.check()
    clock.pass_s(LEASE_S + 1)
    keeper.renew()
    assert world.batches.reap(9) == [chunk.key]


def test_who_holds_a_lost_chunk_is_told(world: World) -> None:
    batch = world.hand(manifest([1]))
    chunk, keeper = world.claim(), keeper_of(world)
    with keeper.holding(chunk.key) as lease:
        world.batches.cancel("default", batch.id)
        lease.check()
        keeper.renew()
        with pytest.raises(LeaseLost):
            lease.check()


def test_a_chunk_that_does_not_move_on_ends_the_worker(world: World, clock: Clock) -> None:
    world.hand(manifest([1]))
    wedged: list[str] = []
    chunk, keeper = world.claim(), keeper_of(world, -1, lambda: wedged.append("now"))
    with keeper.holding(chunk.key) as lease:
        keeper.renew()  # it is not run yet
        assert wedged == []
        clock.pass_s(LEASE_S + 1)
        lease.is_running = True
        keeper.renew()
        assert wedged == ["now"]
        assert world.batches.reap(9) == [chunk.key]  # nor was it renewed


def test_all_are_given_back(world: World) -> None:
    world.hand(manifest([1]))
    world.hand(manifest([2]))
    keeper = keeper_of(world)
    first, second = world.claim(), world.claim()
    with keeper.holding(first.key), keeper.holding(second.key), keeper.holding(ChunkKey("0", 1, 1)):
        keeper.release_all()
    assert {world.claim().key for _ in range(2)} == {one.key._replace(attempt=2) for one in (first, second)}
