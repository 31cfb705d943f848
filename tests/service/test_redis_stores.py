"""The Redis adapters, held to the same promises as the in-memory doubles."""

from collections.abc import Iterator

import pytest

from maskline.adapters.redis_connection import RedisConnection
from maskline.adapters.redis_jobs import RedisJobStore
from maskline.adapters.redis_models import RedisModelDirectory
from maskline.errors import JobStoreUnavailable
from maskline.local import Stack
from maskline.local.ports import free_port
from tests.contracts.job_store import JobStoreContract, Store
from tests.factories import make_card

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
        yield store
        store.close()

    def test_an_absent_redis_is_told_as_such(self) -> None:
        absent = RedisConnection(f"redis://127.0.0.1:{free_port()}/0", PREFIX)
        with pytest.raises(JobStoreUnavailable):
            RedisJobStore(absent, idempotency_expiry_s=60).get("default", "x")

    def test_nothing_is_left_of_a_deleted_job(self, store: Store, connection: RedisConnection) -> None:
        before = set(connection.redis.scan_iter(f"{PREFIX}*"))
        super().test_a_deleted_job_is_gone_for_its_attempt(store)
        assert set(connection.redis.scan_iter(f"{PREFIX}*")) == before


def test_a_silent_worker_offers_nothing_but_its_cards_stay(connection: RedisConnection) -> None:
    directory = RedisModelDirectory(connection)
    directory.publish("w1", [make_card("a"), make_card("b")], 60)
    directory.publish("w2", [make_card("b"), make_card("c")], 60)
    assert directory.available() == {"a", "b", "c"}
    assert directory.workers() == 2
    connection.redis.delete(f"{PREFIX}worker:w1")  # as its expiry does
    assert directory.available() == {"b", "c"}
    directory.withdraw("w2")
    assert (directory.available(), directory.workers()) == (set(), 0)
    assert directory.cards() == {name: make_card(name) for name in "abc"}
