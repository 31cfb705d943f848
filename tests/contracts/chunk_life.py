"""The rules of chunks, held against any order of calls: a state machine for hypothesis.

It keeps what it expects in plain dictionaries, and asks the store the same after every step.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from maskline.batches import Batch, BatchState, ChunkKey
from maskline.ports import BatchStore, ChunkStore
from tests.contracts.batch_store import CHUNK_OF, KEPT_S, LONG_S, MANY, end_of, make_batch, plans
from tests.contracts.chunk_store import LAPSED_S

TENANTS = ("a", "b", "c")
LINES = st.integers(1, 3)


class Stores(NamedTuple):
    """Both sides of one store."""

    batches: BatchStore
    chunks: ChunkStore


@dataclass
class Part:
    """What the machine knows of a chunk."""

    attempt: int = 0
    is_held: bool = False
    has_lapsed: bool = False
    losses: int = 0
    hand: int | None = None
    suspects: dict[int, int] = field(default_factory=dict)
    ended: tuple[int, int] | None = None
    """The attempt, and the items that failed."""


@dataclass
class Expected:
    """What the machine knows of a batch."""

    batch: Batch
    parts: dict[int, Part] = field(default_factory=dict)
    is_paused: bool = False
    is_cancelling: bool = False
    is_over: bool = False

    @property
    def may_run(self) -> bool:
        """Whether chunks of it are handed out."""
        return not (self.is_paused or self.is_cancelling or self.is_over)


class ChunkLife(RuleBasedStateMachine):
    """Any clients, leaders and workers over one store."""

    batches = Bundle("batches")

    def __init__(self, stores: Stores) -> None:
        super().__init__()
        self.stores = stores
        self.expected: dict[str, Expected] = {}
        self.served: dict[str, int] = {}
        self.turn = 0

    # -- what clients and leaders do

    @rule(target=batches, tenant=st.sampled_from(TENANTS))
    def create(self, tenant: str) -> str:
        batch = make_batch(tenant, created_ms=1_000 + len(self.expected))
        self.stores.batches.create(batch, MANY)
        self.expected[batch.id] = Expected(batch)
        return batch.id

    @rule(batch_id=batches, count=st.integers(1, 3))
    def cut(self, batch_id: str, count: int) -> None:
        known = self.expected[batch_id]
        if known.is_over:
            return
        batch = self._read(known)
        first = batch.progress.chunks + 1
        progress = batch.progress.model_copy(
            update={"state": BatchState.RUNNING, "chunks": batch.progress.chunks + count}
        )
        assert self.stores.batches.save(batch, progress, KEPT_S, plans(count, first))
        known.parts |= {number: Part() for number in range(first, first + count)}

    @rule(batch_id=batches, is_paused=st.booleans())
    def pause(self, batch_id: str, is_paused: bool) -> None:
        known = self.expected[batch_id]
        self.stores.batches.pause(known.batch.tenant, batch_id, is_paused=is_paused)
        known.is_paused = is_paused and not known.is_over

    @rule(batch_id=batches)
    def cancel(self, batch_id: str) -> None:
        known = self.expected[batch_id]
        self.stores.batches.cancel(known.batch.tenant, batch_id)
        known.is_cancelling = known.is_cancelling or not known.is_over

    @rule(batch_id=batches, has_to=st.integers(0, 3))
    def end(self, batch_id: str, has_to: int) -> None:
        """Seldom, or there is nothing left to try."""
        known = self.expected[batch_id]
        if known.is_over or has_to:
            return
        batch = self._read(known)
        progress = batch.progress.model_copy(update={"state": BatchState.CANCELLED})
        assert self.stores.batches.save(batch, progress, KEPT_S)
        known.is_over, known.is_paused = True, False

    # -- what workers do

    @rule(lapses=st.booleans())
    def claim(self, lapses: bool) -> None:
        claimed = self.stores.chunks.claim("grabcut", "w", LAPSED_S if lapses else LONG_S)
        wanted = self._next()
        assert (claimed and (claimed.batch, claimed.number)) == wanted
        if claimed is None:
            return
        known = self.expected[claimed.batch]
        part = known.parts[claimed.number]
        assert claimed.attempt > part.attempt
        assert (claimed.losses, claimed.suspects) == (part.losses, part.suspects)
        part.attempt, part.is_held, part.has_lapsed = claimed.attempt, True, lapses
        self.turn += 1
        self.served[known.batch.tenant] = self.turn

    @rule(batch_id=batches, number=st.integers(1, 5), back=st.integers(0, 1), failed=st.integers(0, 2))
    def finish(self, batch_id: str, number: int, back: int, failed: int) -> None:
        """By the latest attempt or one before it."""
        known, part = self.expected[batch_id], self._part(batch_id, number)
        if number not in known.parts:  # only who held it before the store lost its memory would ask
            return
        attempt = part.attempt - back
        holds = self._holds(batch_id, number, attempt)
        had_ended_so = part.ended is not None and part.ended[0] == attempt
        end = end_of(number, attempt, failed)
        key = ChunkKey(batch_id, number, attempt)
        assert self.stores.chunks.finish(key, end, CHUNK_OF) == (holds or had_ended_so)
        if holds:
            known.parts[number] = Part(attempt=attempt, ended=(attempt, failed))

    @rule(batch_id=batches, number=st.integers(1, 5), back=st.integers(0, 1))
    def release(self, batch_id: str, number: int, back: int) -> None:
        known, part = self.expected[batch_id], self._part(batch_id, number)
        attempt = part.attempt - back
        is_held = part.is_held and attempt == part.attempt
        released = self.stores.chunks.release(ChunkKey(batch_id, number, attempt))
        assert released == is_held
        if is_held and not known.is_over:
            part.is_held, part.hand = False, None
        elif is_held:
            part.is_held = False

    @rule(batch_id=batches, number=st.integers(1, 5), back=st.integers(0, 1))
    def renew(self, batch_id: str, number: int, back: int) -> None:
        part = self._part(batch_id, number)
        key = ChunkKey(batch_id, number, part.attempt - back)
        holds = self._holds(*key)
        assert self.stores.chunks.renew([key], LONG_S) == (set() if holds else {key})
        if holds:
            part.has_lapsed = False

    @rule(batch_id=batches, number=st.integers(1, 5), back=st.integers(0, 1), line=LINES)
    def take_in_hand(self, batch_id: str, number: int, back: int, line: int) -> None:
        part = self._part(batch_id, number)
        key = ChunkKey(batch_id, number, part.attempt - back)
        holds = self._holds(*key)
        assert self.stores.chunks.take_in_hand(key, line) == holds
        if holds:
            part.hand = line

    @rule()
    def reap(self) -> None:
        time.sleep(0.003)
        returned = set()
        for batch_id, known in self.expected.items():
            for number, part in known.parts.items():
                if not part.is_held or not part.has_lapsed:
                    continue
                part.is_held = False
                if known.is_over:
                    continue
                if part.hand is not None:
                    part.losses += 1
                    part.suspects[part.hand] = part.suspects.get(part.hand, 0) + 1
                    part.hand = None
                returned.add(ChunkKey(batch_id, number, part.attempt))
        assert set(self.stores.chunks.reap(MANY)) == returned

    # -- what always holds

    @invariant()
    def every_batch_is_as_expected(self) -> None:
        for batch_id, known in self.expected.items():
            counts = self._read(known).counts
            ends = {number: part.ended for number, part in known.parts.items() if part.ended is not None}
            failed = sum(of_it for _, of_it in ends.values())
            held = sum(part.is_held for part in known.parts.values())
            assert (counts.ended, counts.failed) == (len(ends), failed)
            assert counts.succeeded == CHUNK_OF * len(ends) - failed
            assert counts.running == (0 if known.is_over else CHUNK_OF * held)
            told = self.stores.batches.ended_chunks(batch_id, 1, len(known.parts))
            assert [(one.number, one.attempt, one.failed) for one in told] == [
                (number, *ends[number]) for number in sorted(ends)
            ]

    @invariant()
    def nothing_is_lost(self) -> None:
        waiting = sum(
            not part.is_held and part.ended is None
            for known in self.expected.values()
            for part in known.parts.values()
            if not known.is_over and not known.is_paused
        )
        held = sum(part.is_held for known in self.expected.values() for part in known.parts.values())
        assert self.stores.chunks.waiting("grabcut") == (waiting, held)

    # -- what the machine expects

    def _read(self, known: Expected) -> Batch:
        return self.stores.batches.get(known.batch.tenant, known.batch.id)

    def _part(self, batch_id: str, number: int) -> Part:
        return self.expected[batch_id].parts.get(number, Part())

    def _holds(self, batch_id: str, number: int, attempt: int) -> bool:
        known, part = self.expected[batch_id], self._part(batch_id, number)
        is_wanted = not known.is_over and not known.is_cancelling
        return is_wanted and part.is_held and attempt == part.attempt

    def _next(self) -> tuple[str, int] | None:
        """The first chunk of the oldest batch of the tenant that was served longest ago."""
        first: dict[str, tuple[str, int]] = {}
        for batch_id, known in self.expected.items():
            ready = [n for n, part in known.parts.items() if not part.is_held and part.ended is None]
            if known.may_run and ready:
                first.setdefault(known.batch.tenant, (batch_id, min(ready)))
        if not first:
            return None
        oldest_first = list(first)
        return first[min(oldest_first, key=lambda tenant: self.served.get(tenant, 0))]


def hold_chunks_to_the_rules(make_stores: Callable[[], Stores], examples: int) -> None:
    """Try ``examples`` orders of calls, each on a store of its own."""
    run_state_machine_as_test(
        lambda: ChunkLife(make_stores()),  # type: ignore[arg-type]  # any factory will do
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            derandomize=True,
        ),
    )
