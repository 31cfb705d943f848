"""The in-memory double of the batch store keeps its promises."""

import pytest

from maskline.adapters.memory import MemoryBatchStore
from maskline.ports import BatchStore
from tests.contracts.batch_store import BatchStoreContract


class TestMemoryBatchStore(BatchStoreContract):
    @pytest.fixture
    def batches(self) -> BatchStore:
        return MemoryBatchStore()
