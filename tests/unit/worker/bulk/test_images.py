"""The images of a chunk: neighbours in a pack are read together, and nothing beyond what is wanted."""

from dataclasses import dataclass, field
from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskline.adapters.memory import MemoryArtifactStore
from maskline.batch_artifacts import pack_key
from maskline.batch_items import PackedImage
from maskline.errors import ImageTooLarge, ImageUnreachable
from maskline.jobs import ImageRef
from worker.bulk.images import ChunkImages
from worker.fetching import Fetch

PACK = bytes(n % 251 for n in range(1000))


@dataclass
class Watched(MemoryArtifactStore):
    """Remembers what is read of packs."""

    reads: list[tuple[str, int, int]] = field(default_factory=list)

    def part(self, key: str, start: int, length: int) -> bytes:
        self.reads.append((key, start, length))
        return super().part(key, start, length)


@pytest.fixture
def artifacts() -> Watched:
    store = Watched()
    store.put(pack_key("b", 1), PACK, "")
    store.put(pack_key("b", 2), PACK[::-1], "")
    return store


def never(image: ImageRef, attempt: int = 0) -> bytes:
    raise AssertionError(image)


def images_of(
    artifacts: MemoryArtifactStore,
    *images: ImageRef | PackedImage,
    fetch: Fetch = never,
    most: int = 600,
) -> ChunkImages:
    return ChunkImages("b", images, artifacts, fetch, most=most, attempt=3)


def packed(offset: int, length: int, pack: int = 1) -> PackedImage:
    return PackedImage(pack=pack, offset=offset, length=length)


def test_neighbours_are_read_at_once(artifacts: Watched) -> None:
    wanted = [packed(0, 10), packed(10, 20), packed(50, 5), packed(12, 4), packed(7, 9, pack=2)]
    images = images_of(artifacts, *wanted)
    for image in wanted:
        content = PACK if image.pack == 1 else PACK[::-1]
        assert images.get(image) == content[image.offset : image.offset + image.length]
    assert artifacts.reads == [(pack_key("b", 1), 0, 55), (pack_key("b", 2), 7, 9)]


@given(
    st.lists(st.tuples(st.integers(1, 2), st.integers(0, 900), st.integers(1, 90)), min_size=1, max_size=20),
    st.integers(1, 200),
)
def test_any_images_of_packs_come_whole(told: list[tuple[int, int, int]], most: int) -> None:
    artifacts = Watched()
    artifacts.put(pack_key("b", 1), PACK, "")
    artifacts.put(pack_key("b", 2), PACK[::-1], "")
    wanted = [packed(offset, length, pack) for pack, offset, length in told]
    with pytest.MonkeyPatch.context() as small:
        small.setattr("worker.bulk.images._SPAN_BYTES", most)
        images = images_of(artifacts, *wanted)
        for image in wanted:
            content = PACK if image.pack == 1 else PACK[::-1]
            assert images.get(image) == content[image.offset : image.offset + image.length]
    longest = max(image.length for image in wanted)
    assert all(length <= max(most, longest) for _, _, length in artifacts.reads)


def test_in_their_order_each_span_is_read_once(artifacts: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.bulk.images._SPAN_BYTES", 100)
    ends = list(accumulate([30] * 30))
    wanted = [packed(start, 30) for start, _ in pairwise([0, *ends])]
    images = images_of(artifacts, *wanted)
    for before, image in pairwise(wanted):  # side by side, those at a border in either order
        images.get(image)
        images.get(before)
    assert [start for _, start, _ in artifacts.reads] == list(range(0, 900, 90))


def test_what_is_not_in_the_pack_is_told(artifacts: Watched) -> None:
    beyond, absent, large = packed(990, 20), packed(0, 1, pack=9), packed(0, 601)
    far = packed(5000, 1)
    images = images_of(artifacts, beyond, absent, large, far)
    with pytest.raises(ImageUnreachable, match="ends before its byte 1010"):
        images.get(beyond)
    with pytest.raises(ImageUnreachable, match="ends before its byte 5001"):
        images.get(far)
    with pytest.raises(ImageUnreachable, match="there is no pack 9"):
        images.get(absent)
    with pytest.raises(ImageTooLarge, match="601 bytes; at most 600"):
        images.get(large)


def test_other_images_are_fetched(artifacts: Watched) -> None:
    ref = ImageRef(uri="s3://imports/a.png")

    def fetch(image: ImageRef, attempt: int = 0) -> bytes:
        return f"{image.uri} {attempt}".encode()

    assert images_of(artifacts, ref, fetch=fetch).get(ref) == b"s3://imports/a.png 3"
    assert artifacts.reads == []
