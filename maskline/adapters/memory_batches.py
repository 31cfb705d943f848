"""An in-memory double of the batch and chunk stores."""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from maskline.adapters.memory_webhooks import MemoryOutbox
from maskline.batch_refusals import (
    closed,
    no_room,
    no_room_for_tenant,
    nothing_to_retry,
    out_of_turn,
)
from maskline.batches import (
    MAX_SUMMED_LABELS,
    SLOWEST,
    Batch,
    BatchState,
    Chunk,
    ChunkEnd,
    ChunkKey,
    ChunkPlan,
    Counts,
    EndedChunk,
    LabelSum,
    Progress,
    Sums,
)
from maskline.clock import time_ms
from maskline.errors import BatchNotFound
from maskline.webhooks import batch_event

_PACE = 32
_NONE: Mapping[int, ChunkEnd] = {}


@dataclass(kw_only=True)
class _Held:
    attempt: int = 0
    losses: int = 0
    hand: int | None = None
    suspects: dict[int, int] = field(default_factory=dict)


@dataclass(kw_only=True)
class _Record:
    batch: Batch
    plans: dict[int, ChunkPlan] = field(default_factory=dict)
    ready: set[int] = field(default_factory=set)
    held: dict[int, _Held] = field(default_factory=dict)
    ended: dict[int, EndedChunk] = field(default_factory=dict)
    sums: Sums = field(default_factory=Sums)


@dataclass
class MemoryBatchStore:
    """``BatchStore`` and ``ChunkStore`` in a dictionary."""

    outbox: MemoryOutbox = field(default_factory=MemoryOutbox)
    clock_ms: Callable[[], int] = time_ms
    _records: dict[str, _Record] = field(default_factory=dict)
    _leases: dict[ChunkKey, int] = field(default_factory=dict)
    _served: dict[tuple[str, str], int] = field(default_factory=dict)
    _turn: int = 0
    _lock: threading.RLock = field(default_factory=threading.RLock)

    # -- BatchStore

    def create(self, batch: Batch, max_active: int, *, max_of_tenant: int | None = None) -> None:
        with self._lock:
            if batch.id in self._records:
                return
            self._require_room(batch.tenant, max_active, max_of_tenant)
            self._records[batch.id] = _Record(batch=batch)

    def get(self, tenant: str, batch_id: str) -> Batch:
        with self._lock:
            record = self._records.get(batch_id)
            if record is None or record.batch.tenant != tenant:
                raise BatchNotFound(f"there is no batch {batch_id!r}")
            return record.batch

    def all(self, tenant: str) -> list[Batch]:
        with self._lock:
            return [batch for batch in self._oldest_first() if batch.tenant == tenant]

    def active(self, limit: int) -> list[Batch]:
        with self._lock:
            return [batch for batch in self._oldest_first() if not batch.has_ended][:limit]

    def add_part(self, tenant: str, batch_id: str, part: int) -> Batch:
        with self._lock:
            batch = self.get(tenant, batch_id)
            if part <= batch.parts:
                return batch
            if batch.is_complete or batch.has_ended:
                raise closed(batch_id)
            if part > batch.parts + 1:
                raise out_of_turn(part, batch)
            return self._change(batch, parts=part)

    def complete(self, tenant: str, batch_id: str) -> Batch:
        with self._lock:
            batch = self.get(tenant, batch_id)
            return batch if batch.is_complete or batch.has_ended else self._change(batch, is_complete=True)

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
        with self._lock:
            record = self._records.get(batch.id)
            if record is None or record.batch.version != batch.version:
                return None
            saved = self._change(record.batch, progress=progress, parts=record.batch.parts + parts)
            if progress.rounds > batch.progress.rounds:
                counts = saved.counts.model_copy(update={"failed": 0})
                saved = record.batch = replace(saved, is_retrying=False, counts=counts)
                record.sums.errors.clear()
            for number, plan in enumerate(chunks, batch.progress.chunks + 1):
                if number in ends:
                    self._end(record, number, ends[number], plan.items)
                else:
                    record.plans[number] = plan
                    record.ready.add(number)
            if event := batch_event(batch, progress):
                self.outbox.emit(
                    event.type,
                    tenant=saved.tenant,
                    subject=saved.id,
                    version=saved.version,
                    attempt=event.number,
                )
            if progress.state.is_final:
                record.plans.clear()
                record.ready.clear()
                counts = record.batch.counts.model_copy(update={"running": 0})
                record.batch = replace(record.batch, is_paused=False, is_retrying=False, counts=counts)
            return record.batch

    def cancel(self, tenant: str, batch_id: str) -> Batch:
        with self._lock:
            batch = self.get(tenant, batch_id)
            return (
                batch if batch.has_ended or batch.is_cancelling else self._change(batch, is_cancelling=True)
            )

    def pause(self, tenant: str, batch_id: str, *, is_paused: bool) -> Batch:
        with self._lock:
            batch = self.get(tenant, batch_id)
            if batch.has_ended or batch.is_paused == is_paused:
                return batch
            return self._change(batch, is_paused=is_paused)

    def retry(
        self,
        tenant: str,
        batch_id: str,
        *,
        max_active: int | None = None,
        max_of_tenant: int | None = None,
    ) -> Batch:
        with self._lock:
            batch = self.get(tenant, batch_id)
            if batch.is_retrying:
                return batch
            if batch.progress.state is not BatchState.SUCCEEDED or not batch.counts.failed:
                raise nothing_to_retry(batch)
            self._require_room(tenant, max_active, max_of_tenant)
            return self._change(batch, is_retrying=True)

    def delete(self, tenant: str, batch_id: str) -> None:
        with self._lock:
            self.get(tenant, batch_id)
            del self._records[batch_id]

    def ended_chunks(self, batch_id: str, first: int, last: int) -> list[EndedChunk]:
        with self._lock:
            ended = self._require(batch_id).ended
            return [ended[number] for number in range(first, last + 1) if number in ended]

    def sums(self, batch_id: str) -> Sums:
        with self._lock:
            return self._require(batch_id).sums

    # -- ChunkStore

    def claim(self, model: str, worker: str, lease_s: float) -> Chunk | None:
        with self._lock:
            oldest: dict[str, _Record] = {}
            for batch in self._oldest_first():
                record = self._records[batch.id]
                may_run = not batch.has_ended and not batch.is_paused and not batch.is_cancelling
                if batch.model == model and may_run and record.ready:
                    oldest.setdefault(batch.tenant, record)
            if not oldest:
                return None
            record = min(oldest.values(), key=lambda one: self._served.get((model, one.batch.tenant), 0))
            batch = record.batch
            self._turn += 1
            self._served[model, batch.tenant] = self._turn
            number = min(record.ready)
            record.ready.remove(number)
            held = record.held.setdefault(number, _Held())
            held.attempt += 1
            self._leases[ChunkKey(batch.id, number, held.attempt)] = self.clock_ms() + int(lease_s * 1000)
            self._count(record, running=record.plans[number].items)
            return Chunk(
                batch=batch.id,
                tenant=batch.tenant,
                request=batch.request,
                number=number,
                attempt=held.attempt,
                plan=record.plans[number],
                losses=held.losses,
                suspects=dict(held.suspects),
            )

    def renew(self, chunks: Iterable[ChunkKey], lease_s: float) -> set[ChunkKey]:
        with self._lock:
            lost = set()
            for chunk in chunks:
                if self._holds(chunk):
                    self._leases[chunk] = self.clock_ms() + int(lease_s * 1000)
                else:
                    lost.add(chunk)
            return lost

    def release(self, chunk: ChunkKey) -> bool:
        with self._lock:
            if chunk not in self._leases:
                return False
            self._let_go(chunk)
            record = self._records.get(chunk.batch)
            if record is not None and chunk.number in record.plans:
                record.held[chunk.number].hand = None
                record.ready.add(chunk.number)
            return True

    def take_in_hand(self, chunk: ChunkKey, line: int) -> bool:
        with self._lock:
            if not self._holds(chunk):
                return False
            self._records[chunk.batch].held[chunk.number].hand = line
            return True

    def finish(self, chunk: ChunkKey, end: ChunkEnd, items: int) -> bool:
        with self._lock:
            if self._holds(chunk):
                self._let_go(chunk)
                self._end(self._records[chunk.batch], chunk.number, end, items)
                return True
            record = self._records.get(chunk.batch)
            ended = record.ended.get(chunk.number) if record else None
            return ended is not None and ended.attempt == chunk.attempt

    def reap(self, limit: int) -> list[ChunkKey]:
        with self._lock:
            returned = []
            now = self.clock_ms()
            for chunk in [key for key, until_ms in self._leases.items() if until_ms <= now][:limit]:
                self._let_go(chunk)
                record = self._records.get(chunk.batch)
                if record is None or chunk.number not in record.plans:
                    continue
                held = record.held[chunk.number]
                if held.hand is not None:
                    held.losses += 1
                    held.suspects[held.hand] = held.suspects.get(held.hand, 0) + 1
                    held.hand = None
                record.ready.add(chunk.number)
                returned.append(chunk)
            return returned

    def waiting(self, model: str) -> tuple[int, int]:
        with self._lock:
            records = [one for one in self._records.values() if one.batch.model == model]
            waiting = sum(len(one.ready) for one in records if not one.batch.is_paused)
            ids = {one.batch.id for one in records}
            return waiting, sum(chunk.batch in ids for chunk in self._leases)

    # -- what these are made of

    def _require(self, batch_id: str) -> _Record:
        if batch_id not in self._records:
            raise BatchNotFound(f"there is no batch {batch_id!r}")
        return self._records[batch_id]

    def _require_room(self, tenant: str, max_active: int | None, max_of_tenant: int | None) -> None:
        active = [record.batch for record in self._records.values() if not record.batch.has_ended]
        if max_active is not None and len(active) >= max_active:
            raise no_room(max_active)
        if max_of_tenant is not None and sum(one.tenant == tenant for one in active) >= max_of_tenant:
            raise no_room_for_tenant(max_of_tenant)

    def _oldest_first(self) -> list[Batch]:
        batches = [record.batch for record in self._records.values()]
        return sorted(batches, key=lambda batch: (batch.created_ms, batch.id))

    def _change(self, batch: Batch, **changes: object) -> Batch:
        record = self._records[batch.id]
        record.batch = replace(record.batch, version=record.batch.version + 1, **changes)  # type: ignore[arg-type]
        return record.batch

    def _count(self, record: _Record, **more: int) -> None:
        counts = record.batch.counts
        summed = {name: getattr(counts, name) + count for name, count in more.items()}
        record.batch = replace(record.batch, counts=counts.model_copy(update=summed))

    def _holds(self, chunk: ChunkKey) -> bool:
        record = self._records.get(chunk.batch)
        is_wanted = record is not None and not record.batch.has_ended and not record.batch.is_cancelling
        return chunk in self._leases and is_wanted

    def _let_go(self, chunk: ChunkKey) -> None:
        del self._leases[chunk]
        record = self._records.get(chunk.batch)
        if record is not None and chunk.number in record.plans:
            self._count(record, running=-record.plans[chunk.number].items)

    def _end(self, record: _Record, number: int, end: ChunkEnd, items: int) -> None:
        record.plans.pop(number, None)
        record.ready.discard(number)
        record.held.pop(number, None)
        record.ended[number] = EndedChunk(number, end.attempt, end.succeeded, end.failed, end.flagged)
        self._count(record, ended=1, succeeded=end.succeeded, failed=end.failed, flagged=end.flagged)
        recent = (*record.batch.counts.recent, (self.clock_ms(), items))[-_PACE:]
        record.batch = replace(record.batch, counts=Counts(**{**dict(record.batch.counts), "recent": recent}))
        sums = record.sums
        labels = dict(sums.labels)
        for label, more in end.labels.items():
            if label in labels or len(labels) < MAX_SUMMED_LABELS:
                labels[label] = labels.get(label, LabelSum()).plus(more)
        errors = dict(sums.errors)
        for code, count in end.errors.items():
            errors[code] = errors.get(code, 0) + count
        slowest = sorted({**sums.slowest, **end.slowest}.items(), key=lambda one: -one[1])[:SLOWEST]
        record.sums = Sums(
            confidence=sums.confidence + end.confidence, labels=labels, errors=errors, slowest=dict(slowest)
        )
