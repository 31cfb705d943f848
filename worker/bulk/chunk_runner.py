"""Chunks, from their claim to their end: a worker runs one after the other, and reads the next one's lines
meanwhile.

The items of a chunk go through the model as one pipeline. After a chunk has lost a worker its items are run
one by one, each of which is noted first, so that the one whose fault it is becomes known, and the others end
well.
"""

import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from threading import Lock, Semaphore

import structlog

from maskline.batch_artifacts import Shard, chunk_end_key, part_key, round_key, shard_key
from maskline.batches import ALL_LINES, Chunk, ChunkKey, ChunkPlan, ItemForm
from maskline.errors import DependencyError, ServiceError, WorkerLost
from maskline.jobs import Failure
from maskline.ports import ArtifactStore, ChunkStore
from maskline.settings import Settings
from worker.bulk.chunk_keeper import ChunkKeeper, ChunkLease
from worker.bulk.failures import BROKEN
from worker.bulk.images import ChunkImages
from worker.bulk.item_runner import ItemRunner, Labelled
from worker.bulk.lines import Item, lines_of, read_item
from worker.bulk.shard_files import ShardFiles
from worker.fetching import Fetch
from worker.leases import LeaseLost

logger = structlog.get_logger(module=__name__)

_SHARE_S = 10.0
_AT_ONCE = 2  # chunks of a model: one is run, and one is read
_THREADS = 64


_Outcome = tuple[Item, Labelled | Failure]


class ChunkRunner:
    """Runs chunks in the thread that calls."""

    def __init__(
        self,
        *,
        worker: str,
        chunks: ChunkStore,
        keeper: ChunkKeeper,
        artifacts: ArtifactStore,
        fetch: Fetch,
        items: ItemRunner,
        items_at_once: Callable[[str], int],
        settings: Settings,
        is_closing: Callable[[], bool],
    ) -> None:
        """``worker``: its name; ``fetch``: gives an image's bytes; ``items_at_once``: how many items of a
        model are decoded, run and rendered side by side; ``is_closing``: whether no more chunks are to begin.
        """
        self._worker = worker
        self._chunks = chunks
        self._keeper = keeper
        self._artifacts = artifacts
        self._fetch = fetch
        self._items = items
        self._items_at_once = items_at_once
        self._import_buckets = settings.import_buckets
        self._max_image_bytes = settings.max_image_bytes
        self._max_attempts = settings.max_attempts
        self._lease_s = settings.lease
        self._is_closing = is_closing
        self._rooms: defaultdict[str, Semaphore] = defaultdict(lambda: Semaphore(_AT_ONCE))
        self._turns: defaultdict[str, Lock] = defaultdict(Lock)
        self._pool = ThreadPoolExecutor(_THREADS, "items")

    def run(self, model: str) -> None:
        """Run chunks of this model for a while; with enough of them in hand there is nothing to do.

        The leader calls again, so that others that wait for this thread have their turn between.

        Raises:
            DependencyError: Redis or the bucket does not answer; what was in hand comes back.
        """
        room = self._rooms[model]
        if not room.acquire(blocking=False):
            return
        try:
            until = time.monotonic() + _SHARE_S
            while not self._is_closing() and time.monotonic() < until:
                chunk = self._chunks.claim(model, self._worker, self._lease_s)
                if chunk is None:
                    return
                self._hold(chunk, model)
        finally:
            room.release()

    def _hold(self, chunk: Chunk, model: str) -> None:
        context = {"batch": chunk.batch, "tenant": chunk.tenant, "chunk": chunk.number}
        with structlog.contextvars.bound_contextvars(**context), self._keeper.holding(chunk.key) as lease:
            items: Sequence[Item] = ()
            try:
                items = self._read(chunk)
                with self._turns[model]:
                    lease.check()
                    lease.is_running = True
                    self._end(chunk, lease, self._outcomes(chunk, items))
            except LeaseLost:
                logger.info("chunk lost")
                self._discard(chunk.key)
            except DependencyError as error:
                logger.warning("chunk given back", code=error.code)
                with suppress(DependencyError):
                    self._chunks.release(chunk.key)
                raise
            except Exception:
                logger.exception("chunk failed")
                self._end(chunk, lease, [(item, BROKEN) for item in items or _unread(chunk.plan)])

    def _end(self, chunk: Chunk, lease: ChunkLease, outcomes: Iterable[_Outcome]) -> None:
        lease.check()
        with ShardFiles(chunk.key, chunk.request) as files:
            for item, outcome in outcomes:
                files.add(item, outcome)
                lease.check()
            end = files.store(self._artifacts)
            if self._chunks.finish(chunk.key, end, chunk.plan.items):
                logger.info("chunk ended", succeeded=end.succeeded, failed=end.failed)
            else:
                raise LeaseLost

    def _read(self, chunk: Chunk) -> list[Item]:
        plan = chunk.plan
        key = round_key(chunk.batch, plan.round) if plan.round else part_key(chunk.batch, plan.part)
        data = self._artifacts.part(key, plan.offset, plan.length)
        items = (
            read_item(line, plan.form, chunk.request, self._import_buckets)
            for line in lines_of(data, plan.line)
        )
        return [_once(item, plan.repeated.get(item.line)) for item in items]

    def _outcomes(self, chunk: Chunk, items: Sequence[Item]) -> Iterator[_Outcome]:
        """Each item with what came of it, in their order."""
        images = ChunkImages(
            chunk.batch,
            [item.image for item in items if item.image is not None],
            self._artifacts,
            self._fetch,
            most=self._max_image_bytes,
            attempt=chunk.attempt,
        )

        def run(item: Item) -> _Outcome:
            return item, self._items.run(item, images, chunk.request.review)

        logger.info("chunk begun", items=len(items))
        if not chunk.losses:
            self._take_in_hand(chunk, ALL_LINES)
            yield from self._side_by_side(run, items, self._items_at_once(chunk.request.request.model or ""))
            return
        for item in items:
            if chunk.suspects.get(item.line, 0) >= self._max_attempts - 1:
                message = f"{self._max_attempts} workers were lost while they ran it"
                yield item, Failure(code=WorkerLost.code, message=message)
                continue
            self._take_in_hand(chunk, item.line)
            yield run(item)

    def _take_in_hand(self, chunk: Chunk, line: int) -> None:
        if not self._chunks.take_in_hand(chunk.key, line):
            raise LeaseLost

    def _side_by_side(
        self, run: Callable[[Item], _Outcome], items: Sequence[Item], at_once: int
    ) -> Iterator[_Outcome]:
        remaining = iter(items)
        under_way: deque[Future[_Outcome]] = deque(
            self._pool.submit(run, item) for item in islice(remaining, at_once)
        )
        try:
            while under_way:
                outcome = under_way.popleft().result()
                under_way.extend(self._pool.submit(run, item) for item in islice(remaining, 1))
                yield outcome
        finally:
            for future in under_way:
                future.cancel()

    def _discard(self, chunk: ChunkKey) -> None:
        # A file that stays behind when this fails is one that no record names; it goes with its batch.
        with suppress(ServiceError):
            self._artifacts.delete([*(shard_key(chunk, shard) for shard in Shard), chunk_end_key(chunk)])


def _unread(plan: ChunkPlan) -> list[Item]:
    """The items of a chunk that could not be read, of which no more is known than how many there are."""
    form = ItemForm.ITEM if plan.form is ItemForm.NOTED else plan.form
    return [
        Item(id=str(line), line=line, instance=None, form=form)
        for line in range(plan.line, plan.line + plan.items)
    ]


def _once(item: Item, first_line: int | None) -> Item:
    """The item, which has failed if an earlier one has its id."""
    if first_line is None or item.failure is not None:
        return item
    message = f"line {first_line} has the id {item.id!r} too; give each item an id of its own"
    return replace(item, failure=Failure(code="repeated_item", message=message))
