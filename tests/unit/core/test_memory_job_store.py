"""The in-memory double, held to the promises of the job store."""

from collections.abc import Callable

import pytest

from maskline.adapters.memory import MemoryJobStore
from tests.contracts.job_life import hold_to_the_rules
from tests.contracts.job_store import JobStoreContract


class TestMemoryJobStore(JobStoreContract):
    @pytest.fixture
    def store(self) -> MemoryJobStore:
        return MemoryJobStore()

    @pytest.fixture
    def lose_memory(self, store: MemoryJobStore) -> Callable[[], None]:
        return store.lose_memory


def test_no_order_of_calls_breaks_the_rules() -> None:
    hold_to_the_rules(MemoryJobStore, examples=100)
