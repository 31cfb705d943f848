"""The promises of ``SubmissionGate``."""

import time

import pytest

from maskline.limits import Admission, TenantLimits
from maskline.ports import JobStore, SubmissionGate
from tests.factories import make_job

SLOW = TenantLimits(submit_rate=0.001, submit_burst=3)  # none comes back while a test runs
QUICK = TenantLimits(submit_rate=20, submit_burst=2)


def is_admitted(admission: Admission) -> bool:
    return admission.retry_after_s == 0 and not admission.is_full


class SubmissionGateContract:
    """Inherit, and give the fixtures ``jobs`` and, over it, ``gate``."""

    def test_a_burst_is_admitted_and_no_more(self, gate: SubmissionGate) -> None:
        admissions = [gate.admit("a", 1, SLOW) for _ in range(5)]
        assert [is_admitted(one) for one in admissions] == [True, True, True, False, False]
        assert [one.left for one in admissions] == [2, 1, 0, 0, 0]
        assert all(0 < one.retry_after_s <= 1000 for one in admissions[3:])
        assert all(2000 < one.whole_in_s <= 3000 for one in admissions[2:])

    def test_tenants_do_not_share(self, gate: SubmissionGate) -> None:
        for _ in range(3):
            gate.admit("a", 1, SLOW)
        assert is_admitted(gate.admit("b", 1, SLOW))

    def test_what_is_refused_does_not_count(self, gate: SubmissionGate) -> None:
        gate.admit("a", 2, SLOW)
        assert not is_admitted(gate.admit("a", 2, SLOW))
        assert is_admitted(gate.admit("a", 1, SLOW))

    def test_who_waits_as_told_is_admitted(self, gate: SubmissionGate) -> None:
        for _ in range(8):
            admission = gate.admit("a", 1, QUICK)
            if not is_admitted(admission):
                time.sleep(admission.retry_after_s)
                assert is_admitted(gate.admit("a", 1, QUICK))

    def test_more_than_a_burst_comes_in_and_is_paid_for_afterwards(self, gate: SubmissionGate) -> None:
        assert is_admitted(gate.admit("a", 10, SLOW))
        refused = gate.admit("a", 1, SLOW)
        assert 7000 < refused.retry_after_s <= 8000
        assert refused.left == 0

    @pytest.mark.parametrize("rate", [None, 1000.0])
    def test_those_that_wait_are_counted(
        self, jobs: JobStore, gate: SubmissionGate, rate: float | None
    ) -> None:
        limits = TenantLimits(max_queued=3, submit_rate=rate)
        mine, _ = (jobs.create(make_job(tenant="a"), None, 1000) for _ in range(2))
        jobs.create(make_job(tenant="b"), None, 1000)
        assert (gate.admit("a", 1, limits).queued, is_admitted(gate.admit("a", 1, limits))) == (2, True)
        assert gate.admit("a", 2, limits).is_full
        jobs.cancel("a", mine.id)
        assert is_admitted(gate.admit("a", 2, limits))

    def test_a_tenant_that_is_full_is_not_counted(self, jobs: JobStore, gate: SubmissionGate) -> None:
        mine = jobs.create(make_job(tenant="a"), None, 1000)
        limits = SLOW.model_copy(update={"max_queued": 1, "submit_burst": 1})
        assert gate.admit("a", 1, limits).is_full
        jobs.cancel("a", mine.id)
        assert is_admitted(gate.admit("a", 1, limits))
