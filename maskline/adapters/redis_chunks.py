"""The workers' side of batches in Redis. Keys and scripts are described in ``lua/prelude.lua``."""

from collections.abc import Iterable
from functools import lru_cache

from maskline.adapters.redis_connection import REBUILDING, RedisConnection, as_mapping
from maskline.batches import BatchRequest, Chunk, ChunkEnd, ChunkKey, ChunkPlan
from maskline.errors import JobStoreRebuilding

_request_of = lru_cache(maxsize=16)(BatchRequest.model_validate_json)  # the chunks of a batch have the same


class RedisChunkStore:
    """``ChunkStore`` over Redis."""

    def __init__(self, connection: RedisConnection) -> None:
        """Shares the connection of the job store."""
        self._connection = connection

    def claim(self, model: str, worker: str, lease_s: float) -> Chunk | None:
        claimed = self._connection.run("claim_chunk", model, worker, int(lease_s * 1000))
        if not claimed:
            return None
        batch, tenant, request, number, attempt, plan, record = claimed
        known = as_mapping(record)
        suspects = {
            int(field.removeprefix("line:")): int(count)
            for field, count in known.items()
            if field.startswith("line:")
        }
        return Chunk(
            batch=batch,
            tenant=tenant,
            request=_request_of(request),
            number=int(number),
            attempt=int(attempt),
            plan=ChunkPlan.model_validate_json(plan),
            losses=int(known.get("losses", 0)),
            suspects=suspects,
        )

    def renew(self, chunks: Iterable[ChunkKey], lease_s: float) -> set[ChunkKey]:
        held = list(chunks)
        if not held:
            return set()
        words = [word for chunk in held for word in chunk]
        lost = set(self._connection.run("renew_chunks", int(lease_s * 1000), *words))
        return {chunk for chunk in held if f"{chunk.batch}/{chunk.number}/{chunk.attempt}" in lost}

    def release(self, chunk: ChunkKey) -> bool:
        return bool(self._connection.run("release_chunk", *chunk))

    def take_in_hand(self, chunk: ChunkKey, line: int) -> bool:
        return bool(self._connection.run("hand_chunk", *chunk, line))

    def finish(self, chunk: ChunkKey, end: ChunkEnd, items: int) -> bool:
        finished = self._connection.run("finish_chunk", *chunk, items, end.to_json())
        if finished < 0:
            raise JobStoreRebuilding(REBUILDING)
        return bool(finished)

    def reap(self, limit: int) -> list[ChunkKey]:
        reaped = self._connection.run("reap_chunks", limit)
        return [ChunkKey(batch, int(number), int(attempt)) for batch, number, attempt in reaped]

    def waiting(self, model: str) -> tuple[int, int]:
        waiting, held = self._connection.run("waiting_chunks", model)
        return int(waiting), int(held)
