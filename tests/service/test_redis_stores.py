"""The Redis adapters, held to the same promises as the in-memory doubles."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from queue import Queue

import pytest

from maskline.adapters.redis_batches import RedisBatchStore
from maskline.adapters.redis_changes import ChangeListener
from maskline.adapters.redis_chunks import RedisChunkStore
from maskline.adapters.redis_connection import RedisConnection
from maskline.adapters.redis_gate import RedisSubmissionGate
from maskline.adapters.redis_jobs import RedisJobStore
from maskline.adapters.redis_models import RedisModelDirectory
from maskline.adapters.redis_webhooks import RedisEndpointStore, RedisOutbox
from maskline.batches import CHUNK_ITEMS, ChunkKey, LabelSum
from maskline.errors import JobNotFound, JobStoreRebuilding, JobStoreUnavailable
from maskline.limits import TenantLimits
from maskline.local import Stack
from maskline.local.ports import free_port
from maskline.ports import BatchStore, ChunkStore, JobStore, SubmissionGate
from maskline.webhooks import FAILING_GAP_S
from tests.contracts.batch_store import (
    CHUNK_OF,
    ENDED,
    LONG_S,
    MANY,
    RUNNING,
    BatchStoreContract,
    cut,
    end_of,
    make_batch,
    plans,
    run_all,
)
from tests.contracts.chunk_life import Stores as BatchStores
from tests.contracts.chunk_life import hold_chunks_to_the_rules
from tests.contracts.chunk_store import ChunkStoreContract
from tests.contracts.job_life import hold_to_the_rules
from tests.contracts.job_store import JobStoreContract, Store, run, submit
from tests.contracts.outbox import MAX_DEAD, EndpointStoreContract, OutboxContract, Stores, make_endpoint
from tests.contracts.submission_gate import SubmissionGateContract
from tests.factories import make_card, make_job

PREFIX = "tests:"


@pytest.fixture
def connection(stack: Stack) -> Iterator[RedisConnection]:
    connected = RedisConnection(stack.environment["MASKLINE_REDIS_URL"], PREFIX)
    yield connected
    for key in connected.redis.scan_iter(f"{PREFIX}*"):
        connected.redis.delete(key)
    connected.close()


class TestRedisJobStore(JobStoreContract):
    @pytest.fixture
    def store(self, connection: RedisConnection) -> Iterator[Store]:
        store = RedisJobStore(connection, idempotency_expiry_s=60)
        store.begin_epoch(store.begin_rebuild(), 1)
        yield store
        store.close()

    @pytest.fixture
    def lose_memory(self, connection: RedisConnection) -> Callable[[], None]:
        def lose() -> None:
            connection.redis.delete(*connection.redis.scan_iter(f"{PREFIX}*"))

        return lose

    def test_an_absent_redis_is_told_as_such(self) -> None:
        absent = RedisConnection(f"redis://127.0.0.1:{free_port()}/0", PREFIX)
        with pytest.raises(JobStoreUnavailable):
            RedisJobStore(absent, idempotency_expiry_s=60).get("default", "x")

    def test_what_is_kept_of_a_job_is_dropped_when_another_process_deletes_it(
        self, store: Store, connection: RedisConnection
    ) -> None:
        told: Queue[str] = Queue()
        gaps: Queue[None] = Queue()
        listener = ChangeListener(connection, told.put, lambda: gaps.put(None))
        while not listener.is_subscribed:
            gaps.get(timeout=10)
        job = submit(store, make_job())
        run(store, job)
        assert [told.get(timeout=10) for _ in range(2)] == [job.id] * 2
        store.let_expire([job.id], 60)
        store.delete("default", job.id)
        assert [told.get(timeout=10) for _ in range(2)] == [job.id] * 2
        connection.redis.client_kill_filter(_type="pubsub")
        gaps.get(timeout=10)
        listener.close()

    def test_an_ended_job_that_was_read_is_gone_when_it_is_deleted(
        self, store: Store, connection: RedisConnection
    ) -> None:
        other = RedisJobStore(connection, idempotency_expiry_s=60)
        job = run(store, submit(store, make_job()))
        store.wait("default", job.id, job.version, 0)  # subscribes
        other.wait("default", job.id, job.version, 0)
        assert store.get("default", job.id) == other.get("default", job.id) == job
        assert store.get("default", job.id) is store.get("default", job.id)
        store.delete("default", job.id)
        with pytest.raises(JobNotFound):
            store.get("default", job.id)
        with suppress(JobNotFound):
            while other.get("default", job.id):
                time.sleep(0.01)
        other.close()

    def test_nothing_is_left_of_a_deleted_job(self, store: Store, connection: RedisConnection) -> None:
        before = set(connection.redis.scan_iter(f"{PREFIX}*")) | {f"{PREFIX}turn"}
        super().test_a_deleted_job_is_gone_for_its_attempt(store)
        assert set(connection.redis.scan_iter(f"{PREFIX}*")) == before


def begin_anew(connection: RedisConnection, epochs: RedisJobStore) -> None:
    """Forget everything."""
    if keys := list(connection.redis.scan_iter(f"{PREFIX}*", count=10_000)):
        connection.redis.delete(*keys)
    epochs.begin_epoch(epochs.begin_rebuild(), 1)


def test_no_order_of_calls_breaks_the_rules(connection: RedisConnection, epochs: RedisJobStore) -> None:
    def emptied() -> Store:
        begin_anew(connection, epochs)
        return epochs

    hold_to_the_rules(emptied, examples=40)


@pytest.fixture
def epochs(connection: RedisConnection) -> Iterator[RedisJobStore]:
    """Whose memory is whole."""
    store = RedisJobStore(connection, idempotency_expiry_s=60)
    store.begin_epoch(store.begin_rebuild(), 1)
    yield store
    store.close()


@pytest.fixture
def batches(connection: RedisConnection, epochs: RedisJobStore) -> BatchStore:
    return RedisBatchStore(connection)


@pytest.fixture
def chunks(connection: RedisConnection, epochs: RedisJobStore) -> ChunkStore:
    return RedisChunkStore(connection)


def keys_of(connection: RedisConnection, batch_id: str) -> set[str]:
    """The keys that tell of a batch."""
    return set(connection.redis.scan_iter(f"{PREFIX}*{batch_id}*"))


class TestRedisBatchStore(BatchStoreContract):
    def test_an_ended_one_is_forgotten_after_a_while(
        self, batches: BatchStore, chunks: ChunkStore, connection: RedisConnection
    ) -> None:
        batch = make_batch()
        batches.create(batch, MANY)
        batch = cut(batches, batch, 4)
        labels = {"cup": LabelSum(items=1, segments=1, pixels=1)}
        for _ in range(2):
            chunk = chunks.claim("grabcut", "w", LONG_S)
            assert chunk is not None
            end = end_of(chunk.number, chunk.attempt, labels=labels, slowest={"1 a": 1.5})
            assert chunks.finish(chunk.key, end, CHUNK_OF)
        assert chunks.claim("grabcut", "w", LONG_S)  # and is never ended
        assert batches.save(batch, ENDED, 0.2)
        time.sleep(0.4)
        assert batches.all("default") == []
        assert keys_of(connection, batch.id) == set()

    def test_nothing_is_left_of_a_deleted_one(
        self, batches: BatchStore, chunks: ChunkStore, connection: RedisConnection
    ) -> None:
        batch = make_batch()
        batches.create(batch, MANY)
        batch = cut(batches, batch, 3)
        run_all(chunks)
        assert batches.save(batch, ENDED, 60)
        batches.delete("default", batch.id)
        assert keys_of(connection, batch.id) == set()

    def test_one_that_is_tried_anew_is_kept(
        self, batches: BatchStore, chunks: ChunkStore, connection: RedisConnection
    ) -> None:
        batch = make_batch()
        batches.create(batch, MANY)
        batch = cut(batches, batch, 1)
        run_all(chunks, failed=1)
        ended = batches.save(batch, ENDED.model_copy(update={"chunks": 1}), 0.2)
        assert ended is not None
        batches.retry("default", batch.id)
        time.sleep(0.4)
        assert batches.get("default", batch.id).counts.failed == 1
        assert len(batches.ended_chunks(batch.id, 1, 1)) == 1


class TestRedisChunkStore(ChunkStoreContract):
    def test_a_million_items_take_little_room(
        self, batches: BatchStore, chunks: ChunkStore, connection: RedisConnection
    ) -> None:
        """Of a hundred chunks, before they have ended and after."""
        batch = make_batch()
        batches.create(batch, MANY)
        empty = used(connection, batch.id)
        cut(batches, batch, 100)
        items = 100 * CHUNK_ITEMS
        assert used(connection, batch.id) - empty <= 64 * items
        run_all(chunks)
        assert used(connection, batch.id) - empty <= 16 * items

    def test_who_held_a_chunk_when_redis_lost_its_memory_is_told_so(
        self, batches: BatchStore, chunks: ChunkStore, connection: RedisConnection, epochs: RedisJobStore
    ) -> None:
        batch = make_batch()
        batches.create(batch, MANY)
        cut(batches, batch, 2)
        held = chunks.claim("grabcut", "w", LONG_S)
        assert held is not None
        connection.redis.delete(*connection.redis.scan_iter(f"{PREFIX}*"))
        end = end_of(1, 1)
        assert chunks.claim("grabcut", "w", LONG_S) is None
        with pytest.raises(JobStoreRebuilding):
            chunks.finish(held.key, end, CHUNK_OF)
        assert chunks.renew([held.key], LONG_S) == {held.key}
        assert not chunks.release(held.key)
        with pytest.raises(JobStoreRebuilding):
            batches.get("default", batch.id)

        batches.create(batch, MANY)
        assert chunks.claim("grabcut", "w", LONG_S) is None  # the memory is not whole yet
        epochs.begin_epoch(epochs.begin_rebuild(), 2)
        with pytest.raises(JobStoreRebuilding):  # it may yet be found that the chunk has ended
            chunks.finish(held.key, end, CHUNK_OF)
        assert batches.save(batch, RUNNING, 60, plans(2), {1: end})
        assert chunks.finish(held.key, end, CHUNK_OF)
        assert not chunks.finish(held.key._replace(number=2), end_of(2, 1), CHUNK_OF)
        again = chunks.claim("grabcut", "w", LONG_S)
        assert again is not None
        assert (again.number, again.attempt) == (2, 1001)

    def test_of_a_batch_that_is_gone_nothing_is_ended(
        self, batches: BatchStore, chunks: ChunkStore, connection: RedisConnection
    ) -> None:
        assert not chunks.finish(ChunkKey("0", 1, 1), end_of(1, 1), CHUNK_OF)


def used(connection: RedisConnection, batch_id: str) -> int:
    """Bytes that a batch takes."""
    return sum(connection.redis.memory_usage(key, samples=0) for key in keys_of(connection, batch_id))


def test_no_order_of_calls_breaks_the_rules_of_chunks(
    connection: RedisConnection, epochs: RedisJobStore
) -> None:
    stores = BatchStores(RedisBatchStore(connection), RedisChunkStore(connection))

    def emptied() -> BatchStores:
        begin_anew(connection, epochs)
        return stores

    hold_chunks_to_the_rules(emptied, examples=40)


class TestRedisSubmissionGate(SubmissionGateContract):
    @pytest.fixture
    def jobs(self, connection: RedisConnection) -> Iterator[JobStore]:
        store = RedisJobStore(connection, idempotency_expiry_s=60)
        store.begin_epoch(store.begin_rebuild(), 1)
        yield store
        store.close()

    @pytest.fixture
    def gate(self, connection: RedisConnection) -> SubmissionGate:
        return RedisSubmissionGate(connection)

    def test_what_is_counted_goes_when_it_counts_no_more(
        self, gate: SubmissionGate, connection: RedisConnection
    ) -> None:
        gate.admit("a", 1, TenantLimits(submit_rate=20))
        [kept] = connection.redis.scan_iter(f"{PREFIX}rate:*")
        assert 0 < connection.redis.pttl(kept) <= 50


@pytest.fixture
def stores(connection: RedisConnection) -> Iterator[Stores]:
    jobs = RedisJobStore(connection, idempotency_expiry_s=60)
    jobs.begin_epoch(jobs.begin_rebuild(), 1)
    yield Stores(
        jobs=jobs,
        lose_memory=lambda: connection.redis.delete(*connection.redis.scan_iter(f"{PREFIX}*")),
        batches=RedisBatchStore(connection),
        endpoints=RedisEndpointStore(connection),
        outbox=RedisOutbox(connection, keep_dead_s=3600, max_dead=MAX_DEAD),
        forgetful=RedisOutbox(connection, keep_dead_s=0.2, max_dead=MAX_DEAD),
    )
    jobs.close()


class TestRedisEndpointStore(EndpointStoreContract):
    pass


class TestRedisOutbox(OutboxContract):
    def test_nothing_is_left_of_dead_letters(self, stores: Stores, connection: RedisConnection) -> None:
        super().test_a_dead_letter_goes_after_a_while(stores)
        assert list(connection.redis.scan_iter(f"{PREFIX}dead*")) == []
        assert connection.redis.exists(f"{PREFIX}deliveries", f"{PREFIX}outbox") == 0

    def test_failures_count_anew_after_a_long_pause(
        self, stores: Stores, connection: RedisConnection
    ) -> None:
        endpoint = make_endpoint()
        stores.endpoints.save(endpoint, over=0)
        stores.finish()
        [delivery] = stores.outbox.due(1, 60)
        now_ms = int(connection.redis.time()[0]) * 1000
        for ago_s, at_least_s in ((FAILING_GAP_S - 60, 5 * FAILING_GAP_S - 60), (FAILING_GAP_S + 60, 0)):
            times = f"{now_ms - int(5 * FAILING_GAP_S * 1000)} {now_ms - int(ago_s * 1000)}"
            connection.redis.hset(f"{PREFIX}failing", endpoint.id, times)
            assert at_least_s <= stores.outbox.retry(delivery, 60) <= at_least_s * 2


def test_a_silent_worker_offers_nothing_but_its_cards_stay(connection: RedisConnection) -> None:
    directory = RedisModelDirectory(connection)
    assert directory.export_formats() == set()
    directory.publish("w1", [make_card("a"), make_card("b")], 60, export_formats=("coco", "voc"))
    directory.publish("w2", [make_card("b"), make_card("c")], 60, export_formats=("voc", "yolo"))
    assert directory.export_formats() == {"coco", "voc", "yolo"}
    assert directory.available() == {"a", "b", "c"}
    assert directory.workers() == 2
    connection.redis.delete(f"{PREFIX}worker:w1")  # as its expiry does
    assert directory.available() == {"b", "c"}
    directory.withdraw("w2")
    assert (directory.available(), directory.workers()) == (set(), 0)
    assert directory.cards() == {name: make_card(name) for name in "abc"}


def test_links_that_went_stale_are_replaced_however_many(connection: RedisConnection) -> None:
    server = connection.redis
    for _ in range(150):  # more than the library's pool makes
        assert connection.command("PING") == "PONG"
        server.client_kill_filter(_type="normal", skipme=True)
        time.sleep(0.002)
        with suppress(JobStoreUnavailable):  # found out by using it
            connection.command("PING")
    connection.ping()
    assert len(server.client_list()) < 20


def test_a_frozen_redis_is_told_within_its_time_and_leaves_no_stray_reply(stack: Stack) -> None:
    connection = RedisConnection(stack.environment["MASKLINE_REDIS_URL"], PREFIX)
    assert connection.command("ECHO", "before") == "before"
    pid = stack.process("redis").pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(JobStoreUnavailable):
            connection.command("ECHO", "lost")
    finally:
        os.kill(pid, signal.SIGCONT)
    assert connection.command("ECHO", "after") == "after"
    connection.close()
