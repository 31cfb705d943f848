"""Batches in the store and in the bucket."""

import pytest

from maskline.adapters.memory import MemoryArtifactStore, MemoryBatchStore
from maskline.batch_records import (
    RECORDS,
    forget_batch,
    keep_batch,
    note_batch_end,
    remove_old_records,
    restore_batches,
)
from maskline.batches import BatchState
from maskline.errors import BatchNotFound, QueueFull
from tests.contracts.batch_store import ENDED, make_batch

KEEP_S = 60.0


@pytest.fixture
def artifacts() -> MemoryArtifactStore:
    return MemoryArtifactStore()


def test_a_store_that_lost_its_memory_gets_every_batch_again(artifacts: MemoryArtifactStore) -> None:
    store = MemoryBatchStore()
    running, ended, forgotten = make_batch(), make_batch(tenant="lab"), make_batch()
    for batch in (running, ended, forgotten):
        keep_batch(batch, 10, artifacts, store)
    for batch in (ended, forgotten):
        saved = store.save(batch, ENDED, KEEP_S)
        assert saved is not None
        note_batch_end(saved, artifacts)
    forget_batch(forgotten.tenant, forgotten.id, artifacts, store)
    artifacts.put(f"{RECORDS}x/batch.json", b"not one of ours", "application/json")

    store = MemoryBatchStore()
    restore_batches(artifacts, store, KEEP_S)
    again = store.get(running.tenant, running.id)
    assert (again.request, again.created_ms) == (running.request, running.created_ms)
    assert again.progress.state is BatchState.QUEUED
    assert store.get("lab", ended.id).progress == ENDED
    assert [batch.id for batch in store.active(9)] == [running.id]
    with pytest.raises(BatchNotFound):
        store.get(forgotten.tenant, forgotten.id)


def test_a_batch_that_is_refused_leaves_nothing(artifacts: MemoryArtifactStore) -> None:
    store = MemoryBatchStore()
    with pytest.raises(QueueFull):
        keep_batch(make_batch(), 0, artifacts, store)
    assert list(artifacts.keys("")) == []


def test_the_records_of_old_batches_go(artifacts: MemoryArtifactStore) -> None:
    store = MemoryBatchStore()
    running, ended = make_batch(), make_batch()
    for batch in (running, ended):
        keep_batch(batch, 10, artifacts, store)
    saved = store.save(ended, ENDED, KEEP_S)
    assert saved is not None
    note_batch_end(saved, artifacts)
    remove_old_records(artifacts, KEEP_S)
    assert len(list(artifacts.keys(RECORDS))) == 3
    remove_old_records(artifacts, -1)
    assert list(artifacts.keys(RECORDS)) == [f"{RECORDS}{running.id}/batch.json"]
