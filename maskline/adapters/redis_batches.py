"""The batches' records in Redis. Keys and scripts are described in ``lua/prelude.lua``."""

from collections.abc import Mapping, Sequence

from maskline.adapters.redis_connection import RedisConnection, translated
from maskline.batch_refusals import (
    closed,
    no_room,
    no_room_for_tenant,
    nothing_to_retry,
    out_of_turn,
)
from maskline.batches import (
    Batch,
    BatchRequest,
    ChunkEnd,
    ChunkPlan,
    Counts,
    EndedChunk,
    LabelSum,
    Progress,
    Sums,
)
from maskline.errors import BatchNotFound
from maskline.webhooks import batch_event

_COUNTED = ("ended", "succeeded", "failed", "flagged", "running")
_NONE: Mapping[int, ChunkEnd] = {}
_ANY_NUMBER = 1_000_000
_NO_ROOM, _NO_ROOM_FOR_TENANT = -2, -1  # as refusal_of_batch in the prelude has it


class RedisBatchStore:
    """``BatchStore`` over Redis."""

    def __init__(self, connection: RedisConnection) -> None:
        """Shares the connection of the job store."""
        self._connection = connection
        self._redis = connection.redis
        self._prefix = connection.prefix

    def create(self, batch: Batch, max_active: int, *, max_of_tenant: int | None = None) -> None:
        created = self._connection.run(
            "create_batch",
            batch.id,
            batch.tenant,
            batch.model,
            batch.request.to_short_json(),
            batch.progress.to_short_json(),
            batch.created_ms,
            max_active,
            batch.parts,
            int(batch.is_complete),
            int(batch.is_retrying),
            _limit(max_of_tenant),
        )
        _require_room(created, max_active, max_of_tenant)

    def get(self, tenant: str, batch_id: str) -> Batch:
        with translated():
            record, recent = self._pipeline([batch_id])[0]
        if not record:
            self._connection.require_memory()
        if record.get("tenant") != tenant:
            raise BatchNotFound(f"there is no batch {batch_id!r}")
        return _batch(batch_id, record, recent)

    def all(self, tenant: str) -> list[Batch]:
        index = f"{self._prefix}batches:{tenant}"
        with translated():
            ids = self._redis.zrange(index, 0, -1)
        batches = self._read(ids)
        gone = set(ids) - {batch.id for batch in batches}
        if gone:
            with translated():
                self._redis.zrem(index, *gone)
        return batches

    def active(self, limit: int) -> list[Batch]:
        with translated():
            ids = self._redis.zrange(f"{self._prefix}batches_active", 0, limit - 1)
        return self._read(ids)

    def add_part(self, tenant: str, batch_id: str, part: int) -> Batch:
        batch = self.get(tenant, batch_id)
        added = self._connection.run("add_part", batch_id, part)
        if added == 0:
            raise closed(batch_id)
        if added < 0:
            raise out_of_turn(part, batch)
        return self.get(tenant, batch_id)

    def complete(self, tenant: str, batch_id: str) -> Batch:
        return self._mark(tenant, batch_id, "complete", is_set=True)

    def save(
        self,
        batch: Batch,
        progress: Progress,
        keep_s: float,
        chunks: Sequence[ChunkPlan] = (),
        ends: Mapping[int, ChunkEnd] = _NONE,
        *,
        parts: int = 0,
    ) -> Batch | None:
        first = batch.progress.chunks + 1
        told = [
            word
            for number, plan in enumerate(chunks, first)
            for word in (
                plan.to_short_json(),
                plan.items,
                ends[number].to_json() if number in ends else "",
            )
        ]
        event = batch_event(batch, progress)
        saved = self._connection.run(
            "save_batch",
            batch.id,
            batch.version,
            progress.to_short_json(),
            int(progress.state.is_final),
            int(keep_s * 1000),
            event.type if event else "",
            event.number if event else 0,
            parts,
            int(progress.rounds > batch.progress.rounds),
            first,
            *told,
        )
        return self.get(batch.tenant, batch.id) if saved else None

    def cancel(self, tenant: str, batch_id: str) -> Batch:
        return self._mark(tenant, batch_id, "cancelling", is_set=True)

    def pause(self, tenant: str, batch_id: str, *, is_paused: bool) -> Batch:
        return self._mark(tenant, batch_id, "paused", is_set=is_paused)

    def retry(
        self,
        tenant: str,
        batch_id: str,
        *,
        max_active: int | None = None,
        max_of_tenant: int | None = None,
    ) -> Batch:
        batch = self.get(tenant, batch_id)
        retried = self._connection.run("retry_batch", batch_id, _limit(max_active), _limit(max_of_tenant))
        if retried == 0:
            raise nothing_to_retry(batch)
        _require_room(retried, max_active, max_of_tenant)
        return self.get(tenant, batch_id)

    def delete(self, tenant: str, batch_id: str) -> None:
        self.get(tenant, batch_id)
        self._connection.run("delete_batch", batch_id)

    def ended_chunks(self, batch_id: str, first: int, last: int) -> list[EndedChunk]:
        numbers = range(first, last + 1)
        if not numbers:
            return []
        with translated():
            pipeline = self._redis.pipeline(transaction=True)
            pipeline.hmget(f"{self._prefix}chunks_ended:{batch_id}", list(numbers))
            pipeline.exists(f"{self._prefix}batch:{batch_id}")
            told, is_there = pipeline.execute()
        self._require(batch_id, is_there)
        return [
            EndedChunk(number, *map(int, text.split()))
            for number, text in zip(numbers, told, strict=True)
            if text
        ]

    def sums(self, batch_id: str) -> Sums:
        with translated():
            pipeline = self._redis.pipeline(transaction=True)
            pipeline.hgetall(f"{self._prefix}chunk_sums:{batch_id}")
            pipeline.zrevrange(f"{self._prefix}chunk_slowest:{batch_id}", 0, -1, withscores=True)
            pipeline.exists(f"{self._prefix}batch:{batch_id}")
            told, slowest, is_there = pipeline.execute()
        self._require(batch_id, is_there)
        labels: dict[str, dict[str, int]] = {}
        errors: dict[str, int] = {}
        for field, text in told.items():
            name, _, label = field.partition(":")
            if name == "error":
                errors[label] = int(text)
            elif label or field.endswith(":"):
                labels.setdefault(label, {})[name] = int(text)
        return Sums(
            confidence=float(told.get("confidence", 0)),
            labels={label: LabelSum.model_validate(sums) for label, sums in labels.items()},
            errors=errors,
            slowest=dict(slowest),
        )

    def _require(self, batch_id: str, is_there: bool) -> None:
        """Return if there is the batch: what is not known of one that is lost must not count as nothing."""
        if not is_there:
            self._connection.require_memory()
            raise BatchNotFound(f"there is no batch {batch_id!r}")

    def _mark(self, tenant: str, batch_id: str, field: str, *, is_set: bool) -> Batch:
        self.get(tenant, batch_id)
        self._connection.run("mark_batch", batch_id, field, int(is_set))
        return self.get(tenant, batch_id)

    def _read(self, ids: Sequence[str]) -> list[Batch]:
        with translated():
            told = self._pipeline(ids)
        return [
            _batch(batch_id, record, recent)
            for batch_id, (record, recent) in zip(ids, told, strict=True)
            if record
        ]

    def _pipeline(self, ids: Sequence[str]) -> list[tuple[dict[str, str], list[str]]]:
        pipeline = self._redis.pipeline(transaction=False)
        for batch_id in ids:
            pipeline.hgetall(f"{self._prefix}batch:{batch_id}")
            pipeline.lrange(f"{self._prefix}chunk_pace:{batch_id}", 0, -1)
        told = pipeline.execute()
        return list(zip(told[::2], told[1::2], strict=True))


def _limit(most: int | None) -> int:
    return _ANY_NUMBER if most is None else most


def _require_room(answer: int, max_active: int | None, max_of_tenant: int | None) -> None:
    """Return unless a script's answer is that no more batches may go on."""
    if answer == _NO_ROOM:
        raise no_room(_limit(max_active))
    if answer == _NO_ROOM_FOR_TENANT:
        raise no_room_for_tenant(_limit(max_of_tenant))


def _batch(batch_id: str, record: Mapping[str, str], recent: Sequence[str]) -> Batch:
    counts = {name: int(record.get(name, 0)) for name in _COUNTED}
    return Batch(
        id=batch_id,
        tenant=record["tenant"],
        request=BatchRequest.model_validate_json(record["request"]),
        created_ms=int(record["created_ms"]),
        parts=int(record["parts"]),
        is_complete="complete" in record,
        progress=Progress.model_validate_json(record["progress"]),
        counts=Counts(recent=tuple(_moment(text) for text in recent), **counts),
        is_paused="paused" in record,
        is_cancelling="cancelling" in record,
        is_retrying="retrying" in record,
        version=int(record["version"]),
    )


def _moment(text: str) -> tuple[int, int]:
    ended_ms, items = text.split()
    return int(ended_ms), int(items)
