"""The promises of ``BatchStore``."""

from typing import Any

import pytest

from maskline.batches import (
    Batch,
    BatchRequest,
    BatchState,
    ChunkEnd,
    ChunkPlan,
    Destination,
    EndedChunk,
    ItemForm,
    Progress,
    Source,
    new_batch_id,
)
from maskline.errors import (
    BatchClosed,
    BatchNotFinished,
    BatchNotFound,
    InvalidRequest,
    QueueFull,
    TenantQueueFull,
)
from maskline.ports import BatchStore, ChunkStore
from maskline.requests import SegmentationRequest

RUNNING = Progress(state=BatchState.RUNNING, started_ms=1)
ENDED = Progress(state=BatchState.SUCCEEDED, items=3)
KEPT_S = 60.0
LONG_S = 60.0
MANY = 100
CHUNK_OF = 10  #: items of each chunk that ``plans`` makes


def make_batch(
    tenant: str = "default", model: str = "grabcut", created_ms: int = 1_700_000_000_000, **more: Any
) -> Batch:
    return Batch(
        id=new_batch_id(),
        tenant=tenant,
        request=BatchRequest(
            request=SegmentationRequest(model=model),
            form=ItemForm.JSONL,
            sources=(Source(bucket="imports", key="in.jsonl"),),
            destination=Destination(uri="gs://exports/out", bucket="exports", prefix="out/"),
            resource={"displayName": "n", "labels": {"a": None}},
        ),
        created_ms=created_ms,
        **more,
    )


def plans(count: int, first: int = 1) -> list[ChunkPlan]:
    """Chunks of a part, one after the other."""
    return [
        ChunkPlan(
            part=1,
            form=ItemForm.JSONL,
            offset=100 * number,
            length=100,
            line=CHUNK_OF * number + 1,
            items=CHUNK_OF,
            repeated={CHUNK_OF * number + 2: 1},
        )
        for number in range(first - 1, first - 1 + count)
    ]


def cut(batches: BatchStore, batch: Batch, count: int) -> Batch:
    """The batch with so many more chunks, all of its items."""
    before = batch.progress
    chunks = plans(count, before.chunks + 1)
    progress = RUNNING.model_copy(
        update={
            "items": before.items + CHUNK_OF * count,
            "chunks": before.chunks + count,
            "rounds": before.rounds,
        }
    )
    saved = batches.save(batch, progress, KEPT_S, chunks)
    assert saved is not None
    return saved


def end_of(number: int, attempt: int, failed: int = 0, **more: Any) -> ChunkEnd:
    return ChunkEnd(number=number, attempt=attempt, succeeded=CHUNK_OF - failed, failed=failed, **more)


def run_all(chunks: ChunkStore, model: str = "grabcut", failed: int = 0, **more: Any) -> None:
    """End every chunk that waits."""
    while (chunk := chunks.claim(model, "w", LONG_S)) is not None:
        assert chunks.finish(chunk.key, end_of(chunk.number, chunk.attempt, failed, **more), CHUNK_OF)


class BatchStoreContract:
    """A test class of a store extends this one, and has fixtures ``batches`` and ``chunks``, of one store."""

    def test_what_is_kept_comes_back(self, batches: BatchStore) -> None:
        batch = make_batch(parts=2, is_complete=True, is_retrying=True)
        batches.create(batch, MANY)
        assert batches.get("default", batch.id) == batch

    def test_it_is_its_tenant_s_alone(self, batches: BatchStore) -> None:
        batch, other = make_batch(), make_batch("other")
        batches.create(batch, MANY)
        batches.create(other, MANY)
        for call in (batches.get, batches.cancel, batches.delete, batches.complete, batches.retry):
            with pytest.raises(BatchNotFound):
                call("other", batch.id)
        with pytest.raises(BatchNotFound):
            batches.pause("other", batch.id, is_paused=True)
        with pytest.raises(BatchNotFound):
            batches.add_part("other", batch.id, 1)
        assert batches.all("default") == [batch]
        assert batches.all("other") == [other]
        assert batches.active(10) == sorted([batch, other], key=lambda one: one.id)
        assert len(batches.active(1)) == 1

    def test_listings_begin_with_the_oldest(self, batches: BatchStore) -> None:
        younger, older = make_batch(created_ms=2_000), make_batch(created_ms=1_000)
        for batch in (younger, older):
            batches.create(batch, MANY)
        assert [one.id for one in batches.all("default")] == [older.id, younger.id]
        assert [one.id for one in batches.active(MANY)] == [older.id, younger.id]

    def test_only_so_many_of_a_tenant_are_active(self, batches: BatchStore) -> None:
        first = make_batch()
        batches.create(first, MANY, max_of_tenant=1)
        with pytest.raises(TenantQueueFull):
            batches.create(make_batch(), MANY, max_of_tenant=1)
        batches.create(first, MANY, max_of_tenant=1)  # it is there
        batches.create(make_batch(tenant="other"), MANY, max_of_tenant=1)
        assert batches.save(first, ENDED, KEPT_S)
        batches.create(make_batch(), MANY, max_of_tenant=1)

    def test_what_is_tried_anew_takes_room_again(self, batches: BatchStore, chunks: ChunkStore) -> None:
        batch = make_batch(parts=1, is_complete=True)
        batches.create(batch, MANY)
        cut(batches, batch, 2)
        run_all(chunks, failed=1)
        assert batches.save(batches.get("default", batch.id), ENDED, KEPT_S)
        batches.create(make_batch(), MANY)
        with pytest.raises(TenantQueueFull):
            batches.retry("default", batch.id, max_active=2, max_of_tenant=1)
        with pytest.raises(QueueFull) as refused:
            batches.retry("default", batch.id, max_active=1, max_of_tenant=2)
        assert not isinstance(refused.value, TenantQueueFull)
        assert batches.get("default", batch.id).has_ended
        assert batches.retry("default", batch.id, max_active=2, max_of_tenant=2).is_retrying
        assert batches.retry("default", batch.id, max_active=0).is_retrying  # it has its room

    def test_only_so_many_are_active(self, batches: BatchStore) -> None:
        first = make_batch()
        batches.create(first, 1)
        with pytest.raises(QueueFull):
            batches.create(make_batch(), 1)
        assert batches.save(first, ENDED, KEPT_S)
        batches.create(make_batch(), 1)

    def test_one_that_is_there_is_not_made_anew(self, batches: BatchStore) -> None:
        batch = make_batch()
        batches.create(batch, MANY)
        moved = cut(batches, batch, 2)
        batches.create(batch, MANY)
        assert batches.get("default", batch.id) == moved
        batches.create(batch, 1)  # it takes no more room either

    def test_a_save_needs_the_latest_version(self, batches: BatchStore) -> None:
        batch = make_batch()
        batches.create(batch, MANY)
        moved = batches.save(batch, RUNNING, KEPT_S)
        assert moved is not None
        assert moved.progress == RUNNING
        assert batches.save(batch, ENDED, KEPT_S) is None
        assert batches.get("default", batch.id) == moved
        ended = batches.save(moved, ENDED, KEPT_S)
        assert ended is not None
        assert batches.active(10) == []
        assert batches.all("default") == [ended]

    def test_a_save_that_is_refused_brings_no_chunks(self, batches: BatchStore, chunks: ChunkStore) -> None:
        batch = make_batch()
        batches.create(batch, MANY)
        batches.pause("default", batch.id, is_paused=True)
        batches.pause("default", batch.id, is_paused=False)
        assert batches.save(batch, RUNNING, KEPT_S, plans(2), parts=1) is None
        assert chunks.claim("grabcut", "w", LONG_S) is None
        assert batches.get("default", batch.id).parts == 0

    # -- parts

    def test_parts_are_taken_in_their_order(self, batches: BatchStore) -> None:
        batch = make_batch()
        batches.create(batch, MANY)
        with pytest.raises(InvalidRequest, match="the next is 1"):
            batches.add_part("default", batch.id, 2)
        first = batches.add_part("default", batch.id, 1)
        assert (first.parts, first.version) == (1, batch.version + 1)
        assert batches.add_part("default", batch.id, 2).parts == 2
        assert batches.add_part("default", batch.id, 1) == batches.get("default", batch.id)
        with pytest.raises(InvalidRequest, match="the next is 3"):
            batches.add_part("default", batch.id, 4)

    def test_a_complete_batch_takes_no_more_parts(self, batches: BatchStore) -> None:
        batch = make_batch()
        batches.create(batch, MANY)
        batches.add_part("default", batch.id, 1)
        complete = batches.complete("default", batch.id)
        assert complete.is_complete
        assert batches.complete("default", batch.id) == complete
        assert batches.add_part("default", batch.id, 1) == complete
        for part in (2, 3):
            with pytest.raises(BatchClosed):
                batches.add_part("default", batch.id, part)

    def test_nor_does_one_that_has_ended(self, batches: BatchStore) -> None:
        batch = make_batch()
        batches.create(batch, MANY)
        assert batches.save(batch, ENDED, KEPT_S)
        with pytest.raises(BatchClosed):
            batches.add_part("default", batch.id, 1)
        assert not batches.complete("default", batch.id).is_complete

    def test_a_save_can_bring_a_part(self, batches: BatchStore) -> None:
        batch = make_batch(is_complete=True)
        batches.create(batch, MANY)
        saved = batches.save(batch, Progress(imported=1), KEPT_S, parts=1)
        assert saved is not None
        assert (saved.parts, saved.progress.imported) == (1, 1)

    # -- its client's wishes

    def test_a_cancelled_one_is_saved_by_who_read_that(self, batches: BatchStore) -> None:
        batch = make_batch()
        batches.create(batch, MANY)
        cancelled = batches.cancel("default", batch.id)
        assert cancelled.is_cancelling
        assert batches.cancel("default", batch.id) == cancelled
        assert batches.save(batch, ENDED, KEPT_S) is None
        ended = batches.save(cancelled, ENDED, KEPT_S)
        assert ended is not None
        assert batches.cancel("default", batch.id) == ended

    def test_an_ended_one_stays_as_it_is(self, batches: BatchStore) -> None:
        batch = make_batch()
        batches.create(batch, MANY)
        ended = batches.save(batch, ENDED, KEPT_S)
        assert batches.cancel("default", batch.id) == ended
        assert batches.pause("default", batch.id, is_paused=True) == ended

    def test_a_paused_one_can_be_resumed(self, batches: BatchStore) -> None:
        batch = make_batch()
        batches.create(batch, MANY)
        assert not batches.pause("default", batch.id, is_paused=False).is_paused
        paused = batches.pause("default", batch.id, is_paused=True)
        assert paused.is_paused
        assert batches.pause("default", batch.id, is_paused=True) == paused
        assert not batches.pause("default", batch.id, is_paused=False).is_paused

    def test_the_end_ends_a_pause(self, batches: BatchStore) -> None:
        batch = make_batch()
        batches.create(batch, MANY)
        ended = batches.save(batches.pause("default", batch.id, is_paused=True), ENDED, KEPT_S)
        assert ended is not None
        assert not ended.is_paused

    def test_a_deleted_one_is_gone(self, batches: BatchStore, chunks: ChunkStore) -> None:
        batch = make_batch()
        batches.create(batch, MANY)
        cut(batches, batch, 1)
        run_all(chunks)
        ended = batches.save(batches.get("default", batch.id), ENDED, KEPT_S)
        batches.delete("default", batch.id)
        assert batches.all("default") == batches.active(10) == []
        assert ended is not None
        assert batches.save(ended, ENDED, KEPT_S) is None
        with pytest.raises(BatchNotFound):
            batches.get("default", batch.id)

    # -- trying anew

    def test_only_what_failed_of_a_success_is_tried_anew(
        self, batches: BatchStore, chunks: ChunkStore
    ) -> None:
        batch = make_batch()
        batches.create(batch, MANY)
        with pytest.raises(BatchNotFinished, match="goes on"):
            batches.retry("default", batch.id)
        cut(batches, batch, 1)
        run_all(chunks)
        assert batches.save(batches.get("default", batch.id), ENDED, KEPT_S)
        with pytest.raises(BatchNotFinished, match="no item"):
            batches.retry("default", batch.id)

    @pytest.mark.parametrize("state", [BatchState.CANCELLED, BatchState.FAILED])
    def test_what_did_not_succeed_is_not_tried_anew(
        self, batches: BatchStore, chunks: ChunkStore, state: BatchState
    ) -> None:
        batch = make_batch()
        batches.create(batch, MANY)
        cut(batches, batch, 1)
        run_all(chunks, failed=2)
        ended = batches.save(batches.get("default", batch.id), Progress(state=state), KEPT_S)
        with pytest.raises(BatchNotFinished, match=f"has {state}"):
            batches.retry("default", batch.id)
        assert batches.get("default", batch.id) == ended
        assert batches.active(MANY) == []

    def test_a_round_counts_its_failures_anew(self, batches: BatchStore, chunks: ChunkStore) -> None:
        retried = self._retried(batches, chunks)
        assert retried.is_retrying
        assert batches.retry("default", retried.id) == retried
        assert batches.active(MANY) == [retried]
        progress = retried.progress.model_copy(update={"state": BatchState.RUNNING, "rounds": 1})
        begun = batches.save(retried, progress, KEPT_S, parts=1)
        assert begun is not None
        assert (begun.is_retrying, begun.parts) == (False, 1)
        assert (begun.counts.failed, begun.counts.succeeded, begun.counts.ended) == (0, 16, 2)
        assert batches.sums(begun.id).errors == {}
        with pytest.raises(BatchNotFinished, match="goes on"):
            batches.retry("default", begun.id)
        cut(batches, begun, 1)
        run_all(chunks, failed=1, errors={"worker_lost": 1})
        after = batches.get("default", begun.id)
        assert (after.counts.failed, after.counts.succeeded, after.counts.ended) == (1, 25, 3)
        assert batches.sums(begun.id).errors == {"worker_lost": 1}
        assert [chunk.number for chunk in batches.ended_chunks(begun.id, 1, 3)] == [1, 2, 3]

    @pytest.mark.parametrize("state", [BatchState.CANCELLED, BatchState.FAILED])
    def test_a_round_that_never_began_can_end(
        self, batches: BatchStore, chunks: ChunkStore, state: BatchState
    ) -> None:
        retried = self._retried(batches, chunks)
        cancelled = batches.cancel("default", retried.id)
        assert cancelled.is_cancelling
        ended = batches.save(cancelled, cancelled.progress.model_copy(update={"state": state}), KEPT_S)
        assert ended is not None
        assert not ended.is_retrying
        assert batches.active(MANY) == []

    def _retried(self, batches: BatchStore, chunks: ChunkStore) -> Batch:
        """Of two chunks, each of which had two failures."""
        batch = make_batch()
        batches.create(batch, MANY)
        cut(batches, batch, 2)
        run_all(chunks, failed=2, errors={"image_unreadable": 2})
        ended = batches.get("default", batch.id)
        progress = ended.progress.model_copy(update={"state": BatchState.SUCCEEDED})
        assert batches.save(ended, progress, KEPT_S)
        return batches.retry("default", batch.id)

    # -- chunks that had ended before

    def test_thousands_of_chunks_can_come_at_once(self, batches: BatchStore, chunks: ChunkStore) -> None:
        batch = make_batch()
        batches.create(batch, MANY)
        assert cut(batches, batch, 5000).progress.chunks == 5000
        assert chunks.waiting("grabcut") == (5000, 0)

    def test_nothing_is_told_of_a_batch_that_is_gone(self, batches: BatchStore) -> None:
        for ask in (lambda: batches.ended_chunks("0", 1, 2), lambda: batches.sums("0")):
            with pytest.raises(BatchNotFound):
                ask()

    def test_chunks_that_had_ended_are_not_run_again(self, batches: BatchStore, chunks: ChunkStore) -> None:
        batch = make_batch()
        batches.create(batch, MANY)
        ends = {2: end_of(2, 7, 1, flagged=3, confidence=4.5, errors={"x": 1})}
        saved = batches.save(batch, RUNNING, KEPT_S, plans(3), ends)
        assert saved is not None
        assert (saved.counts.ended, saved.counts.succeeded, saved.counts.failed) == (1, 9, 1)
        assert batches.ended_chunks(batch.id, 1, 3) == [EndedChunk(2, 7, 9, 1, 3)]
        assert batches.sums(batch.id).confidence == 4.5
        numbers = []
        while (chunk := chunks.claim("grabcut", "w", LONG_S)) is not None:
            numbers.append(chunk.number)
        assert numbers == [1, 3]
