"""Cutting parts into chunks: which bytes of which part a worker will run as one."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from maskline.batch_artifacts import part_key, round_key
from maskline.batch_items import MAX_ITEM_BYTES
from maskline.batches import CHUNK_ITEMS, MAX_CHUNK_BYTES, Batch, ChunkPlan, ItemForm, Progress
from maskline.ports import ArtifactStore
from worker.bulk.lines import id_of, text_of
from worker.bulk.seen_ids import SeenIds

_BLOCK_BYTES = 4 * MAX_ITEM_BYTES  # read at once: a few chunks of long lines, hundreds of short ones


@dataclass(frozen=True, kw_only=True, slots=True)
class Cut:
    """Some more chunks, and the progress of the batch with them."""

    chunks: tuple[ChunkPlan, ...]
    progress: Progress


@dataclass(kw_only=True)
class _Position:
    seen: SeenIds = field(default_factory=SeenIds)
    part: int = 0
    offset: int = 0
    line: int = 0


class Cutter:
    """Cuts the parts of batches, block by block. It remembers the ids of each batch that it cuts; one that
    another worker began to cut is read again from its beginning for them."""

    def __init__(self, artifacts: ArtifactStore) -> None:
        self._artifacts = artifacts
        self._positions: dict[str, _Position] = {}

    def cut(self, batch: Batch) -> Cut:
        """The chunks of the next block; it may be none, although there are more to come.

        Raises:
            ArtifactNotFound: a part is gone.
            ArtifactStoreUnavailable: the store does not answer.
        """
        position = self._position_of(batch)
        progress = batch.progress
        is_known = bool(batch.round_of(progress.part + 1))
        chunks, offset, line, is_over = self._cut_block(batch, position)
        return Cut(
            chunks=tuple(chunks),
            progress=progress.model_copy(
                update={
                    "part": progress.part + is_over,
                    "offset": 0 if is_over else offset,
                    "line": line,
                    "items": progress.items + (0 if is_known else sum(chunk.items for chunk in chunks)),
                    "chunks": progress.chunks + len(chunks),
                }
            ),
        )

    def forget_all(self) -> None:
        """Let all that was remembered go."""
        self._positions.clear()

    def forget(self, batch_id: str) -> None:
        """Let what was remembered of a batch go."""
        self._positions.pop(batch_id, None)

    def _position_of(self, batch: Batch) -> _Position:
        progress = batch.progress
        wanted = (progress.part, progress.offset)
        position = self._positions.get(batch.id)
        if position is None or (position.part, position.offset) != wanted:
            position = self._positions[batch.id] = _Position()
            while (position.part, position.offset) < wanted:
                self._cut_block(batch, position)
        return position

    def _cut_block(self, batch: Batch, position: _Position) -> tuple[list[ChunkPlan], int, int, bool]:
        """The chunks of the block at the position, which moves on: where and at what line the next begins,
        and whether the part is over."""
        part = position.part + 1
        form, of_round = batch.form_of(part), batch.round_of(part)
        key = round_key(batch.id, of_round) if of_round else part_key(batch.id, part)
        block = self._artifacts.part(key, position.offset, _BLOCK_BYTES)
        is_last = len(block) < _BLOCK_BYTES
        whole = len(block) if is_last else block.rfind(b"\n") + 1
        skipped = 0
        if not whole and not is_last:  # one line that is longer than any may be
            whole = len(block)
            skipped = self._rest_of_line(key, position.offset + whole)
        lines = list(enumerate(_lines(block[:whole]), position.line + 1))
        repeated = _repeated(lines, position.seen) if form is ItemForm.ITEM else {}
        chunks: list[ChunkPlan] = []
        offset, end = position.offset, position.offset + whole
        for group in _groups(lines):
            size = min(sum(len(line) + 1 for _, line in group), end - offset)
            numbers = [number for number, line in group if text_of(line)]
            if numbers:
                chunks.append(
                    ChunkPlan(
                        part=part,
                        round=of_round,
                        form=form,
                        offset=offset,
                        length=size,
                        line=group[0][0],
                        items=len(numbers),
                        repeated={n: repeated[n] for n in numbers if n in repeated} if repeated else {},
                    )
                )
            offset += size
        position.line += len(lines)
        position.offset += whole + skipped
        if is_last:
            position.part, position.offset = position.part + 1, 0
        return chunks, position.offset, position.line, is_last

    def _rest_of_line(self, key: str, start: int) -> int:
        """How many bytes of the line come after ``start``, with its end."""
        length = 0
        while block := self._artifacts.part(key, start + length, _BLOCK_BYTES):
            end = block.find(b"\n")
            if end >= 0:
                return length + end + 1
            length += len(block)
        return length


def _lines(block: bytes) -> list[bytes]:
    """The lines of a block, without their ends."""
    lines = block.split(b"\n")
    if not lines[-1]:
        lines.pop()
    return lines


def _groups(lines: Iterable[tuple[int, bytes]]) -> Iterator[list[tuple[int, bytes]]]:
    """As many lines together as a chunk may have."""
    group: list[tuple[int, bytes]] = []
    items, size = 0, 0
    for number, line in lines:
        if items == CHUNK_ITEMS or size + len(line) > MAX_CHUNK_BYTES:
            yield group
            group, items, size = [], 0, 0
        group.append((number, line))
        items += bool(text_of(line))
        size += len(line) + 1
    if group:
        yield group


def _repeated(lines: Iterable[tuple[int, bytes]], seen: SeenIds) -> Mapping[int, int]:
    with_items = [(number, text) for number, line in lines if (text := text_of(line))]
    return seen.add(
        [id_of(text, number) for number, text in with_items], [number for number, _ in with_items]
    )
