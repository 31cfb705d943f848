"""Parts cut into chunks: their lines are those of the part, whoever cuts, and wherever a block ends."""

from codecs import BOM_UTF8
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from maskline.adapters.memory import MemoryArtifactStore
from maskline.batch_artifacts import part_key, round_key
from maskline.batches import Batch, BatchRequest, ChunkPlan, ItemForm, Progress, Source, SourceKind
from maskline.errors import ArtifactNotFound
from maskline.requests import SegmentationRequest
from worker.bulk.cutting import Cutter
from worker.bulk.lines import id_of, lines_of, text_of

BLOCKS = st.integers(8, 60)
TOKENS = st.sampled_from(
    [
        b"\n",
        b"\n",
        b"\r\n",
        b" ",
        b"\t",
        b"a",
        b"{}",
        b'{"id":"x"}',
        b'{"id":"y"}\n',
        b'{"id":"3"}\n',
        BOM_UTF8,
    ]
)
PARTS = st.lists(st.lists(TOKENS, max_size=30).map(b"".join), min_size=1, max_size=3)


def batch_of(
    artifacts: MemoryArtifactStore, *parts: bytes, form: ItemForm = ItemForm.ITEM, sources: int = 0
) -> Batch:
    for number, text in enumerate(parts, 1):
        artifacts.put(part_key("1", number), text, "application/jsonl")
    source = Source(kind=SourceKind.IMAGES, bucket="imports", key="a/")
    return Batch(
        id="1",
        tenant="default",
        request=BatchRequest(
            request=SegmentationRequest(model="grabcut"), form=form, sources=(source,) * sources
        ),
        created_ms=1,
        parts=len(parts),
    )


def cut_all(
    batch: Batch, artifacts: MemoryArtifactStore, is_taken_over: Callable[[], bool] = lambda: False
) -> tuple[list[ChunkPlan], Progress]:
    """All chunks; ``is_taken_over``: whether another cutter goes on."""
    cutter, chunks = Cutter(artifacts), list[ChunkPlan]()
    while batch.progress.part < batch.parts:
        if is_taken_over():
            cutter = Cutter(artifacts)
        cut = cutter.cut(batch)
        chunks += cut.chunks
        batch = replace(batch, progress=cut.progress)
    return chunks, batch.progress


def lines_in(data: bytes) -> list[bytes]:
    lines = data.split(b"\n")
    return lines if lines[-1] else lines[:-1]


@given(PARTS, BLOCKS, st.integers(1, 4), st.integers(4, 40), st.lists(st.booleans(), max_size=20))
@example([BOM_UTF8 + b'{"id":"x"}\n{"id":"x"}\n', BOM_UTF8 + b"\n\n"], 60, 4, 40, [])
@example([b"a" * 8, b"b" * 16 + b"\n", b"c"], 8, 4, 40, [True] * 9)
def test_chunks_hold_the_lines_of_the_parts(
    parts: list[bytes], block: int, most_items: int, most_bytes: int, takes_over: list[bool]
) -> None:
    whole = [line for part in parts for line in lines_in(part)]
    # Of a line that is longer than a block only the first block counts, and that must say something.
    assume(all(text_of(line[:block]) for line in whole if len(line) >= block and text_of(line)))
    with pytest.MonkeyPatch.context() as small:
        small.setattr("worker.bulk.cutting._BLOCK_BYTES", block)
        small.setattr("worker.bulk.cutting.CHUNK_ITEMS", most_items)
        small.setattr("worker.bulk.cutting.MAX_CHUNK_BYTES", most_bytes)
        artifacts = MemoryArtifactStore()
        batch = batch_of(artifacts, *parts)
        chunks, progress = cut_all(batch, artifacts)
        switches = iter(takes_over)
        assert cut_all(batch, artifacts, lambda: next(switches, False)) == (chunks, progress)

    read: dict[int, bytes] = {}
    repeated: dict[int, int] = {}
    for chunk in chunks:
        items = list(
            lines_of(artifacts.part(part_key("1", chunk.part), chunk.offset, chunk.length), chunk.line)
        )
        assert len(items) == chunk.items <= most_items
        assert chunk.length <= most_bytes + 1 or chunk.items == 1
        assert not read.keys() & {item.number for item in items}
        read |= {item.number: item.text for item in items}
        repeated |= chunk.repeated
    with_text = {number: text for number, line in enumerate(whole, 1) if (text := text_of(line))}
    assert read.keys() == with_text.keys()
    for number, text in with_text.items():
        assert read[number] == text or (len(whole[number - 1]) >= block and text.startswith(read[number]))
    assert (progress.part, progress.offset, progress.line) == (len(parts), 0, len(whole))
    assert (progress.items, progress.chunks) == (len(with_text), len(chunks))

    first: dict[str, int] = {}
    assert repeated == {
        number: first[name]
        for number, text in sorted(read.items())
        if first.setdefault(name := id_of(text, number), number) != number
    }


def test_a_step_that_is_taken_again_gives_the_same() -> None:
    artifacts = MemoryArtifactStore()
    batch = batch_of(artifacts, b'{"id":"a"}\n', b'{"id":"a"}\n{"id":"b"}\n')
    cutter = Cutter(artifacts)
    first = cutter.cut(batch)
    assert cutter.cut(batch) == first
    batch = replace(batch, progress=first.progress)
    second = cutter.cut(batch)
    assert second.chunks[0].repeated == {2: 1}
    assert cutter.cut(batch) == second
    cutter.forget(batch.id)
    assert cutter.cut(batch) == second


def test_a_line_without_end_is_one_item_and_the_next_begins_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.bulk.cutting._BLOCK_BYTES", 100)
    artifacts = MemoryArtifactStore()
    chunks, progress = cut_all(batch_of(artifacts, b"a\n" + b"x" * 1000 + b"\nb"), artifacts)
    assert [(chunk.line, chunk.offset, chunk.items) for chunk in chunks] == [
        (1, 0, 1),
        (2, 2, 1),
        (3, 1003, 1),
    ]
    assert (progress.items, progress.line) == (3, 3)


def test_parts_that_the_service_made_hold_no_repetitions() -> None:
    artifacts = MemoryArtifactStore()
    line = b'{"id":"a"}\n'
    chunks, _ = cut_all(batch_of(artifacts, 2 * line, 2 * line, sources=1), artifacts)
    assert [(chunk.form, chunk.repeated) for chunk in chunks] == [
        (ItemForm.NOTED, {}),
        (ItemForm.ITEM, {4: 3}),
    ]


def test_items_that_are_tried_anew_are_no_more_items() -> None:
    artifacts = MemoryArtifactStore()
    artifacts.put(round_key("1", 1), b"b\n", "")
    batch = replace(batch_of(artifacts, b"a\nb\n"), parts=2)
    batch = replace(batch, progress=Progress(part=1, line=2, items=2, chunks=1, rounds=1, first_of_round=2))
    chunks, progress = cut_all(batch, artifacts)
    assert [(c.form, c.round, c.line, c.items) for c in chunks] == [(ItemForm.NOTED, 1, 3, 1)]
    assert (progress.items, progress.chunks, progress.line) == (2, 2, 3)


def test_a_part_that_is_gone_is_told() -> None:
    artifacts = MemoryArtifactStore()
    batch = batch_of(artifacts, b"a\n")
    with pytest.raises(ArtifactNotFound):
        Cutter(artifacts).cut(replace(batch, parts=2, progress=Progress(part=1)))
