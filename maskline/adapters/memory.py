"""In-memory doubles of every port: for tests of the core, and to read as the plainest statement of its rules.

They keep the same promises as the drivers (one suite of tests holds both to them), within one process.
"""

import secrets
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from operator import itemgetter
from typing import BinaryIO

from maskline.adapters.memory_webhooks import MemoryOutbox
from maskline.clock import time_ms
from maskline.errors import (
    ArtifactNotFound,
    IdempotencyKeyReused,
    ImageTooLarge,
    JobNotFound,
    JobStoreRebuilding,
    QueueFull,
    RebuildOvertaken,
    TenantQueueFull,
    WorkerLost,
)
from maskline.jobs import MOVES, Failure, Job, JobState, Kind, Outcome
from maskline.keys import ApiKey
from maskline.limits import Admission, TenantLimits
from maskline.ports import Hint, Idempotency, Page, Reaped, StoredObject
from maskline.requests import EventType, Priority
from maskline.results import ModelCard

_EVENT_OF = {
    JobState.RUNNING: EventType.STARTED,
    JobState.SUCCEEDED: EventType.SUCCEEDED,
    JobState.FAILED: EventType.FAILED,
    JobState.CANCELLED: EventType.CANCELLED,
    JobState.EXPIRED: EventType.EXPIRED,
}


@dataclass(kw_only=True)
class _Record:
    job: Job
    lease_until_ms: int = 0
    published_ms: int = 0
    losses: int = 0


def _hint(job: Job) -> Hint:
    return Hint(job.id, *job.kind)


@dataclass
class MemoryJobStore:
    """``JobStore``, ``LeaseStore``, ``HousekeepingStore`` and ``RebuildingStore`` in a dictionary."""

    clock_ms: Callable[[], int] = time_ms
    outbox: MemoryOutbox = field(default_factory=MemoryOutbox)
    _records: dict[str, _Record] = field(default_factory=dict)
    _deleted: dict[str, None] = field(default_factory=dict)
    _unnoted: dict[str, int] = field(default_factory=dict)
    _idempotency: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)
    _results: dict[tuple[str, str], str] = field(default_factory=dict)
    _leaders: dict[str, tuple[str, int]] = field(default_factory=dict)
    _turns: dict[Kind, dict[str, int]] = field(default_factory=lambda: defaultdict(dict))
    _turn: int = 0
    _epoch: int | None = 1
    _rebuild: str | None = None
    _changed: threading.Condition = field(default_factory=lambda: threading.Condition(threading.RLock()))

    # -- JobStore

    def recall(self, tenant: str, idempotency: Idempotency) -> Job | None:
        with self._changed:
            known = self._idempotency.get((tenant, idempotency.key))
            if known is None:
                return None
            fingerprint, job_id = known
            if fingerprint != idempotency.fingerprint:
                raise IdempotencyKeyReused(f"the idempotency key {idempotency.key!r} was used for {job_id}")
            return self.get(tenant, job_id)

    def create(
        self,
        job: Job,
        idempotency: Idempotency | None,
        max_queued: int,
        max_queued_of_tenant: int | None = None,
    ) -> Job:
        with self._changed:
            if idempotency is not None and (known := self.recall(job.tenant, idempotency)):
                return known
            if job.id in self._records:
                return self.get(job.tenant, job.id)
            self._require_memory()
            if self.queue_depth() >= max_queued:
                raise QueueFull(f"{max_queued} jobs wait already; try again later")
            if max_queued_of_tenant is not None and self.queued_of(job.tenant) >= max_queued_of_tenant:
                raise TenantQueueFull(f"{max_queued_of_tenant} of your jobs wait already; try again later")
            if idempotency is not None:
                self._idempotency[job.tenant, idempotency.key] = (idempotency.fingerprint, job.id)
            now = self.clock_ms()
            created = replace(
                job,
                state=JobState.QUEUED,
                version=1,
                created_ms=now,
                queued_ms=now,
                expires_ms=now + job.expires_ms - job.created_ms,
            )
            self._turns[job.kind].setdefault(job.tenant, self._turn)
            self._records[job.id] = _Record(job=created, published_ms=now)
            return self.get(job.tenant, job.id)

    def recall_result(self, tenant: str, fingerprint: str) -> Job | None:
        with self._changed:
            job = self.find(self._results.get((tenant, fingerprint), ""))
            return job if job is not None and job.expires_ms > self.clock_ms() else None

    def bind(self, idempotency: Idempotency, job: Job, *, anew: bool = False) -> None:
        with self._changed:
            key = job.tenant, idempotency.key
            if anew or key not in self._idempotency:
                self._idempotency[key] = (idempotency.fingerprint, job.id)

    def check(self) -> None:
        self._require_memory()

    def get(self, tenant: str, job_id: str) -> Job:
        job = self.find(job_id)
        if job is None:
            self._require_memory()
        if job is None or job.tenant != tenant:
            raise JobNotFound(f"there is no job {job_id!r}")
        return job

    def find(self, job_id: str) -> Job | None:
        with self._changed:
            record = self._records.get(job_id)
            return replace(record.job, place=self._place(job_id)) if record else None

    def page(
        self, tenant: str, *, state: JobState | None, model: str | None, size: int, token: str | None
    ) -> Page:
        with self._changed:
            jobs = [
                record.job
                for job_id, record in sorted(self._records.items(), reverse=True)
                if record.job.tenant == tenant
                and (state is None or record.job.state is state)
                and (model is None or record.job.request.model == model)
                and (token is None or job_id < token)
            ]
        page = tuple(jobs[:size])
        if len(jobs) <= size:
            self._require_memory()
        return Page(jobs=page, next_token=page[-1].id if len(jobs) > size else None)

    def _place(self, job_id: str) -> int | None:
        with self._changed:
            model, priority = self._records[job_id].job.kind
            before = self._in_order(Kind(model, Priority.INTERACTIVE)) if priority is Priority.BULK else []
            waiting = [*before, *self._in_order(Kind(model, priority))]
            return next((i for i, job in enumerate(waiting, 1) if job.id == job_id), None)

    def _in_order(self, kind: Kind) -> list[Job]:
        """The jobs of one kind that wait, as they would be claimed: the tenants take turns."""
        queues: defaultdict[str, list[Job]] = defaultdict(list)
        for record in sorted(
            self._records.values(), key=lambda record: (record.job.created_ms, record.job.id)
        ):
            if record.job.state is JobState.QUEUED and record.job.kind == kind:
                queues[record.job.tenant].append(record.job)
        turns = self._turns[kind]
        tenants = sorted(queues, key=lambda tenant: (turns[tenant], tenant))
        rounds = zip_longest(*(queues[tenant] for tenant in tenants))
        return [job for one_round in rounds for job in one_round if job is not None]

    def cancel(self, tenant: str, job_id: str) -> Job:
        with self._changed:
            job = self.get(tenant, job_id)
            if job.state.is_final:
                return job
            self._unnoted[job_id] = self.clock_ms()
            return self._move(job_id, JobState.CANCELLED)

    def delete(self, tenant: str, job_id: str) -> None:
        with self._changed:
            self.get(tenant, job_id)
            self.forget(job_id)
            self._deleted[job_id] = None

    def wait(self, tenant: str, job_id: str, after_version: int, timeout_s: float) -> Job:
        with self._changed:
            self._changed.wait_for(lambda: self.get(tenant, job_id).version > after_version, timeout_s)
            return self.get(tenant, job_id)

    # -- LeaseStore

    def claim(self, kind: Kind, worker: str, lease_s: float) -> Job | None:
        with self._changed:
            now = self.clock_ms()
            job = next((job for job in self._in_order(kind) if job.expires_ms > now), None)
            if job is None:
                return None
            self._turn += 1
            self._turns[kind][job.tenant] = self._turn
            record = self._records[job.id]
            record.job = replace(job, attempt=job.attempt + 1, worker=worker, started_ms=now)
            record.lease_until_ms = now + int(lease_s * 1000)
            return self._move(job.id, JobState.RUNNING)

    def renew(self, leases: Iterable[tuple[str, int]], lease_s: float) -> set[str]:
        with self._changed:
            lost = set()
            for job_id, attempt in leases:
                if self._holds(job_id, attempt):
                    self._records[job_id].lease_until_ms = self.clock_ms() + int(lease_s * 1000)
                else:
                    lost.add(job_id)
            return lost

    def release(self, job_id: str, attempt: int) -> bool:
        with self._changed:
            if not self._holds(job_id, attempt):
                return False
            self._enqueue(job_id)
            return True

    def finish(self, job_id: str, attempt: int, outcome: Outcome, *, is_noted: bool = True) -> bool:
        with self._changed:
            if not self._holds(job_id, attempt):
                known = self.find(job_id)
                if known is None:
                    self._require_memory()
                return known is not None and (known.state, known.attempt) == (outcome.state, attempt)
            record = self._records[job_id]
            job = record.job = replace(record.job, timings=outcome.timings, failure=outcome.failure)
            if outcome.state is JobState.SUCCEEDED and job.result_fingerprint is not None:
                self._results[job.tenant, job.result_fingerprint] = job.id
            if not is_noted:
                self._unnoted[job_id] = self.clock_ms()
            self._move(job_id, outcome.state)
            return True

    # -- RebuildingStore

    def epoch(self) -> int | None:
        return self._epoch

    def begin_rebuild(self) -> str:
        self._rebuild = secrets.token_hex(8)
        return self._rebuild

    def restore(self, rebuild: str, job: Job, idempotency: Idempotency | None, tell_after_ms: int) -> bool:
        with self._changed:
            self._require_rebuild(rebuild)
            if job.id in self._records or job.id in self._deleted:
                return False
            self._turns[job.kind].setdefault(job.tenant, self._turn)
            self._records[job.id] = _Record(job=replace(job, queued_ms=job.created_ms))
            self._end_turns(job)
            if idempotency is not None:
                key, promised = (job.tenant, idempotency.key), (idempotency.fingerprint, job.id)
                self._idempotency[key] = max(
                    promised, self._idempotency.get(key, promised), key=itemgetter(1)
                )
            if job.state is JobState.SUCCEEDED and job.result_fingerprint is not None:
                self._results[job.tenant, job.result_fingerprint] = job.id
            if job.finished_ms is not None and job.finished_ms > tell_after_ms:
                self._emit(job)
            return True

    def begin_epoch(self, rebuild: str, number: int) -> None:
        with self._changed:
            self._require_rebuild(rebuild)
            self._epoch, self._rebuild = number, None

    def _require_rebuild(self, rebuild: str) -> None:
        if self._rebuild != rebuild or self._epoch is not None:
            raise RebuildOvertaken

    def lose_memory(self) -> None:
        """Be as a Redis after FLUSHALL."""
        with self._changed:
            for forgotten in (
                self._records,
                self._deleted,
                self._unnoted,
                self._idempotency,
                self._results,
                self._leaders,
                self._turns,
            ):
                forgotten.clear()
            self._turn, self._epoch, self._rebuild = 0, None, None
            self.outbox.lose_memory()

    def _require_memory(self) -> None:
        if self._epoch is None:
            raise JobStoreRebuilding("the records are being made anew")

    # -- HousekeepingStore

    def reap(self, max_attempts: int, limit: int) -> Reaped:
        with self._changed:
            returned, failed = [], []
            for job_id, record in self._among(JobState.RUNNING, limit, lambda r: r.lease_until_ms):
                record.losses += 1
                if record.losses < max_attempts:
                    self._enqueue(job_id)
                    returned.append(_hint(record.job))
                    continue
                message = f"{max_attempts} workers died or fell silent while they ran this job"
                record.job = replace(record.job, failure=Failure(code=WorkerLost.code, message=message))
                self._unnoted[job_id] = self.clock_ms()
                self._move(job_id, JobState.FAILED)
                failed.append(job_id)
            return Reaped(returned=tuple(returned), failed=tuple(failed))

    def unpublished(self, older_than_s: float, limit: int) -> list[Hint]:
        with self._changed:
            age_ms = int(older_than_s * 1000)
            stale = self._among(JobState.QUEUED, limit, lambda r: r.published_ms + age_ms)
            for _, record in stale:
                record.published_ms = self.clock_ms()
            return [_hint(record.job) for _, record in stale]

    def queue_depth(self) -> int:
        with self._changed:
            return sum(record.job.state is JobState.QUEUED for record in self._records.values())

    def unnoted(self, older_than_s: float, limit: int) -> list[str]:
        with self._changed:
            before_ms = self.clock_ms() - int(older_than_s * 1000)
            return [job_id for job_id, ended_ms in self._unnoted.items() if ended_ms <= before_ms][:limit]

    def noted(self, job_id: str) -> None:
        with self._changed:
            self._unnoted.pop(job_id, None)

    def expire(self, keep_s: float, limit: int) -> list[str]:
        with self._changed:
            over = list(self._deleted)
            for job_id, record in self._among(None, limit, lambda r: r.job.expires_ms):
                if record.job.state.is_final:
                    over.append(job_id)
                    continue
                self._move(job_id, JobState.EXPIRED)
                record.job = replace(record.job, expires_ms=self.clock_ms() + int(keep_s * 1000))
            return over[:limit]

    def let_expire(self, job_ids: Iterable[str], in_s: float) -> None:
        with self._changed:
            due_ms = self.clock_ms() + int(in_s * 1000)
            for job_id in job_ids:
                if record := self._records.get(job_id):
                    record.job = replace(record.job, expires_ms=due_ms)

    def forget(self, job_id: str) -> None:
        with self._changed:
            if record := self._records.pop(job_id, None):
                self._end_turns(record.job)
            self._deleted.pop(job_id, None)
            self._unnoted.pop(job_id, None)
            self._changed.notify_all()

    def states(self, job_ids: Iterable[str]) -> dict[str, tuple[JobState, int]]:
        with self._changed:
            jobs = [record.job for job_id in job_ids if (record := self._records.get(job_id))]
            return {job.id: (job.state, job.attempt) for job in jobs}

    def lead(self, name: str, holder: str, for_s: float) -> bool:
        with self._changed:
            leader, until_ms = self._leaders.get(name, (holder, 0))
            if leader != holder and until_ms > self.clock_ms():
                return False
            self._leaders[name] = (holder, self.clock_ms() + int(for_s * 1000))
            return True

    # -- what the three share

    def queued_of(self, tenant: str) -> int:
        """Jobs of a tenant that wait."""
        with self._changed:
            jobs = (record.job for record in self._records.values())
            return sum(job.tenant == tenant and job.state is JobState.QUEUED for job in jobs)

    def _holds(self, job_id: str, attempt: int) -> bool:
        job = self.find(job_id)
        return job is not None and job.state is JobState.RUNNING and job.attempt == attempt

    def _among(
        self, state: JobState | None, limit: int, due_ms: Callable[[_Record], int]
    ) -> list[tuple[str, _Record]]:
        now = self.clock_ms()
        due = [
            (job_id, record)
            for job_id, record in self._records.items()
            if (state is None or record.job.state is state) and due_ms(record) <= now
        ]
        return sorted(due, key=lambda pair: due_ms(pair[1]))[:limit]

    def _move(self, job_id: str, to: JobState) -> Job:
        record, now = self._records[job_id], self.clock_ms()
        assert to in MOVES[record.job.state]  # noqa: S101 (the rule that the scripts keep by their conditions)
        record.job = replace(
            record.job,
            state=to,
            version=record.job.version + 1,
            worker=record.job.worker if to is JobState.RUNNING else None,
            finished_ms=now if to.is_final else record.job.finished_ms,
        )
        self._end_turns(record.job)
        self._emit(record.job)
        self._changed.notify_all()
        return record.job

    def _end_turns(self, job: Job) -> None:
        """Let the tenant have no more turns where it has no more jobs of the kind."""
        kind = job.kind
        if not any(waiting.tenant == job.tenant for waiting in self._in_order(kind)):
            self._turns[kind].pop(job.tenant, None)

    def _emit(self, job: Job) -> None:
        event = _EVENT_OF.get(job.state)
        if event is None:
            return
        webhook = job.request.webhook
        self.outbox.emit(
            event,
            tenant=job.tenant,
            subject=job.id,
            version=job.version,
            attempt=job.attempt,
            to_own=webhook is not None and event in webhook.events,
        )

    def _enqueue(self, job_id: str) -> None:
        record, now = self._records[job_id], self.clock_ms()
        self._turns[record.job.kind].setdefault(record.job.tenant, self._turn)
        self._move(job_id, JobState.QUEUED)
        record.job = replace(record.job, queued_ms=now)
        record.published_ms = now


@dataclass
class MemoryArtifactStore:
    """``ArtifactStore`` in a dictionary; refuses to write a key twice."""

    bucket: str = "maskline"
    clock_s: Callable[[], float] = time.time
    _objects: dict[tuple[str, str], bytes] = field(default_factory=dict)
    _written_s: dict[tuple[str, str], float] = field(default_factory=dict)

    def put(self, key: str, body: bytes | BinaryIO, media_type: str, *, bucket: str | None = None) -> None:
        if (bucket or self.bucket, key) in self._objects:
            raise AssertionError(f"{key} was written twice")
        if not isinstance(body, bytes):
            body.seek(0)
            body = body.read()
        self._objects[bucket or self.bucket, key] = body
        self._written_s[bucket or self.bucket, key] = self.clock_s()

    def get(self, key: str, *, bucket: str | None = None, max_bytes: int | None = None) -> bytes:
        try:
            body = self._objects[bucket or self.bucket, key]
        except KeyError:
            raise ArtifactNotFound("the object does not exist") from None
        if max_bytes is not None and len(body) > max_bytes:
            raise ImageTooLarge(f"the object is {len(body)} bytes; at most {max_bytes} are taken")
        return body

    def part(self, key: str, start: int, length: int) -> bytes:
        return self.get(key)[start : start + length]

    def copy(self, key: str, to_key: str, *, to_bucket: str) -> None:
        self.put(to_key, self.get(key), "", bucket=to_bucket)

    def tail(self, key: str, most_bytes: int) -> bytes:
        return self.get(key)[-most_bytes:]

    def size(self, key: str, *, bucket: str | None = None) -> int:
        return len(self.get(key, bucket=bucket))

    def stream(self, key: str, *, bucket: str | None = None, start: int = 0) -> tuple[int, Iterator[bytes]]:
        body = self.get(key, bucket=bucket)[start:]
        return len(body), iter([body])

    def delete(self, keys: Iterable[str]) -> None:
        for key in list(keys):
            self._objects.pop((self.bucket, key), None)

    def keys(self, prefix: str) -> Iterator[str]:
        return (one.key for one in self.objects(prefix))

    def objects(self, prefix: str, *, bucket: str | None = None) -> Iterator[StoredObject]:
        now = self.clock_s()
        wanted = bucket or self.bucket
        return iter(
            sorted(
                StoredObject(key, now - self._written_s[bucket, key])
                for bucket, key in self._objects
                if bucket == wanted and key.startswith(prefix)
            )
        )

    def uri(self, key: str) -> str:
        return f"s3://{self.bucket}/{key}"

    def presign(self, key: str, expires_s: float) -> str | None:
        return None

    def check(self) -> None:
        return None


@dataclass
class MemoryTaskQueue:
    """``TaskQueue`` in a list."""

    jobs: list[Hint] = field(default_factory=list)
    overlays: list[str] = field(default_factory=list)
    chunks: list[str] = field(default_factory=list)
    exports: list[tuple[str, str, str]] = field(default_factory=list)

    def publish_job(self, hint: Hint) -> None:
        self.jobs.append(hint)

    def backlog(self, hint: Hint) -> int:
        return sum(hint[1:] == other[1:] for other in self.jobs)

    def publish_chunks(self, model: str, workers: int) -> None:
        self.chunks += [model] * (workers - self.chunks.count(model))

    def publish_export(self, tenant: str, batch_id: str, export: str) -> None:
        self.exports.append((tenant, batch_id, export))

    def publish_overlay(self, job_id: str) -> None:
        self.overlays.append(job_id)


@dataclass
class MemoryKeyStore:
    """``KeyStore`` in a dictionary."""

    _keys: dict[str, ApiKey] = field(default_factory=dict)

    def add(self, key: ApiKey) -> None:
        self._keys[key.id] = key

    def remove(self, key_id: str) -> bool:
        return self._keys.pop(key_id, None) is not None

    def get(self, key_id: str) -> ApiKey | None:
        return self._keys.get(key_id)

    def all(self) -> list[ApiKey]:
        return sorted(self._keys.values(), key=lambda key: key.created_s)


@dataclass
class MemorySubmissionGate:
    """``SubmissionGate`` in a dictionary, over the counts of a job store."""

    jobs: MemoryJobStore
    clock_s: Callable[[], float] = time.time
    _whole_at_s: dict[str, float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def admit(self, tenant: str, jobs: int, limits: TenantLimits) -> Admission:
        queued = self.jobs.queued_of(tenant)
        is_full = limits.max_queued is not None and queued + jobs > limits.max_queued
        if limits.submit_rate is None:
            return Admission(queued=queued, is_full=is_full)
        burst, interval_s = limits.submit_burst, 1 / limits.submit_rate
        with self._lock:
            now = self.clock_s()
            debt_s = max(0.0, self._whole_at_s.get(tenant, now) - now)
            wait_s = max(0.0, debt_s - (burst - min(jobs, burst)) * interval_s)
            if wait_s == 0 and not is_full:
                debt_s += jobs * interval_s
                self._whole_at_s[tenant] = now + debt_s
        return Admission(
            retry_after_s=wait_s,
            left=max(0, int(burst - debt_s / interval_s)),
            whole_in_s=debt_s,
            queued=queued,
            is_full=is_full,
        )


@dataclass
class MemoryModelDirectory:
    """``ModelDirectory`` in a dictionary; workers live until they withdraw."""

    _cards: dict[str, ModelCard] = field(default_factory=dict)
    _workers: dict[str, set[str]] = field(default_factory=dict)
    _export_formats: set[str] = field(default_factory=set)

    def publish(
        self, worker: str, cards: Iterable[ModelCard], for_s: float, *, export_formats: Iterable[str] = ()
    ) -> None:
        offered = {card.id: card for card in cards}
        self._cards |= offered
        self._export_formats.update(export_formats)
        self._workers[worker] = set(offered)

    def withdraw(self, worker: str) -> None:
        self._workers.pop(worker, None)

    def cards(self) -> dict[str, ModelCard]:
        return dict(sorted(self._cards.items()))

    def available(self) -> set[str]:
        return {model for models in self._workers.values() for model in models}

    def export_formats(self) -> set[str]:
        return set(self._export_formats)

    def workers(self) -> int:
        return len(self._workers)
