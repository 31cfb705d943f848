import pytest

from maskline.adapters.memory import MemoryJobStore
from tests.contracts.job_store import JobStoreContract, Store


class TestMemoryJobStore(JobStoreContract):
    @pytest.fixture
    def store(self) -> Store:
        return MemoryJobStore()
