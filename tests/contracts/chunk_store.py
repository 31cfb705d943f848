"""The promises of ``ChunkStore``."""

import time

from maskline.batches import (
    MAX_SUMMED_LABELS,
    SLOWEST,
    Batch,
    BatchState,
    Chunk,
    ChunkKey,
    EndedChunk,
    LabelSum,
    Progress,
)
from maskline.ports import BatchStore, ChunkStore
from tests.contracts.batch_store import (
    CHUNK_OF,
    ENDED,
    KEPT_S,
    LONG_S,
    MANY,
    cut,
    end_of,
    make_batch,
    plans,
    run_all,
)

LAPSED_S = 0.001


def submit(batches: BatchStore, chunks: int, tenant: str = "default", model: str = "grabcut") -> Batch:
    """A batch of so many chunks."""
    batch = make_batch(tenant, model)
    batches.create(batch, MANY)
    return cut(batches, batch, chunks)


def claim(chunks: ChunkStore, lease_s: float = LONG_S, model: str = "grabcut") -> Chunk:
    chunk = chunks.claim(model, "w", lease_s)
    assert chunk is not None
    return chunk


def lose(chunks: ChunkStore, line: int | None = None) -> Chunk:
    """The next chunk, whose worker was lost, maybe while it ran a line's item alone."""
    chunk = claim(chunks, LAPSED_S)
    if line is not None:
        assert chunks.take_in_hand(chunk.key, line)
    time.sleep(0.005)
    assert chunks.reap(MANY) == [chunk.key]
    return chunk


def finish(chunks: ChunkStore, chunk: Chunk) -> bool:
    return chunks.finish(chunk.key, end_of(chunk.number, chunk.attempt), CHUNK_OF)


def assert_replaced(chunks: ChunkStore, late: Chunk) -> None:
    """Nothing that it asks for is done."""
    assert chunks.renew([late.key], LONG_S) == {late.key}
    assert not chunks.release(late.key)
    assert not chunks.take_in_hand(late.key, 1)
    assert not finish(chunks, late)


class ChunkStoreContract:
    """A test class of a store extends this one, and has fixtures ``batches`` and ``chunks``, of one store."""

    # -- claims

    def test_chunks_are_handed_out_in_their_order(self, batches: BatchStore, chunks: ChunkStore) -> None:
        batch = submit(batches, 12)
        for number, plan in enumerate(plans(12), 1):
            assert claim(chunks) == Chunk(
                batch=batch.id,
                tenant="default",
                request=batch.request,
                number=number,
                attempt=1,
                plan=plan,
            )
        assert chunks.claim("grabcut", "w", LONG_S) is None

    def test_a_worker_is_given_chunks_of_its_models(self, batches: BatchStore, chunks: ChunkStore) -> None:
        submit(batches, 1, model="other")
        assert chunks.claim("grabcut", "w", LONG_S) is None
        assert claim(chunks, model="other").number == 1

    def test_the_tenants_take_turns_and_the_oldest_batch_of_each_comes_first(
        self, batches: BatchStore, chunks: ChunkStore
    ) -> None:
        old, young = make_batch("a", created_ms=1_000), make_batch("a", created_ms=3_000)
        other = make_batch("b", created_ms=2_000)
        for batch in (young, old, other):
            batches.create(batch, MANY)
            cut(batches, batch, 2)
        order = [claim(chunks).batch for _ in range(6)]
        assert order == [old.id, other.id, old.id, other.id, young.id, young.id]

    def test_a_paused_batch_makes_way(self, batches: BatchStore, chunks: ChunkStore) -> None:
        batch = submit(batches, 2)
        held = claim(chunks)
        batches.pause("default", batch.id, is_paused=True)
        assert chunks.claim("grabcut", "w", LONG_S) is None
        assert chunks.waiting("grabcut") == (0, 1)
        assert chunks.renew([held.key], LONG_S) == set()
        assert finish(chunks, held)
        batches.pause("default", batch.id, is_paused=False)
        assert claim(chunks).number == 2

    def test_what_waits_and_what_is_held(self, batches: BatchStore, chunks: ChunkStore) -> None:
        submit(batches, 3)
        submit(batches, 2, "other")
        submit(batches, 1, model="other")
        assert chunks.waiting("grabcut") == (5, 0)
        first = claim(chunks)
        claim(chunks)
        assert chunks.waiting("grabcut") == (3, 2)
        finish(chunks, first)
        assert chunks.waiting("grabcut") == (3, 1)
        assert chunks.waiting("other") == (1, 0)
        assert chunks.waiting("none") == (0, 0)

    def test_what_is_held_is_counted(self, batches: BatchStore, chunks: ChunkStore) -> None:
        batch = submit(batches, 3)

        def running() -> int:
            return batches.get("default", batch.id).counts.running

        first, second, third = claim(chunks), claim(chunks), claim(chunks, LAPSED_S)
        assert running() == 3 * CHUNK_OF
        chunks.release(first.key)
        assert running() == 2 * CHUNK_OF
        finish(chunks, second)
        assert running() == CHUNK_OF
        time.sleep(0.005)
        assert chunks.reap(MANY) == [third.key]
        assert running() == 0

    # -- leases and tokens

    def test_a_lease_that_is_renewed_does_not_lapse(self, batches: BatchStore, chunks: ChunkStore) -> None:
        submit(batches, 1)
        chunk = claim(chunks, LAPSED_S)
        assert chunks.renew([chunk.key], LONG_S) == set()
        time.sleep(0.005)
        assert chunks.reap(MANY) == []
        assert finish(chunks, chunk)

    def test_a_late_holder_that_nobody_replaced_still_holds(
        self, batches: BatchStore, chunks: ChunkStore
    ) -> None:
        submit(batches, 1)
        chunk = claim(chunks, LAPSED_S)
        time.sleep(0.005)
        assert chunks.claim("grabcut", "w", LONG_S) is None
        assert finish(chunks, chunk)
        assert chunks.reap(MANY) == []

    def test_who_was_replaced_can_do_nothing_more(self, batches: BatchStore, chunks: ChunkStore) -> None:
        batch = submit(batches, 1)
        late = lose(chunks)
        assert_replaced(chunks, late)
        now = claim(chunks)
        assert_replaced(chunks, late)
        assert (now.number, now.attempt, now.losses) == (1, 2, 0)
        assert batches.get("default", batch.id).counts.ended == 0
        assert finish(chunks, now)
        assert not finish(chunks, late)
        assert batches.ended_chunks(batch.id, 1, 1) == [EndedChunk(1, 2, CHUNK_OF, 0, 0)]

    def test_renewing_tells_of_each_that_is_lost(self, batches: BatchStore, chunks: ChunkStore) -> None:
        batch = submit(batches, 3)
        first, second = claim(chunks), claim(chunks)
        never = ChunkKey(batch.id, 3, 1)
        unknown = ChunkKey("0", 1, 1)
        assert chunks.renew([], LONG_S) == set()
        assert chunks.renew([first.key, never, second.key, unknown], LONG_S) == {never, unknown}

    def test_what_is_given_back_is_run_by_another_at_once(
        self, batches: BatchStore, chunks: ChunkStore
    ) -> None:
        submit(batches, 2)
        chunk = claim(chunks)
        assert chunks.take_in_hand(chunk.key, 3)
        assert chunks.release(chunk.key)
        assert not chunks.release(chunk.key)
        again = claim(chunks)
        assert (again.number, again.attempt, again.losses, again.suspects) == (1, 2, 0, {})

    def test_only_so_many_are_reaped_at_once(self, batches: BatchStore, chunks: ChunkStore) -> None:
        submit(batches, 3)
        claimed = {claim(chunks, LAPSED_S).key for _ in range(3)}
        time.sleep(0.005)
        first = chunks.reap(2)
        assert len(first) == 2
        assert {*first, *chunks.reap(2)} == claimed
        assert chunks.reap(2) == []

    def test_the_suspects_are_the_lines_that_were_in_hand(
        self, batches: BatchStore, chunks: ChunkStore
    ) -> None:
        submit(batches, 1)
        lose(chunks)
        lose(chunks, line=4)
        lose(chunks, line=4)
        lose(chunks)
        lose(chunks, line=6)
        chunk = claim(chunks)
        assert (chunk.attempt, chunk.losses, chunk.suspects) == (6, 3, {4: 2, 6: 1})

    def test_only_the_latest_line_in_hand_is_a_suspect(self, batches: BatchStore, chunks: ChunkStore) -> None:
        submit(batches, 1)
        chunk = claim(chunks, LAPSED_S)
        for line in (1, 2, 3):
            assert chunks.take_in_hand(chunk.key, line)
        time.sleep(0.005)
        chunks.reap(MANY)
        assert claim(chunks).suspects == {3: 1}

    # -- ends

    def test_an_end_is_counted_once(self, batches: BatchStore, chunks: ChunkStore) -> None:
        batch = submit(batches, 2)
        chunk = claim(chunks)
        end = end_of(1, 1, 2, flagged=3)
        for _ in range(3):
            assert chunks.finish(chunk.key, end, CHUNK_OF)
        counts = batches.get("default", batch.id).counts
        assert (counts.ended, counts.succeeded, counts.failed, counts.flagged) == (1, 8, 2, 3)
        assert [items for _, items in counts.recent] == [CHUNK_OF]
        assert batches.ended_chunks(batch.id, 1, 2) == [EndedChunk(1, 1, 8, 2, 3)]
        assert not chunks.finish(ChunkKey(batch.id, 1, 2), end, CHUNK_OF)
        assert not chunks.release(chunk.key)
        assert chunks.renew([chunk.key], LONG_S) == {chunk.key}

    def test_an_end_is_no_change_of_the_record_s_version(
        self, batches: BatchStore, chunks: ChunkStore
    ) -> None:
        batch = submit(batches, 2)
        run_all(chunks)
        assert batches.save(batch, ENDED, KEPT_S)

    def test_which_chunks_have_ended(self, batches: BatchStore, chunks: ChunkStore) -> None:
        batch = submit(batches, 12)
        for chunk in [claim(chunks) for _ in range(12)]:
            if chunk.number % 3:
                finish(chunks, chunk)
        told = [chunk.number for chunk in batches.ended_chunks(batch.id, 2, 11)]
        assert told == [2, 4, 5, 7, 8, 10, 11]
        assert batches.ended_chunks(batch.id, 13, 99) == []
        assert batches.ended_chunks(batch.id, 1, 0) == []

    def test_the_ends_are_summed(self, batches: BatchStore, chunks: ChunkStore) -> None:
        batch = submit(batches, 2)
        first = end_of(
            1,
            1,
            confidence=8.25,
            labels={"cup": LabelSum(items=3, segments=4, pixels=2**40), "a:b": LabelSum(items=1)},
            errors={"image_unreadable": 2},
            slowest={f"{n} item {n}": float(n) for n in range(1, SLOWEST)},
        )
        second = end_of(
            2,
            1,
            confidence=0.5,
            labels={"cup": LabelSum(items=1, segments=1, pixels=5), "": LabelSum(items=2)},
            errors={"image_unreadable": 1, "worker_lost": 1},
            slowest={f"{n} item {n}": n + 0.5 for n in range(20, 25)},
        )
        for end in (first, second):
            assert chunks.finish(claim(chunks).key, end, CHUNK_OF)
        sums = batches.sums(batch.id)
        assert sums.confidence == 8.75
        assert sums.labels == {
            "cup": LabelSum(items=4, segments=5, pixels=2**40 + 5),
            "a:b": LabelSum(items=1),
            "": LabelSum(items=2),
        }
        assert sums.errors == {"image_unreadable": 3, "worker_lost": 1}
        slowest = [f"{n} item {n}" for n in (24, 23, 22, 21, 20, 9, 8, 7, 6, 5)]
        assert sorted(sums.slowest, key=lambda item: -sums.slowest[item]) == slowest

    def test_the_sums_of_a_batch_with_endless_labels_end(
        self, batches: BatchStore, chunks: ChunkStore
    ) -> None:
        batch = submit(batches, 2)
        for chunk in range(2):
            labels = {f"{chunk} {n}": LabelSum(items=1, segments=1, pixels=1) for n in range(800)}
            assert chunks.finish(claim(chunks).key, end_of(chunk + 1, 1, labels=labels), CHUNK_OF)
        assert MAX_SUMMED_LABELS - 20 < len(batches.sums(batch.id).labels) <= MAX_SUMMED_LABELS

    def test_only_the_latest_ends_tell_the_pace(self, batches: BatchStore, chunks: ChunkStore) -> None:
        batch = submit(batches, 40)
        run_all(chunks)
        recent = batches.get("default", batch.id).counts.recent
        assert len(recent) == 32
        assert list(recent) == sorted(recent)

    # -- batches that end

    def test_of_a_batch_that_is_to_be_cancelled_nothing_counts(
        self, batches: BatchStore, chunks: ChunkStore
    ) -> None:
        batch = submit(batches, 2)
        held = claim(chunks)
        batches.cancel("default", batch.id)
        assert chunks.claim("grabcut", "w", LONG_S) is None
        assert chunks.renew([held.key], LONG_S) == {held.key}
        assert not chunks.take_in_hand(held.key, 1)
        assert not finish(chunks, held)
        assert batches.get("default", batch.id).counts.ended == 0

    def test_an_ended_batch_has_no_chunks_to_run(self, batches: BatchStore, chunks: ChunkStore) -> None:
        batch = submit(batches, 4)
        done, held, lapsed = claim(chunks), claim(chunks), claim(chunks, LAPSED_S)
        assert finish(chunks, done)
        ended = batches.save(batch, Progress(state=BatchState.FAILED), KEPT_S)
        assert ended is not None
        assert (ended.counts.ended, ended.counts.running) == (1, 0)
        assert not finish(chunks, held)
        assert finish(chunks, done)  # the same as before
        assert chunks.renew([held.key], LONG_S) == {held.key}
        assert chunks.release(held.key) in {True, False}
        time.sleep(0.005)
        assert chunks.reap(MANY) == []
        assert not chunks.release(lapsed.key)
        assert chunks.claim("grabcut", "w", LONG_S) is None
        assert chunks.waiting("grabcut") == (0, 0)
        assert batches.get("default", batch.id) == ended
        assert batches.ended_chunks(batch.id, 1, 4) == [EndedChunk(1, 1, CHUNK_OF, 0, 0)]

    def test_a_chunk_of_a_deleted_batch_is_lost(self, batches: BatchStore, chunks: ChunkStore) -> None:
        batch = submit(batches, 2)
        held, lapsed = claim(chunks), claim(chunks, LAPSED_S)
        batches.delete("default", batch.id)
        assert chunks.renew([held.key], LONG_S) == {held.key}
        assert not finish(chunks, held)
        chunks.release(held.key)
        time.sleep(0.005)
        assert chunks.reap(MANY) == []
        assert not chunks.release(lapsed.key)
        assert chunks.claim("grabcut", "w", LONG_S) is None
        assert batches.all("default") == []
