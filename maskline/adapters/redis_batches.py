"""The batches' records in Redis. Keys and scripts are described in ``lua/prelude.lua``."""

from collections.abc import Mapping, Sequence

from maskline.adapters.redis_connection import RedisConnection, as_mapping, translated
from maskline.batches import Batch, BatchRequest, Progress
from maskline.errors import BatchNotFound, QueueFull
from maskline.webhooks import batch_event


class RedisBatchStore:
    """``BatchStore`` over Redis."""

    def __init__(self, connection: RedisConnection) -> None:
        """Shares the connection of the job store."""
        self._connection = connection
        self._redis = connection.redis
        self._prefix = connection.prefix

    def create(self, batch: Batch, max_active: int) -> None:
        created = self._connection.run(
            "create_batch",
            batch.id,
            batch.tenant,
            batch.request.to_json(),
            batch.progress.to_json(),
            batch.created_ms,
            max_active,
        )
        if not created:
            raise QueueFull(f"{max_active} batches have not ended yet; try again later")

    def get(self, tenant: str, batch_id: str) -> Batch:
        record = as_mapping(self._connection.command("HGETALL", self._key(batch_id)))
        if not record:
            self._connection.require_memory()
        if record.get("tenant") != tenant:
            raise BatchNotFound(f"there is no batch {batch_id!r}")
        return _batch(batch_id, record)

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

    def save(self, batch: Batch, progress: Progress, keep_s: float) -> Batch | None:
        ended = "1" if progress.state.is_final else "0"
        event = batch_event(batch.progress.state, progress.state)
        saved = self._connection.run(
            "save_batch", batch.id, batch.version, progress.to_json(), ended, int(keep_s * 1000), event or ""
        )
        return self.get(batch.tenant, batch.id) if saved else None

    def cancel(self, tenant: str, batch_id: str) -> Batch:
        self.get(tenant, batch_id)
        self._connection.run("cancel_batch", batch_id)
        return self.get(tenant, batch_id)

    def delete(self, tenant: str, batch_id: str) -> None:
        self.get(tenant, batch_id)
        with translated():
            pipeline = self._redis.pipeline(transaction=True)
            pipeline.delete(self._key(batch_id))
            pipeline.zrem(f"{self._prefix}batches_active", batch_id)
            pipeline.zrem(f"{self._prefix}batches:{tenant}", batch_id)
            pipeline.execute()

    def _read(self, ids: Sequence[str]) -> list[Batch]:
        with translated():
            pipeline = self._redis.pipeline(transaction=False)
            for batch_id in ids:
                pipeline.hgetall(self._key(batch_id))
            records = pipeline.execute()
        return [_batch(batch_id, record) for batch_id, record in zip(ids, records, strict=True) if record]

    def _key(self, batch_id: str) -> str:
        return f"{self._prefix}batch:{batch_id}"


def _batch(batch_id: str, record: Mapping[str, str]) -> Batch:
    return Batch(
        id=batch_id,
        tenant=record["tenant"],
        request=BatchRequest.model_validate_json(record["request"]),
        created_ms=int(record["created_ms"]),
        progress=Progress.model_validate_json(record["progress"]),
        is_cancelling="cancelling" in record,
        version=int(record["version"]),
    )
