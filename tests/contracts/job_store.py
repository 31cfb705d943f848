"""The promises of ``JobStore``, ``LeaseStore`` and ``HousekeepingStore``."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Protocol

import pytest

from maskline.errors import (
    IdempotencyKeyReused,
    JobNotFound,
    JobStoreUnavailable,
    QueueFull,
    RebuildOvertaken,
    TenantQueueFull,
)
from maskline.jobs import Failure, ImageRef, Job, JobState, Kind, Outcome
from maskline.ports import (
    Hint,
    HousekeepingStore,
    Idempotency,
    JobStore,
    LeaseStore,
    Reaped,
    RebuildingStore,
)
from maskline.requests import Priority, Prompt, Webhook
from tests.factories import SECRET, TIMINGS, make_job

LEASE_S = 30.0
LAPSED_S = 0.001
MANY = 1000
NONE = Reaped(returned=(), failed=())
SUCCESS = Outcome(timings=TIMINGS)
FAILURE = Outcome(failure=Failure(code="prediction_failed", message="no"))


class Store(JobStore, LeaseStore, HousekeepingStore, RebuildingStore, Protocol):
    """All sides of the records."""


def submit(store: Store, job: Job, *, idempotency: Idempotency | None = None) -> Job:
    return store.create(job, idempotency, MANY)


def submit_in_order(store: Store, *jobs: Job) -> list[Job]:
    submitted = []
    for job in jobs:
        submitted.append(submit(store, job))
        time.sleep(0.002)  # jobs of one millisecond are in no order
    return submitted


def place(store: Store, job: Job) -> int | None:
    return store.get(job.tenant, job.id).place


def run(store: Store, job: Job, outcome: Outcome = SUCCESS) -> Job:
    claimed = store.claim(job.kind, "w", LEASE_S)
    assert claimed is not None
    assert store.finish(job.id, claimed.attempt, outcome)
    return store.get(job.tenant, job.id)


class JobStoreContract:
    """Inherit, and give the fixtures ``store``, in its first epoch, and ``lose_memory``, which empties it."""

    # -- creation

    def test_a_created_job_is_queued_and_comes_back_whole(self, store: Store) -> None:
        job = make_job(webhook=Webhook(url="https://example.com", secret=SECRET))
        created = submit(store, job)
        assert created == store.get(job.tenant, job.id)
        assert (created.state, created.version, created.attempt) == (JobState.QUEUED, 1, 0)
        assert (created.request, created.image) == (job.request, job.image)
        assert created.expires_ms - created.created_ms == 3_600_000
        assert abs(created.created_ms - time.time() * 1000) < 60_000

    def test_other_tenants_see_nothing(self, store: Store) -> None:
        job = submit(store, make_job(tenant="a"))
        for call in (store.get, store.cancel, store.delete):
            with pytest.raises(JobNotFound):
                call("b", job.id)
        assert store.get("a", job.id).state is JobState.QUEUED
        assert store.page("b", state=None, model=None, size=10, token=None).jobs == ()

    def test_an_idempotency_key_gives_the_same_job(self, store: Store) -> None:
        promise = Idempotency(key="k", fingerprint="f")
        assert store.recall("default", promise) is None
        first = submit(store, make_job(), idempotency=promise)
        assert store.recall("default", promise) == first
        assert submit(store, make_job(), idempotency=promise) == first
        assert store.queue_depth() == 1
        assert submit(store, make_job(tenant="other"), idempotency=promise).id != first.id

    def test_an_idempotency_key_can_be_given_to_a_job_that_is_there(self, store: Store) -> None:
        first, second = submit(store, make_job()), submit(store, make_job())
        promise = Idempotency(key="k", fingerprint="f")
        store.bind(promise, first)
        store.bind(promise, second)
        known = store.recall("default", promise)
        assert known is not None
        assert known.id == first.id
        with pytest.raises(IdempotencyKeyReused):
            store.recall("default", Idempotency(key="k", fingerprint="g"))
        store.bind(promise, second, anew=True)
        known = store.recall("default", promise)
        assert known is not None
        assert known.id == second.id

    def test_a_job_that_is_there_is_not_made_again(self, store: Store) -> None:
        job = make_job()
        submit(store, job, idempotency=Idempotency(key="k", fingerprint="f"))
        done = run(store, job)
        for promise in (
            None,
            Idempotency(key="k", fingerprint="f"),
            Idempotency(key="later", fingerprint="f"),
        ):
            assert store.create(job, promise, 0) == done
        assert store.queue_depth() == 0

    # -- results

    def test_a_result_is_remembered_when_its_job_has_succeeded(self, store: Store) -> None:
        job = submit(store, replace(make_job(), result_fingerprint="f"))
        assert store.get("default", job.id).result_fingerprint == "f"
        assert store.recall_result("default", "f") is None
        done = run(store, job)
        assert store.recall_result("default", "f") == done
        assert store.recall_result("default", "g") is None
        assert store.recall_result("other", "f") is None
        failed = run(store, submit(store, replace(make_job(), result_fingerprint="f")), FAILURE)
        assert failed.state is JobState.FAILED
        assert store.recall_result("default", "f") == done
        later = run(store, submit(store, replace(make_job(), result_fingerprint="f")))
        assert store.recall_result("default", "f") == later

    def test_a_result_goes_with_its_job(self, store: Store) -> None:
        earlier = run(store, submit(store, replace(make_job(), result_fingerprint="f")))
        later = run(store, submit(store, replace(make_job(), result_fingerprint="f")))
        store.delete("default", earlier.id)
        assert store.recall_result("default", "f") == later
        store.delete("default", later.id)
        assert store.recall_result("default", "f") is None
        brief = run(store, submit(store, replace(make_job(lives_s=0.2), result_fingerprint="f")))
        assert store.recall_result("default", "f") == brief
        time.sleep(0.3)
        assert store.recall_result("default", "f") is None

    def test_an_idempotency_key_for_another_request_is_refused(self, store: Store) -> None:
        submit(store, make_job(), idempotency=Idempotency(key="k", fingerprint="f"))
        other = Idempotency(key="k", fingerprint="g")
        with pytest.raises(IdempotencyKeyReused):
            store.recall("default", other)
        with pytest.raises(IdempotencyKeyReused):
            submit(store, make_job(), idempotency=other)

    def test_a_full_queue_refuses(self, store: Store) -> None:
        store.create(make_job(), None, 1)
        refused = make_job()
        with pytest.raises(QueueFull):
            store.create(refused, None, 1)
        assert store.find(refused.id) is None

    def test_a_tenant_that_waits_for_too_much_is_refused_alone(self, store: Store) -> None:
        first = store.create(make_job(tenant="a"), None, MANY, 1)
        refused = make_job(tenant="a")
        with pytest.raises(TenantQueueFull):
            store.create(refused, None, MANY, 1)
        assert store.find(refused.id) is None
        store.create(make_job(tenant="b"), None, MANY, 1)
        run(store, first)
        assert store.create(refused, None, MANY, 1).state is JobState.QUEUED

    # -- attempts

    def test_a_claim_hands_out_the_next_attempt_once(self, store: Store) -> None:
        job = submit(store, make_job())
        claimed = store.claim(job.kind, "w1", LEASE_S)
        assert claimed is not None
        assert (claimed.state, claimed.attempt, claimed.worker) == (JobState.RUNNING, 1, "w1")
        assert claimed.started_ms is not None
        assert store.claim(job.kind, "w2", LEASE_S) is None
        assert store.claim(Kind("another", Priority.INTERACTIVE), "w2", LEASE_S) is None

    def test_only_one_of_many_claims_wins(self, store: Store) -> None:
        job = submit(store, make_job())
        with ThreadPoolExecutor(8) as threads:
            claims = list(threads.map(lambda i: store.claim(job.kind, f"w{i}", LEASE_S), range(32)))
        assert sum(claim is not None for claim in claims) == 1

    @pytest.mark.parametrize(
        ("outcome", "state"), [(SUCCESS, JobState.SUCCEEDED), (FAILURE, JobState.FAILED)]
    )
    def test_an_attempt_ends_its_job_once(self, store: Store, outcome: Outcome, state: JobState) -> None:
        job = run(store, submit(store, make_job()), outcome)
        assert (job.state, job.timings, job.failure) == (state, outcome.timings, outcome.failure)
        assert job.finished_ms is not None
        assert store.finish(job.id, job.attempt, outcome)  # its first reply may have been lost
        assert not store.finish(job.id, job.attempt, FAILURE if outcome is SUCCESS else SUCCESS)
        assert not store.finish(job.id, job.attempt + 1, outcome)
        assert not store.release(job.id, job.attempt)
        assert store.claim(job.kind, "w", LEASE_S) is None
        assert store.cancel("default", job.id) == job
        assert store.get("default", job.id) == job

    def test_an_attempt_that_was_overtaken_can_not_end_the_job(self, store: Store) -> None:
        job = submit(store, make_job())
        slow = store.claim(job.kind, "slow", LAPSED_S)
        assert slow is not None
        time.sleep(0.01)
        assert store.reap(5, MANY).returned == (Hint(job.id, "grabcut", Priority.INTERACTIVE),)
        fast = store.claim(job.kind, "fast", LEASE_S)
        assert fast is not None
        assert fast.attempt == slow.attempt + 1
        assert store.renew([(job.id, slow.attempt)], LEASE_S) == {job.id}
        assert not store.finish(job.id, slow.attempt, SUCCESS)
        assert not store.release(job.id, slow.attempt)
        assert store.finish(job.id, fast.attempt, FAILURE)
        assert store.get("default", job.id).state is JobState.FAILED

    def test_a_renewed_lease_does_not_lapse(self, store: Store) -> None:
        job = submit(store, make_job())
        claimed = store.claim(job.kind, "w", LAPSED_S)
        assert claimed is not None
        assert store.renew([(job.id, claimed.attempt)], LEASE_S) == set()
        assert store.renew([], LEASE_S) == set()
        time.sleep(0.01)
        assert store.reap(5, MANY) == NONE
        assert store.get("default", job.id).state is JobState.RUNNING

    def test_a_released_job_waits_again_and_that_is_no_loss(self, store: Store) -> None:
        job = submit(store, make_job())
        for attempt in range(1, 5):
            claimed = store.claim(job.kind, "w", LEASE_S)
            assert claimed is not None
            assert claimed.attempt == attempt
            assert store.release(job.id, attempt)
            assert place(store, job) == 1
        assert store.reap(1, MANY) == NONE

    def test_a_job_that_loses_its_workers_is_failed(self, store: Store) -> None:
        job = submit(store, make_job())
        for _ in range(2):
            assert store.claim(job.kind, "w", LAPSED_S) is not None
            time.sleep(0.01)
            assert store.reap(3, MANY).returned == (Hint(job.id, "grabcut", Priority.INTERACTIVE),)
        assert store.claim(job.kind, "w", LAPSED_S) is not None
        time.sleep(0.01)
        assert store.reap(3, MANY) == Reaped(returned=(), failed=(job.id,))
        failed = store.get("default", job.id)
        assert failed.state is JobState.FAILED
        assert failed.failure is not None
        assert failed.failure.code == "worker_lost"

    def test_a_cancelled_job_is_lost_to_its_attempt(self, store: Store) -> None:
        job = submit(store, make_job())
        claimed = store.claim(job.kind, "w", LEASE_S)
        assert claimed is not None
        assert store.cancel("default", job.id).state is JobState.CANCELLED
        assert store.renew([(job.id, claimed.attempt)], LEASE_S) == {job.id}
        assert not store.finish(job.id, claimed.attempt, SUCCESS)
        assert store.get("default", job.id).state is JobState.CANCELLED

    def test_a_deleted_job_is_gone_for_its_attempt(self, store: Store) -> None:
        job = submit(store, make_job())
        claimed = store.claim(job.kind, "w", LEASE_S)
        assert claimed is not None
        store.delete("default", job.id)
        assert store.renew([(job.id, claimed.attempt)], LEASE_S) == {job.id}
        assert not store.finish(job.id, claimed.attempt, SUCCESS)
        assert store.find(job.id) is None
        assert store.reap(3, MANY) == NONE
        assert store.expire(60, MANY) == [job.id]  # its artifacts are still to be removed
        store.forget(job.id)
        assert store.expire(60, MANY) == []

    # -- the queue

    def test_tenants_take_turns_and_each_ones_jobs_come_in_order(self, store: Store) -> None:
        mine = submit_in_order(store, *(make_job(tenant="a") for _ in range(4)))
        yours = submit_in_order(store, *(make_job(tenant="b") for _ in range(2)))
        alien = submit(store, make_job(tenant="a", model="other"))
        order = [mine[0], yours[0], mine[1], yours[1], mine[2], mine[3]]
        assert [place(store, job) for job in order] == [1, 2, 3, 4, 5, 6]
        assert place(store, alien) == 1
        claimed = [store.claim(yours[1].kind, "w", LEASE_S) for _ in range(2)]
        newcomer = submit(store, make_job(tenant="c"))
        assert place(store, newcomer) == 3
        claimed += [store.claim(newcomer.kind, "w", LEASE_S) for _ in range(6)]
        ids = [job.id if job else None for job in claimed]
        assert ids == [job.id for job in (*order[:4], newcomer, *order[4:])] + [None]
        assert place(store, alien) == 1

    def test_a_tenant_gains_nothing_by_leaving_the_queue(self, store: Store) -> None:
        submit_in_order(store, *(make_job(tenant="b") for _ in range(3)))
        for _ in range(3):
            hint = submit(store, make_job(tenant="a"))
            turns = [store.claim(hint.kind, "w", LEASE_S) for _ in range(2)]
            assert {job.tenant for job in turns if job} == {"a", "b"}

    def test_a_job_that_comes_back_keeps_its_place(self, store: Store) -> None:
        first, second = submit_in_order(store, make_job(), make_job())
        claimed = store.claim(second.kind, "w", LEASE_S)
        assert claimed is not None
        assert claimed.id == first.id
        assert store.release(first.id, claimed.attempt)
        assert [place(store, job) for job in (first, second)] == [1, 2]

    def test_a_cancelled_or_deleted_job_is_not_claimed(self, store: Store) -> None:
        cancelled, deleted, waiting = submit_in_order(store, make_job(), make_job(), make_job())
        store.cancel("default", cancelled.id)
        store.delete("default", deleted.id)
        claimed = store.claim(deleted.kind, "w", LEASE_S)
        assert claimed is not None
        assert claimed.id == waiting.id
        assert store.claim(cancelled.kind, "w", LEASE_S) is None

    def test_interactive_jobs_come_before_bulk_ones(self, store: Store) -> None:
        bulk = submit(store, make_job(priority=Priority.BULK))
        time.sleep(0.002)
        first = submit(store, make_job())
        time.sleep(0.002)
        second = submit(store, make_job())
        assert [place(store, job) for job in (first, second, bulk)] == [1, 2, 3]
        store.claim(first.kind, "w", LEASE_S)
        assert [place(store, job) for job in (first, second, bulk)] == [None, 1, 2]
        assert store.queue_depth() == 2

    def test_a_job_without_a_message_is_published_again_but_not_at_once(self, store: Store) -> None:
        job = submit(store, make_job(priority=Priority.BULK))
        assert store.unpublished(60, MANY) == []
        time.sleep(0.01)
        assert store.unpublished(0.005, MANY) == [Hint(job.id, "grabcut", Priority.BULK)]
        assert store.unpublished(60, MANY) == []
        store.claim(job.kind, "w", LEASE_S)
        time.sleep(0.01)
        assert store.unpublished(0.005, MANY) == []

    # -- listing

    def test_pages_hold_every_job_once_newest_first(self, store: Store) -> None:
        jobs = [submit(store, make_job(model=f"m{i % 2}")) for i in range(7)]
        newest_first = sorted((job.id for job in jobs), reverse=True)
        found: list[str] = []
        token = None
        for expected in (3, 3, 1):
            page = store.page("default", state=None, model=None, size=3, token=token)
            assert len(page.jobs) == expected
            found += [job.id for job in page.jobs]
            token = page.next_token
        assert token is None
        assert found == newest_first

    def test_pages_are_filtered(self, store: Store) -> None:
        jobs = submit_in_order(store, *(make_job(model=f"m{i % 2}") for i in range(6)))
        run(store, jobs[0])
        run(store, jobs[1])
        finished = store.page("default", state=JobState.SUCCEEDED, model=None, size=10, token=None)
        assert {job.id for job in finished.jobs} == {jobs[0].id, jobs[1].id}
        both = store.page("default", state=JobState.SUCCEEDED, model="m1", size=10, token=None)
        assert [job.id for job in both.jobs] == [jobs[1].id]
        first = store.page("default", state=JobState.QUEUED, model="m0", size=1, token=None)
        second = store.page("default", state=JobState.QUEUED, model="m0", size=1, token=first.next_token)
        assert {job.id for job in (*first.jobs, *second.jobs)} == {jobs[2].id, jobs[4].id}
        assert second.next_token is None

    # -- the end of time

    def test_a_job_that_did_not_end_in_time_expires_and_is_kept_a_while(self, store: Store) -> None:
        waiting, running = (submit(store, make_job(lives_s=0.05)) for _ in range(2))
        claimed = store.claim(running.kind, "w", LEASE_S)
        assert claimed is not None
        time.sleep(0.06)
        assert store.claim(waiting.kind, "w", LEASE_S) is None
        assert store.expire(0.05, MANY) == []
        assert {store.get("default", job.id).state for job in (waiting, running)} == {JobState.EXPIRED}
        assert not store.finish(running.id, claimed.attempt, SUCCESS)
        assert store.expire(0.05, MANY) == []
        time.sleep(0.06)
        assert set(store.expire(0.05, MANY)) == {waiting.id, running.id}

    def test_an_ended_job_is_due_until_it_is_forgotten(self, store: Store) -> None:
        job = run(store, submit(store, make_job(lives_s=0.05)))
        assert store.expire(60, MANY) == []
        time.sleep(0.06)
        assert store.expire(60, MANY) == [job.id]
        assert store.expire(60, MANY) == [job.id]
        store.forget(job.id)
        assert store.expire(60, MANY) == []
        assert store.find(job.id) is None

    def test_a_job_expires_as_was_said_last(self, store: Store) -> None:
        ended = run(store, submit(store, replace(make_job(lives_s=3600), result_fingerprint="f")))
        waiting, gone = submit(store, make_job(lives_s=3600)), submit(store, make_job(lives_s=3600))
        store.delete("default", gone.id)
        store.forget(gone.id)
        store.let_expire([waiting.id, gone.id, ended.id], 0.05)
        store.let_expire([], 0.05)
        assert store.recall_result("default", "f") is not None
        time.sleep(0.06)
        assert store.recall_result("default", "f") is None
        assert store.expire(60, MANY) == [ended.id]
        assert store.get("default", waiting.id).state is JobState.EXPIRED
        assert store.find(gone.id) is None
        store.let_expire([ended.id], 60)
        assert store.expire(60, MANY) == []

    # -- ends that the bucket is to be told of

    def test_an_end_that_no_attempt_s_files_tell_of_is_unnoted(self, store: Store) -> None:
        cancelled, lost, late, ended, gone = submit_in_order(store, *(make_job() for _ in range(5)))
        store.cancel("default", cancelled.id)
        claimed = store.claim(lost.kind, "w", LAPSED_S)
        assert claimed is not None
        time.sleep(0.002)
        assert store.reap(1, MANY).failed == (lost.id,)
        time.sleep(0.002)  # ends of one millisecond are in no order
        claimed = store.claim(late.kind, "w", LEASE_S)
        assert claimed is not None
        assert store.finish(late.id, claimed.attempt, FAILURE, is_noted=False)
        run(store, ended, FAILURE)
        store.cancel("default", gone.id)
        store.delete("default", gone.id)
        assert store.unnoted(60, MANY) == []
        assert store.unnoted(0, MANY) == [cancelled.id, lost.id, late.id]
        assert store.unnoted(0, 1) == [cancelled.id]
        store.noted(cancelled.id)
        assert store.cancel("default", cancelled.id).state is JobState.CANCELLED
        assert store.unnoted(0, MANY) == [lost.id, late.id]

    # -- a memory that was lost

    def test_a_store_without_memory_takes_and_denies_nothing(
        self, store: Store, lose_memory: Callable[[], None]
    ) -> None:
        job = submit(store, make_job())
        claimed = store.claim(job.kind, "w", LEASE_S)
        assert claimed is not None
        assert store.epoch() == 1
        lose_memory()
        assert store.epoch() is None
        for call in (
            lambda: store.get("default", job.id),
            lambda: store.cancel("default", job.id),
            lambda: store.delete("default", job.id),
            lambda: store.create(make_job(), None, MANY),
            lambda: store.page("default", state=None, model=None, size=5, token=None),
            lambda: store.finish(job.id, claimed.attempt, SUCCESS),
        ):
            with pytest.raises(JobStoreUnavailable):
                call()
        assert store.renew([(job.id, claimed.attempt)], LEASE_S) == {job.id}
        assert store.claim(job.kind, "w", LEASE_S) is None
        store.begin_epoch(store.begin_rebuild(), 2)
        assert store.epoch() == 2
        with pytest.raises(JobNotFound):
            store.get("default", job.id)
        assert not store.finish(job.id, claimed.attempt, SUCCESS)

    def test_a_restored_job_waits_and_fences_its_earlier_attempts_off(
        self, store: Store, lose_memory: Callable[[], None]
    ) -> None:
        promise = Idempotency(key="k", fingerprint="f")
        job = submit(store, make_job(), idempotency=promise)
        held = store.claim(job.kind, "w", LEASE_S)
        assert held is not None
        lose_memory()
        rebuild = store.begin_rebuild()
        assert store.restore(rebuild, replace(job, attempt=1000, version=1000, place=None), promise, 0)
        assert not store.restore(rebuild, replace(job, attempt=2000), promise, 0)
        store.begin_epoch(rebuild, 2)
        assert store.get("default", job.id) == replace(job, attempt=1000, version=1000, place=1)
        assert store.recall("default", promise) == store.get("default", job.id)
        assert store.unpublished(60, MANY) == [Hint(job.id, "grabcut", Priority.INTERACTIVE)]
        assert store.page("default", state=JobState.QUEUED, model=None, size=5, token=None).jobs
        again = store.claim(job.kind, "w", LEASE_S)
        assert again is not None
        assert again.attempt == 1001
        assert not store.finish(job.id, held.attempt, SUCCESS)
        assert store.finish(job.id, again.attempt, SUCCESS)

    @pytest.mark.parametrize("latest_first", [False, True])
    def test_of_jobs_with_one_key_all_are_restored_and_the_key_is_the_latest_s(
        self, store: Store, lose_memory: Callable[[], None], latest_first: bool
    ) -> None:
        promise = Idempotency(key="k", fingerprint="f")
        now_ms = time.time_ns() // 1_000_000
        jobs = [
            replace(make_job(), id=f"{n:032x}", created_ms=now_ms, expires_ms=now_ms + 3_600_000)
            for n in range(2)
        ]
        lose_memory()
        rebuild = store.begin_rebuild()
        for job in jobs[::-1] if latest_first else jobs:
            assert store.restore(rebuild, job, promise, 0)
        store.begin_epoch(rebuild, 2)
        assert all(store.find(job.id) for job in jobs)
        assert store.recall("default", promise) == store.get("default", jobs[-1].id)

    def test_what_was_deleted_or_comes_too_late_is_not_restored(
        self, store: Store, lose_memory: Callable[[], None]
    ) -> None:
        now_ms = time.time_ns() // 1_000_000
        deleted, late = (
            replace(make_job(), created_ms=now_ms, expires_ms=now_ms + 3_600_000) for _ in range(2)
        )
        lose_memory()
        rebuild = store.begin_rebuild()
        assert store.restore(rebuild, deleted, None, 0)
        store.delete("default", deleted.id)
        assert not store.restore(rebuild, deleted, None, 0)
        store.begin_epoch(rebuild, 2)
        with pytest.raises(RebuildOvertaken):
            store.restore(rebuild, late, None, 0)
        for job in (deleted, late):
            assert store.find(job.id) is None

    @pytest.mark.parametrize("is_wiped", [True, False], ids=["wiped again", "overtaken by another"])
    def test_an_overtaken_rebuild_puts_nothing_in_and_begins_no_epoch(
        self, store: Store, lose_memory: Callable[[], None], is_wiped: bool
    ) -> None:
        job = submit(store, make_job())
        lose_memory()
        rebuild = store.begin_rebuild()
        if is_wiped:
            lose_memory()
        later = store.begin_rebuild()
        with pytest.raises(RebuildOvertaken):
            store.restore(rebuild, job, None, 0)
        with pytest.raises(RebuildOvertaken):
            store.begin_epoch(rebuild, 2)
        assert store.epoch() is None
        assert store.find(job.id) is None
        assert store.restore(later, job, None, 0)
        store.begin_epoch(later, 2)
        for overtaken in (rebuild, later):
            with pytest.raises(RebuildOvertaken):
                store.begin_epoch(overtaken, 3)
        assert store.epoch() == 2

    def test_a_restored_end_stands(self, store: Store, lose_memory: Callable[[], None]) -> None:
        job = run(store, submit(store, replace(make_job(), result_fingerprint="f")))
        failed = run(store, submit(store, make_job()), FAILURE)
        lose_memory()
        rebuild = store.begin_rebuild()
        for one in (job, failed):
            known = replace(one, timings=None, worker=None, started_ms=None)
            assert store.restore(rebuild, known, None, 0)
            assert store.find(one.id) == replace(known, queued_ms=known.created_ms)
        store.begin_epoch(rebuild, 2)
        assert store.recall_result("default", "f") == store.find(job.id)
        assert store.finish(job.id, job.attempt, SUCCESS)
        assert not store.finish(job.id, job.attempt, FAILURE)
        assert store.claim(job.kind, "w", LEASE_S) is None
        assert store.queue_depth() == 0

    # -- waiting and leading

    def test_a_waiter_wakes_when_the_job_moves(self, store: Store) -> None:
        job = submit(store, make_job())
        seen: list[Job] = []
        waiter = threading.Thread(target=lambda: seen.append(store.wait("default", job.id, job.version, 30)))
        waiter.start()
        time.sleep(0.05)
        claimed = store.claim(job.kind, "w", LEASE_S)
        waiter.join(10)
        assert seen == [claimed]

    def test_a_wait_ends_without_news(self, store: Store) -> None:
        job = submit(store, make_job())
        assert store.wait("default", job.id, job.version, 0.05) == job
        assert store.wait("default", job.id, 0, 30) == job

    def test_one_leads_until_its_time_is_over(self, store: Store) -> None:
        assert store.lead("sweep", "a", 0.05)
        assert store.lead("sweep", "a", 0.05)
        assert not store.lead("sweep", "b", 60)
        assert store.lead("other", "b", 60)
        time.sleep(0.06)
        assert store.lead("sweep", "b", 60)

    # -- orphans

    def test_states_are_told_of_the_jobs_that_there_are(self, store: Store) -> None:
        queued, ended = submit(store, make_job(model="a")), submit(store, make_job(tenant="other", model="b"))
        run(store, ended)
        told = store.states([queued.id, ended.id, "0" * 32])
        assert told == {queued.id: (JobState.QUEUED, 0), ended.id: (JobState.SUCCEEDED, 1)}
        assert store.states([]) == {}

    # -- what a record holds

    def test_an_ended_job_comes_back_whole_but_for_its_worker(self, store: Store) -> None:
        asked = make_job(
            prompts=[Prompt(label="a", box=(1.5, 2, 30, 40)), Prompt(label="b", points=((1, 2),))],
            image=ImageRef(key="jobs/another/submission.png", sha256="0" * 64, width=7, height=8),
        )
        own = make_job(image=ImageRef(url="https://example.com/jobs/x.png"))
        for job in (asked, own, make_job()):
            submit(store, job)
            claimed = store.claim(job.kind, "w", LEASE_S)
            assert claimed is not None
            assert (claimed.id, claimed.worker) == (job.id, "w")
            assert store.finish(job.id, claimed.attempt, SUCCESS)
            ended = store.get(job.tenant, job.id)
            assert (ended.request, ended.image, ended.timings) == (job.request, job.image, TIMINGS)
            assert ended.worker is None
