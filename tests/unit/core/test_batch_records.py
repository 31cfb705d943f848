"""Batches in the store and in the bucket."""

import pytest

from maskline.adapters.memory import MemoryArtifactStore
from maskline.adapters.memory_batches import MemoryBatchStore
from maskline.batch_artifacts import RECORDS, folder, part_key, record_key, round_key
from maskline.batch_records import (
    complete_batch,
    forget_batch,
    keep_batch,
    note_batch_end,
    remove_old_batches,
    restore_batches,
    retry_batch,
)
from maskline.batches import Batch, BatchState, Progress
from maskline.errors import (
    BatchNotFinished,
    BatchNotFound,
    QueueFull,
    TenantQueueFull,
)
from tests.contracts.batch_store import ENDED, cut, make_batch, run_all

KEEP_S = 60.0


@pytest.fixture
def artifacts() -> MemoryArtifactStore:
    return MemoryArtifactStore()


@pytest.fixture
def store() -> MemoryBatchStore:
    return MemoryBatchStore()


def end(
    batch: Batch, artifacts: MemoryArtifactStore, store: MemoryBatchStore, progress: Progress = ENDED
) -> Batch:
    before = store.get(batch.tenant, batch.id)
    note_batch_end(before, progress, artifacts)
    saved = store.save(before, progress, KEEP_S)
    assert saved is not None
    return saved


def restored(artifacts: MemoryArtifactStore) -> MemoryBatchStore:
    """A store that has nothing but what is in the bucket."""
    store = MemoryBatchStore()
    restore_batches(artifacts, store, KEEP_S)
    return store


def notes(artifacts: MemoryArtifactStore, batch: Batch) -> set[str]:
    return {key.rpartition("/")[2].removesuffix(".json") for key in artifacts.keys(f"{RECORDS}{batch.id}/")}


def test_a_store_that_lost_its_memory_gets_every_batch_again(
    artifacts: MemoryArtifactStore, store: MemoryBatchStore
) -> None:
    failed = ENDED.model_copy(update={"state": BatchState.FAILED})
    running, ended, forgotten = make_batch(is_complete=True), make_batch(tenant="lab"), make_batch()
    for batch in (running, ended, forgotten):
        keep_batch(batch, 10, artifacts, store)
    for batch in (ended, forgotten):
        end(batch, artifacts, store, failed)
    forget_batch(forgotten.tenant, forgotten.id, artifacts, store)
    artifacts.put(f"{RECORDS}x/batch.json", b"not one of ours", "application/json")

    again = restored(artifacts)
    batch = again.get(running.tenant, running.id)
    assert (batch.request, batch.created_ms, batch.is_complete) == (running.request, running.created_ms, True)
    assert (batch.progress.state, batch.progress.is_restored) == (BatchState.QUEUED, True)
    assert again.get("lab", ended.id).progress == failed
    assert [one.id for one in again.active(9)] == [running.id]
    with pytest.raises(BatchNotFound):
        again.get(forgotten.tenant, forgotten.id)


def test_one_that_had_succeeded_is_cut_again_for_its_results(
    artifacts: MemoryArtifactStore, store: MemoryBatchStore
) -> None:
    batch = make_batch(is_complete=True)
    keep_batch(batch, 10, artifacts, store)
    end(batch, artifacts, store)
    assert [one.id for one in restored(artifacts).active(9)] == [batch.id]


def test_what_was_uploaded_is_known_again(artifacts: MemoryArtifactStore, store: MemoryBatchStore) -> None:
    batch = make_batch()
    keep_batch(batch, 10, artifacts, store)
    for part in (1, 2):
        artifacts.put(part_key(batch.id, part), b"{}\n", "")
        store.add_part("default", batch.id, part)
    assert (restored(artifacts).get("default", batch.id).parts, notes(artifacts, batch)) == (2, {"batch"})
    assert complete_batch("default", batch.id, artifacts, store).is_complete
    assert complete_batch("default", batch.id, artifacts, store).is_complete
    again = restored(artifacts).get("default", batch.id)
    assert (again.parts, again.is_complete, again.progress.imported) == (2, True, 1)


def test_restoring_twice_takes_nothing_back(artifacts: MemoryArtifactStore, store: MemoryBatchStore) -> None:
    batch = make_batch(is_complete=True)
    keep_batch(batch, 10, artifacts, store)
    again = restored(artifacts)
    moved = cut(again, again.get("default", batch.id), 2)
    restore_batches(artifacts, again, KEEP_S)
    assert again.get("default", batch.id) == moved


def test_a_round_is_known_again(artifacts: MemoryArtifactStore, store: MemoryBatchStore) -> None:
    batch = make_batch(parts=1, is_complete=True)
    artifacts.put(part_key(batch.id, 1), b"", "")
    keep_batch(batch, 10, artifacts, store)
    with pytest.raises(BatchNotFinished):
        retry_batch("default", batch.id, 10, artifacts, store)
    assert notes(artifacts, batch) == {"batch", "complete"}
    cut(store, batch, 2)
    run_all(store, failed=1)
    end(batch, artifacts, store, ENDED.model_copy(update={"chunks": 2, "part": 1}))
    retry_batch("default", batch.id, 10, artifacts, store)
    retry_batch("default", batch.id, 10, artifacts, store)
    assert notes(artifacts, batch) == {"batch", "complete", "end-0", "retry-1"}
    waiting = restored(artifacts).get("default", batch.id)
    assert (waiting.is_retrying, waiting.parts, waiting.progress.rounds) == (True, 1, 0)
    artifacts.put(part_key(batch.id, 2), b"", "")  # came too late, and is none of the batch's
    artifacts.put(round_key(batch.id, 1), b"", "")
    begun = restored(artifacts).get("default", batch.id)
    assert (begun.is_retrying, begun.parts, begun.progress.rounds) == (False, 2, 1)
    assert begun.progress.first_of_round == 3


def test_a_tenant_may_hold_half_of_the_room(artifacts: MemoryArtifactStore, store: MemoryBatchStore) -> None:
    for _ in range(2):
        keep_batch(make_batch(), 4, artifacts, store)
    with pytest.raises(TenantQueueFull):
        keep_batch(make_batch(), 4, artifacts, store)
    keep_batch(make_batch(tenant="other"), 4, artifacts, store)


def test_a_batch_that_is_refused_leaves_nothing(
    artifacts: MemoryArtifactStore, store: MemoryBatchStore
) -> None:
    with pytest.raises(QueueFull):
        keep_batch(make_batch(is_complete=True), 0, artifacts, store)
    assert list(artifacts.keys("")) == []


def test_what_is_left_of_old_batches_goes(artifacts: MemoryArtifactStore, store: MemoryBatchStore) -> None:
    now_s = [1_700_000_000.0]
    artifacts.clock_s = lambda: now_s[0]
    running, ended, retried, forgotten = (make_batch(is_complete=True) for _ in range(4))
    for batch in (running, ended, retried, forgotten):
        artifacts.put(part_key(batch.id, 1), b"", "")
        keep_batch(batch, 10, artifacts, store)
    end(ended, artifacts, store)
    end(forgotten, artifacts, store)
    cut(store, retried, 1)
    run_all(store, failed=1)
    end(retried, artifacts, store)

    def left() -> set[str]:
        return {key.split("/")[1] for key in artifacts.keys("batch")}

    everything = {batch.id for batch in (running, ended, retried, forgotten)}
    remove_old_batches(artifacts, KEEP_S)
    assert left() == everything
    forget_batch("default", forgotten.id, artifacts, store)
    remove_old_batches(artifacts, KEEP_S)
    assert left() == everything - {forgotten.id}
    retry_batch("default", retried.id, 10, artifacts, store)
    now_s[0] += KEEP_S + 1
    remove_old_batches(artifacts, KEEP_S)
    assert left() == {running.id, retried.id}
    assert list(artifacts.keys(folder(running.id)))
    assert record_key(running.id, "batch") in set(artifacts.keys(RECORDS))
