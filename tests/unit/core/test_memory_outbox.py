"""The in-memory doubles of the outbox and the endpoints keep their promises."""

import pytest

from maskline.adapters.memory import MemoryJobStore
from maskline.adapters.memory_batches import MemoryBatchStore
from maskline.adapters.memory_webhooks import MemoryEndpointStore, MemoryOutbox
from maskline.webhooks import FAILING_GAP_S
from tests.contracts.job_store import run, submit
from tests.contracts.outbox import MAX_DEAD, EndpointStoreContract, OutboxContract, Stores, make_endpoint
from tests.factories import make_job


def make_stores() -> Stores:
    endpoints = MemoryEndpointStore()
    outbox = MemoryOutbox(endpoints, keep_dead_s=3600, max_dead=MAX_DEAD)
    forgetful = MemoryOutbox(
        endpoints, keep_dead_s=0.2, max_dead=MAX_DEAD, _waiting=outbox._waiting, _dead=outbox._dead
    )
    jobs = MemoryJobStore(outbox=outbox)
    return Stores(
        jobs=jobs,
        lose_memory=jobs.lose_memory,
        batches=MemoryBatchStore(outbox=outbox),
        endpoints=endpoints,
        outbox=outbox,
        forgetful=forgetful,
    )


class TestMemoryOutbox(OutboxContract):
    @pytest.fixture
    def stores(self) -> Stores:
        return make_stores()


class TestMemoryEndpointStore(EndpointStoreContract):
    @pytest.fixture
    def stores(self) -> Stores:
        return make_stores()


def test_failures_count_anew_after_a_long_pause() -> None:
    now_ms = [0]
    endpoints = MemoryEndpointStore()
    outbox = MemoryOutbox(endpoints, clock_ms=lambda: now_ms[0])
    endpoints.save(make_endpoint(), over=0)
    jobs = MemoryJobStore(outbox=outbox)
    run(jobs, submit(jobs, make_job()))
    [delivery] = outbox.due(1, 60)
    gap_ms = int(FAILING_GAP_S * 1000)
    for passed_ms, failing_ms in ((0, 0), (gap_ms, gap_ms), (gap_ms + 1, 0), (1000, 1000)):
        now_ms[0] += passed_ms
        assert outbox.retry(delivery, 60) * 1000 == failing_ms
