"""The rules of a job's life, held against any order of calls: a state machine for hypothesis.

It keeps what it expects in plain dictionaries, and asks the store the same after every step.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from maskline.jobs import JobState, Kind, Outcome
from maskline.ports import Hint
from maskline.requests import Priority
from tests.contracts.job_store import FAILURE, MANY, SUCCESS, Store
from tests.factories import make_job

MAX_ATTEMPTS = 3
TENANTS = st.sampled_from(["a", "b", "c"])
PRIORITIES = st.sampled_from(Priority)
LONG_S, LAPSED_S = 60.0, 0.001


@dataclass
class Expected:
    """What the machine knows of a job."""

    tenant: str
    priority: Priority
    created: int
    """Its place in the order of creation."""
    state: JobState = JobState.QUEUED
    attempt: int = 0
    losses: int = 0
    version: int = 1
    has_lapsed: bool = False
    attempts: list[int] = field(default_factory=list)
    """All that were handed out."""


class JobLife(RuleBasedStateMachine):
    """Any clients, workers and sweepers over one store."""

    jobs = Bundle("jobs")

    def __init__(self, store: Store) -> None:
        super().__init__()
        self.store = store
        self.expected: dict[str, Expected] = {}
        self.deleted: set[str] = set()
        self.turns: dict[Priority, dict[str, int]] = {priority: {} for priority in Priority}
        self.turn = 0

    # -- what clients do

    @rule(target=jobs, tenant=TENANTS, priority=PRIORITIES)
    def create(self, tenant: str, priority: Priority) -> str:
        time.sleep(0.0015)  # jobs of one millisecond are in no order
        job = self.store.create(make_job(tenant=tenant, priority=priority), None, MANY)
        self.expected[job.id] = Expected(tenant, priority, len(self.expected))
        self.turns[priority].setdefault(tenant, self.turn)
        return job.id

    @rule(job_id=jobs)
    def cancel(self, job_id: str) -> None:
        if job_id in self.deleted:
            return
        known = self.expected[job_id]
        if not known.state.is_final:
            self._move(known, JobState.CANCELLED)
        assert self.store.cancel(known.tenant, job_id).state is known.state

    @rule(job_id=jobs)
    def delete(self, job_id: str) -> None:
        if job_id not in self.deleted:
            known = self.expected[job_id]
            self.store.delete(known.tenant, job_id)
            self.deleted.add(job_id)
            self._leave(known)

    # -- what workers do

    @rule(priority=PRIORITIES, lapses=st.booleans())
    def claim(self, priority: Priority, lapses: bool) -> None:
        kind = Kind("grabcut", priority)
        claimed = self.store.claim(kind, "w", LAPSED_S if lapses else LONG_S)
        assert (claimed and claimed.id) == self._next(priority)
        if claimed is None:
            return
        known = self.expected[claimed.id]
        assert claimed.attempt not in known.attempts
        known.attempt += 1
        known.attempts.append(claimed.attempt)
        known.has_lapsed = lapses
        self.turn += 1
        self.turns[known.priority][known.tenant] = self.turn
        self._move(known, JobState.RUNNING)

    @rule(job_id=jobs, back=st.integers(0, 2), outcome=st.sampled_from([SUCCESS, FAILURE]))
    def finish(self, job_id: str, back: int, outcome: Outcome) -> None:
        """By the latest attempt or one before it."""
        known = self.expected[job_id]
        attempt = known.attempt - back
        holds = self._holds(job_id, attempt)
        had_ended_so = job_id not in self.deleted and (known.state, known.attempt) == (outcome.state, attempt)
        assert self.store.finish(job_id, attempt, outcome) == (holds or had_ended_so)
        if holds:
            self._move(known, outcome.state)

    @rule(job_id=jobs, back=st.integers(0, 2))
    def release(self, job_id: str, back: int) -> None:
        known = self.expected[job_id]
        holds = self._holds(job_id, known.attempt - back)
        assert self.store.release(job_id, known.attempt - back) == holds
        if holds:
            self._return(known)

    @rule(job_id=jobs, back=st.integers(0, 2))
    def renew(self, job_id: str, back: int) -> None:
        known = self.expected[job_id]
        holds = self._holds(job_id, known.attempt - back)
        assert self.store.renew([(job_id, known.attempt - back)], LONG_S) == (set() if holds else {job_id})
        if holds:
            known.has_lapsed = False

    # -- what the sweeper does

    @rule()
    def reap(self) -> None:
        time.sleep(0.003)
        reaped = self.store.reap(MAX_ATTEMPTS, MANY)
        returned, failed = set(), set()
        for job_id, known in self.expected.items():
            if job_id in self.deleted or known.state is not JobState.RUNNING or not known.has_lapsed:
                continue
            known.losses += 1
            if known.losses < MAX_ATTEMPTS:
                self._return(known)
                returned.add(Hint(job_id, "grabcut", known.priority))
            else:
                self._move(known, JobState.FAILED)
                failed.add(job_id)
        assert (set(reaped.returned), set(reaped.failed)) == (returned, failed)

    # -- what always holds

    @invariant()
    def every_job_is_as_expected(self) -> None:
        waiting = 0
        for job_id, known in self.expected.items():
            job = self.store.find(job_id)
            if job_id in self.deleted:
                assert job is None
                continue
            assert job is not None
            assert (job.state, job.attempt, job.version) == (known.state, known.attempt, known.version)
            assert (job.finished_ms is not None) == known.state.is_final
            assert (job.place is not None) == (known.state is JobState.QUEUED)
            waiting += known.state is JobState.QUEUED
        assert self.store.queue_depth() == waiting

    @invariant()
    def each_listing_has_its_jobs(self) -> None:
        for tenant in ("a", "b", "c"):
            page = self.store.page(tenant, state=JobState.QUEUED, model=None, size=200, token=None)
            assert {job.id for job in page.jobs} == {
                job_id
                for job_id, known in self.expected.items()
                if known.tenant == tenant and known.state is JobState.QUEUED and job_id not in self.deleted
            }

    # -- what the machine expects

    def _holds(self, job_id: str, attempt: int) -> bool:
        known = self.expected[job_id]
        is_there = job_id not in self.deleted
        return is_there and known.state is JobState.RUNNING and attempt == known.attempt > 0

    def _waiting(self, priority: Priority, tenant: str | None = None) -> list[tuple[int, str, str]]:
        return sorted(
            (known.created, job_id, known.tenant)
            for job_id, known in self.expected.items()
            if known.state is JobState.QUEUED
            and known.priority is priority
            and tenant in (None, known.tenant)
            and job_id not in self.deleted
        )

    def _next(self, priority: Priority) -> str | None:
        """The oldest job of the tenant that was served longest ago."""
        turns = self.turns[priority]
        tenants = {tenant for _, _, tenant in self._waiting(priority)}
        if not tenants:
            return None
        return self._waiting(priority, min(tenants, key=lambda tenant: (turns[tenant], tenant)))[0][1]

    def _move(self, known: Expected, to: JobState) -> None:
        known.state = to
        known.version += 1
        self._leave(known)

    def _return(self, known: Expected) -> None:
        self.turns[known.priority].setdefault(known.tenant, self.turn)
        known.state = JobState.QUEUED
        known.version += 1

    def _leave(self, known: Expected) -> None:
        """A tenant that has nothing left of a kind has no turn."""
        if not self._waiting(known.priority, known.tenant):
            self.turns[known.priority].pop(known.tenant, None)


def hold_to_the_rules(make_store: Callable[[], Store], examples: int) -> None:
    """Try ``examples`` orders of calls, each on a store of its own."""
    run_state_machine_as_test(
        lambda: JobLife(make_store()),  # type: ignore[arg-type]  # any factory will do
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            derandomize=True,
        ),
    )
