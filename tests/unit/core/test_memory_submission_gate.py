from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskline.adapters.memory import MemoryJobStore, MemorySubmissionGate
from maskline.limits import TenantLimits
from tests.contracts.submission_gate import SubmissionGateContract


class TestMemorySubmissionGate(SubmissionGateContract):
    @pytest.fixture
    def jobs(self) -> MemoryJobStore:
        return MemoryJobStore()

    @pytest.fixture
    def gate(self, jobs: MemoryJobStore) -> MemorySubmissionGate:
        return MemorySubmissionGate(jobs)


calls = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 4)), max_size=40)


@given(calls=calls, burst=st.integers(1, 5))
def test_it_admits_what_a_bucket_of_tokens_would(calls: list[tuple[int, int]], burst: int) -> None:
    """The textbook's other form of the same rule; eighths of seconds are exact in floating point."""
    now = 0.0
    gate = MemorySubmissionGate(MemoryJobStore(), clock_s=lambda: now)
    tokens = Fraction(burst)
    for eighths, jobs in calls:
        now += eighths / 8
        tokens = min(Fraction(burst), tokens + Fraction(eighths, 8) / 2)
        admitted = tokens >= min(jobs, burst)
        if admitted:
            tokens -= jobs
        admission = gate.admit("a", jobs, TenantLimits(submit_rate=0.5, submit_burst=burst))
        assert (admission.retry_after_s == 0) is admitted
        assert admission.left == max(0, tokens.numerator // tokens.denominator)
        assert admission.whole_in_s == (burst - tokens) * 2
