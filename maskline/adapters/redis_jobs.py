"""The job records in Redis: each move of a job is one Lua script, so it happens wholly or not at all.

Keys and scripts are described in ``lua/prelude.lua``. All times are Redis' own clock.
"""

import json
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from itertools import chain
from typing import TypeVar

from maskline.adapters.ended_jobs import EndedJobs
from maskline.adapters.redis_changes import ChangeListener
from maskline.adapters.redis_connection import REBUILDING, RedisConnection, as_mapping, translated
from maskline.artifacts import SUBMISSIONS
from maskline.clock import time_ms
from maskline.errors import (
    IdempotencyKeyReused,
    JobNotFound,
    JobStoreRebuilding,
    QueueFull,
    RebuildOvertaken,
    TenantQueueFull,
    WorkerLost,
)
from maskline.jobs import Failure, ImageRef, Job, JobState, Kind, Outcome, Timings
from maskline.ports import Hint, Idempotency, Page, Reaped
from maskline.requests import Priority, SegmentationRequest
from maskline.wire import WireModel

T = TypeVar("T")
M = TypeVar("M", bound=WireModel)

MakeMessage = Callable[[Hint], tuple[str, str]]
"""The list of the broker, and the message for it, that tell the workers of a job."""

_PARSED = 128  # texts of each kind that are remembered
_SHORT = 4096  # characters; what is made of a longer text takes fifty times its memory
_SCAN = 200  # records read at once while a listing is filtered


def _remembered(parse: Callable[[str], T]) -> Callable[[str], T]:
    """``parse`` with a memory: a job that is polled is read again and again, and these parts never change."""
    remembering = lru_cache(_PARSED)(parse)
    return lambda text: remembering(text) if len(text) <= _SHORT else parse(text)


def _from_values(kind: type[M]) -> Callable[[str], M]:
    """What reads the text that ``_values_of`` made."""
    return _remembered(
        lambda text: kind.model_validate(dict(zip(kind.model_fields, json.loads(text), strict=True)))
    )


def _values_of(model: WireModel) -> str:
    """A JSON list of the values, in the order of the fields: names would be half of it."""
    return json.dumps(list(model.model_dump().values()), separators=(",", ":"))


# Records of finished jobs are many, and these parts are most of one. So they leave out what is as by default,
# the names of values, and, in the key of an image, the job's own id.
_request_of = _remembered(SegmentationRequest.model_validate_json)
_image_of = _from_values(ImageRef)
_timings_of = _from_values(Timings)
_OWN_FOLDER = '["/'


def _image_text(job: Job) -> str:
    return _values_of(job.image).replace(f'["{SUBMISSIONS}{job.id}/', _OWN_FOLDER, 1)


def _image(job_id: str, text: str) -> ImageRef:
    return _image_of(text.replace(_OWN_FOLDER, f'["{SUBMISSIONS}{job_id}/', 1))


def job_from_record(job_id: str, record: Mapping[str, str]) -> Job:
    """The job that a hash holds."""
    return Job(
        id=job_id,
        tenant=record["tenant"],
        request=_request_of(record["request"]),
        image=_image(job_id, record["image"]),
        created_ms=int(record["created_ms"]),
        expires_ms=int(record["expires_ms"]),
        result_fingerprint=record.get("result_fingerprint") or None,
        queued_ms=int(record["queued_ms"]),
        started_ms=int(record["started_ms"]) if "started_ms" in record else None,
        finished_ms=int(record["finished_ms"]) if "finished_ms" in record else None,
        state=JobState(record["state"]),
        version=int(record["version"]),
        attempt=int(record["attempt"]),
        worker=record.get("worker"),
        timings=_timings_of(record["timings"]) if "timings" in record else None,
        failure=Failure.model_validate_json(record["failure"]) if "failure" in record else None,
    )


class RedisJobStore:
    """``JobStore``, ``LeaseStore``, ``HousekeepingStore`` and ``RebuildingStore`` over one Redis."""

    def __init__(
        self,
        connection: RedisConnection,
        *,
        idempotency_expiry_s: float,
        make_message: MakeMessage | None = None,
    ) -> None:
        """``idempotency_expiry_s``: how long an idempotency key is remembered; ``make_message``: for
        publishing a new job in the very step that records it."""
        self._make_message = make_message
        self._connection = connection
        self._redis = connection.redis
        self._prefix = connection.prefix
        self._idempotency_ms = int(idempotency_expiry_s * 1000)
        self._ended = EndedJobs(keeps=lambda job: len(job.request.to_json()) <= _SHORT)
        self._changes = ChangeListener(connection, self._ended.drop, self._ended.drop_all)

    def close(self) -> None:
        """End what waits in the background; the connection stays open."""
        self._changes.close()

    # -- JobStore

    def recall(self, tenant: str, idempotency: Idempotency) -> Job | None:
        known = self._connection.command("GET", self._idempotency_key(tenant, idempotency))
        return self._known(tenant, idempotency, known) if known else None

    def create(
        self,
        job: Job,
        idempotency: Idempotency | None,
        max_queued: int,
        max_queued_of_tenant: int | None = None,
    ) -> Job:
        webhook = job.request.webhook
        hint = Hint(job.id, *job.kind)
        broker_list, message = self._make_message(hint) if self._make_message else ("", "")
        status, *details = self._connection.run(
            "create",
            job.id,
            job.tenant,
            hint.model,
            hint.priority,
            job.request.to_short_json(),
            _image_text(job),
            job.expires_ms - job.created_ms,
            idempotency.key if idempotency else "",
            idempotency.fingerprint if idempotency else "",
            self._idempotency_ms,
            ",".join(webhook.events) if webhook else "",
            max_queued,
            broker_list,
            message,
            job.result_fingerprint or "",
            max_queued_of_tenant or 0,
        )
        match status:
            case "created":
                now, place = details
                expires_ms = now + job.expires_ms - job.created_ms
                return replace(
                    job, version=1, created_ms=now, queued_ms=now, expires_ms=expires_ms, place=place
                )
            case "known":
                assert idempotency is not None  # noqa: S101 (only a request with a key can be known)
                return self._known(job.tenant, idempotency, details[0])
            case "lost":
                raise JobStoreRebuilding(REBUILDING)
            case "there":
                return self._of(job.tenant, job.id, self.find(job.id))
            case "tenant_full":
                raise TenantQueueFull(f"{max_queued_of_tenant} of your jobs wait already; try again later")
            case _:
                raise QueueFull(f"{max_queued} jobs wait already; try again later")

    def _known(self, tenant: str, idempotency: Idempotency, known: str) -> Job:
        fingerprint, job_id = known.split(" ")
        if fingerprint != idempotency.fingerprint:
            raise IdempotencyKeyReused(
                f"the idempotency key {idempotency.key!r} was used for another request (job {job_id}); "
                "use a new key for a new request"
            )
        return self.get(tenant, job_id)

    def recall_result(self, tenant: str, fingerprint: str) -> Job | None:
        job_id = self._connection.command("GET", f"{self._prefix}result:{tenant}:{fingerprint}")
        return self.find(job_id) if job_id else None

    def bind(self, idempotency: Idempotency, job: Job, *, anew: bool = False) -> None:
        key = self._idempotency_key(job.tenant, idempotency)
        value = f"{idempotency.fingerprint} {job.id}"
        condition = () if anew else ("NX",)
        self._connection.command("SET", key, value, *condition, "PX", self._idempotency_ms)

    def _idempotency_key(self, tenant: str, idempotency: Idempotency) -> str:
        return f"{self._prefix}idempotency:{tenant}:{idempotency.key}"

    def check(self) -> None:
        self._connection.require_memory()

    def get(self, tenant: str, job_id: str) -> Job:
        return self._of(tenant, job_id, self._ended.find(job_id) or self._read(job_id))

    def _read(self, job_id: str) -> Job | None:
        if self._changes.is_subscribed:
            return self._ended.read(job_id, lambda: self.find(job_id))
        return self.find(job_id)

    def _of(self, tenant: str, job_id: str, job: Job | None) -> Job:
        if job is None:
            self._connection.require_memory()
        if job is None or job.tenant != tenant:
            raise JobNotFound(f"there is no job {job_id!r}")
        return job

    def find(self, job_id: str) -> Job | None:
        reply = self._connection.command("HGETALL", f"{self._prefix}job:{job_id}")
        if not reply:
            return None
        job = job_from_record(job_id, as_mapping(reply))
        if job.state is JobState.QUEUED:
            return replace(job, place=self._connection.run("place", job_id) or None)
        return job

    def page(
        self, tenant: str, *, state: JobState | None, model: str | None, size: int, token: str | None
    ) -> Page:
        start = f"({token}" if token else "+"
        found: list[Job] = []
        step = size + 1 if model is None else max(size + 1, _SCAN)
        while len(found) <= size:
            with translated():
                ids = self._ids(tenant, (state,) if state else JobState, start, step)
                pipeline = self._redis.pipeline(transaction=False)
                for job_id in ids:
                    pipeline.hgetall(f"{self._prefix}job:{job_id}")
                records = pipeline.execute()
            for job_id, record in zip(ids, records, strict=True):
                if not record:  # forgotten since the index was read
                    continue
                job = job_from_record(job_id, record)
                if model is None or job.request.model == model:
                    found.append(job)
            if len(ids) < step:
                break
            start = f"({ids[-1]}"
        jobs = tuple(found[:size])
        if len(found) <= size:  # else there may be jobs that are not restored yet
            self._connection.require_memory()
        return Page(jobs=jobs, next_token=jobs[-1].id if len(found) > size else None)

    def _ids(self, tenant: str, states: Iterable[JobState], start: str, most: int) -> list[str]:
        """Of the tenant's jobs in these states the newest from ``start`` on, each once."""
        pipeline = self._redis.pipeline(transaction=True)
        for state in states:
            index = f"{self._prefix}jobs:{tenant}:{state}"
            pipeline.zrange(index, start, "-", desc=True, bylex=True, offset=0, num=most)
        return sorted(chain.from_iterable(pipeline.execute()), reverse=True)[:most]

    def cancel(self, tenant: str, job_id: str) -> Job:
        record = self._connection.run("cancel", job_id, tenant)
        if not record:
            self._connection.require_memory()
            raise JobNotFound(f"there is no job {job_id!r}")
        return job_from_record(job_id, as_mapping(record))

    def delete(self, tenant: str, job_id: str) -> None:
        is_gone = self._connection.run("delete", job_id, tenant)
        self._ended.drop(job_id)  # here and now, elsewhere by the message
        if is_gone is None:
            self._connection.require_memory()
            raise JobNotFound(f"there is no job {job_id!r}")

    def wait(self, tenant: str, job_id: str, after_version: int, timeout_s: float) -> Job:
        return self._changes.wait(
            job_id,
            lambda: self.get(tenant, job_id),
            lambda job: job.version > after_version,
            timeout_s,
        )

    # -- LeaseStore

    def claim(self, kind: Kind, worker: str, lease_s: float) -> Job | None:
        claimed = self._connection.run("claim", kind.model, kind.priority, worker, int(lease_s * 1000))
        if not claimed:
            return None
        job_id, record = claimed
        return job_from_record(job_id, as_mapping(record))

    def renew(self, leases: Iterable[tuple[str, int]], lease_s: float) -> set[str]:
        flat = [part for lease in leases for part in lease]
        return set(self._connection.run("renew", int(lease_s * 1000), *flat)) if flat else set()

    def release(self, job_id: str, attempt: int) -> bool:
        kind = self._connection.run("release", job_id, attempt)
        if kind and self._make_message is not None:
            [hint] = _hints([(job_id, *kind)])
            self._connection.command("LPUSH", *self._make_message(hint))
        return bool(kind)

    def finish(self, job_id: str, attempt: int, outcome: Outcome, *, is_noted: bool = True) -> bool:
        ended = self._connection.run(
            "finish",
            job_id,
            attempt,
            outcome.state,
            _values_of(outcome.timings) if outcome.timings else "",
            outcome.failure.to_json() if outcome.failure else "",
            int(is_noted),
        )
        if ended < 0:
            raise JobStoreRebuilding(REBUILDING)
        return bool(ended)

    # -- RebuildingStore

    def epoch(self) -> int | None:
        number = self._connection.command("GET", f"{self._prefix}epoch")
        return int(number) if number else None

    def begin_rebuild(self) -> str:
        rebuild = secrets.token_hex(8)
        self._connection.command("SET", f"{self._prefix}rebuild", rebuild)
        return rebuild

    def restore(self, rebuild: str, job: Job, idempotency: Idempotency | None, tell_after_ms: int) -> bool:
        webhook = job.request.webhook
        restored = self._connection.run(
            "restore",
            job.id,
            job.tenant,
            job.request.model or "",
            job.request.priority,
            job.request.to_short_json(),
            _image_text(job),
            ",".join(webhook.events) if webhook else "",
            job.created_ms,
            job.expires_ms,
            "" if job.finished_ms is None else job.finished_ms,
            job.state,
            job.version,
            job.attempt,
            job.failure.to_json() if job.failure else "",
            job.result_fingerprint or "",
            idempotency.key if idempotency else "",
            idempotency.fingerprint if idempotency else "",
            self._idempotency_ms - (time_ms() - job.created_ms),
            tell_after_ms,
            rebuild,
        )
        if restored < 0:
            raise RebuildOvertaken
        return bool(restored)

    def begin_epoch(self, rebuild: str, number: int) -> None:
        if not self._connection.run("begin_epoch", rebuild, number):
            raise RebuildOvertaken

    # -- HousekeepingStore

    def reap(self, max_attempts: int, limit: int) -> Reaped:
        failure = Failure(
            code=WorkerLost.code,
            message=f"{max_attempts} workers died or fell silent while they ran this job",
        )
        returned, failed = self._connection.run("reap", max_attempts, failure.to_json(), limit)
        return Reaped(returned=tuple(_hints(returned)), failed=tuple(failed))

    def unpublished(self, older_than_s: float, limit: int) -> list[Hint]:
        return _hints(self._connection.run("unpublished", int(older_than_s * 1000), limit))

    def queue_depth(self) -> int:
        return int(self._connection.command("ZCARD", f"{self._prefix}published"))

    def unnoted(self, older_than_s: float, limit: int) -> list[str]:
        return list(self._connection.run("unnoted", int(older_than_s * 1000), limit))

    def noted(self, job_id: str) -> None:
        self._connection.command("ZREM", f"{self._prefix}unnoted", job_id)

    def expire(self, keep_s: float, limit: int) -> list[str]:
        return list(self._connection.run("expire", int(keep_s * 1000), limit))

    def let_expire(self, job_ids: Iterable[str], in_s: float) -> None:
        self._connection.run("let_expire", int(in_s * 1000), *job_ids)

    def forget(self, job_id: str) -> None:
        self._connection.run("forget", job_id)

    def states(self, job_ids: Iterable[str]) -> dict[str, tuple[JobState, int]]:
        asked = list(job_ids)
        with translated():
            pipeline = self._redis.pipeline(transaction=False)
            for job_id in asked:
                pipeline.hmget(f"{self._prefix}job:{job_id}", "state", "attempt")
            found = dict(zip(asked, pipeline.execute(), strict=True))
        return {
            job_id: (JobState(state), int(attempt))
            for job_id, (state, attempt) in found.items()
            if state is not None
        }

    def lead(self, name: str, holder: str, for_s: float) -> bool:
        return bool(self._connection.run("lead", name, holder, int(for_s * 1000)))


def _hints(reply: Iterable[tuple[str, str, str]]) -> list[Hint]:
    return [Hint(job_id, model, Priority(priority)) for job_id, model, priority in reply]
