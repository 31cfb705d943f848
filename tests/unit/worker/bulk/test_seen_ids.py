"""Which ids a batch has had, held against a dictionary."""

from hypothesis import given
from hypothesis import strategies as st

from worker.bulk.seen_ids import SeenIds

IDS = st.one_of(st.sampled_from(["a", "b", "c", "", "1"]), st.text(max_size=3))


@given(st.lists(st.lists(IDS, max_size=12), max_size=8))
def test_the_first_line_of_each_id_is_known(blocks: list[list[str]]) -> None:
    seen, first, line = SeenIds(), {}, 0  # type: tuple[SeenIds, dict[str, int], int]
    for ids in blocks:
        lines = [line := line + 1 for _ in ids]
        expected = {
            n: first[name] for name, n in zip(ids, lines, strict=True) if first.setdefault(name, n) != n
        }
        assert seen.add(ids, lines) == expected


def test_many_ids_are_told_apart() -> None:
    seen = SeenIds()
    for start in range(0, 200_000, 20_000):
        numbers = range(start + 1, start + 20_001)
        assert seen.add([f"photo-{n}.jpg" for n in numbers], numbers) == {}
    assert seen.add(["photo-7.jpg", "photo-200000.jpg", "new"], [200_001, 200_002, 200_003]) == {
        200_001: 7,
        200_002: 200_000,
    }
