"""Images of clients' buckets, where the store does not give them."""

from dataclasses import dataclass

import pytest

from maskline.adapters.memory import MemoryArtifactStore
from maskline.errors import ArtifactStoreUnavailable, ImageUnreachable
from maskline.jobs import PER_EPOCH, ImageRef
from worker.fetching import LAST_ATTEMPT, Fetch, fetcher

IMAGE = ImageRef(uri="s3://imports/a.png", media_type="image/png")


@dataclass
class Failing(MemoryArtifactStore):
    """Fails so many times for objects, and for its own bucket if it is away."""

    fails: int = 99
    is_away: bool = False

    def get(self, key: str, *, bucket: str | None = None, max_bytes: int | None = None) -> bytes:
        self.fails -= 1
        if self.fails >= 0:
            raise ArtifactStoreUnavailable("500")
        return b"image"

    def check(self) -> None:
        if self.is_away:
            raise ArtifactStoreUnavailable("no answer")


@pytest.fixture(autouse=True)
def pauses_s(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    slept: list[float] = []
    monkeypatch.setattr("worker.fetching.time.sleep", slept.append)
    return slept


def fetch_from(store: MemoryArtifactStore) -> Fetch:
    def no_url(url: str, most: int) -> bytes:
        raise AssertionError(url)

    return fetcher(store, no_url, 100)


@pytest.mark.parametrize("attempt", [0, 1, LAST_ATTEMPT - 1, PER_EPOCH + 1, PER_EPOCH + LAST_ATTEMPT - 1])
def test_an_object_that_can_not_be_had_is_waited_for(attempt: int, pauses_s: list[float]) -> None:
    with pytest.raises(ArtifactStoreUnavailable):
        fetch_from(Failing())(IMAGE, attempt)
    assert pauses_s == [1.0]


@pytest.mark.parametrize("attempt", [LAST_ATTEMPT, LAST_ATTEMPT + 1, PER_EPOCH + LAST_ATTEMPT])
def test_it_is_given_up_once_it_alone_can_not_be_had_for_long(attempt: int) -> None:
    with pytest.raises(ImageUnreachable, match="can't be read: its store answered with errors"):
        fetch_from(Failing())(IMAGE, attempt)


def test_a_store_that_is_away_is_waited_for() -> None:
    with pytest.raises(ArtifactStoreUnavailable, match="no answer"):
        fetch_from(Failing(is_away=True))(IMAGE, LAST_ATTEMPT)


def test_a_store_that_was_away_until_now_gives_it() -> None:
    assert fetch_from(Failing(fails=1))(IMAGE, LAST_ATTEMPT) == b"image"
