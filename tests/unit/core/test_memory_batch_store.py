"""The in-memory double of the batch and chunk stores keeps its promises."""

import pytest

from maskline.adapters.memory_batches import MemoryBatchStore
from maskline.ports import BatchStore, ChunkStore
from tests.contracts.batch_store import BatchStoreContract
from tests.contracts.chunk_life import Stores, hold_chunks_to_the_rules
from tests.contracts.chunk_store import ChunkStoreContract


@pytest.fixture
def store() -> MemoryBatchStore:
    return MemoryBatchStore()


@pytest.fixture
def batches(store: MemoryBatchStore) -> BatchStore:
    return store


@pytest.fixture
def chunks(store: MemoryBatchStore) -> ChunkStore:
    return store


class TestMemoryBatchStore(BatchStoreContract):
    pass


class TestMemoryChunkStore(ChunkStoreContract):
    pass


def test_no_order_of_calls_breaks_the_rules() -> None:
    def made() -> Stores:
        store = MemoryBatchStore()
        return Stores(store, store)

    hold_chunks_to_the_rules(made, examples=100)
