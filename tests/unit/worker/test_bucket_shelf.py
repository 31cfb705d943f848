"""What workers leave each other in the bucket."""

from datetime import date, timedelta
from typing import Any

import pytest

from maskline.adapters.memory import MemoryArtifactStore
from maskline.errors import ArtifactStoreUnavailable
from worker.bucket_shelf import BucketShelf

DAY = date(2026, 3, 1)


def on(day: date, artifacts: MemoryArtifactStore) -> BucketShelf:
    return BucketShelf(artifacts, lambda: day)


def test_what_is_kept_is_found_that_day_and_the_next() -> None:
    artifacts = MemoryArtifactStore()
    on(DAY, artifacts).keep("key", b"content")
    assert list(artifacts.keys("")) == ["embeddings/2026-03-01/key.safetensors"]
    days = [DAY + timedelta(days=age) for age in range(3)]
    assert [on(day, artifacts).find("key") for day in days] == [b"content", b"content", None]
    assert on(DAY, artifacts).find("other") is None


def test_what_is_dropped_is_gone_and_can_be_kept_again() -> None:
    artifacts = MemoryArtifactStore()
    yesterday, today = on(DAY, artifacts), on(DAY + timedelta(days=1), artifacts)
    yesterday.keep("key", b"old")
    today.keep("key", b"damaged")
    today.drop("key")
    assert today.find("key") is None
    today.keep("key", b"new")
    assert today.find("key") == b"new"


class FailingStore(MemoryArtifactStore):
    def fail(self, *_: Any, **__: Any) -> Any:
        raise ArtifactStoreUnavailable("the artifact store does not answer")

    put = get = delete = fail


@pytest.mark.parametrize("call", ["find", "keep", "drop"])
def test_a_store_that_fails_is_survived(call: str) -> None:
    shelf = BucketShelf(FailingStore())
    arguments = ("key", b"content") if call == "keep" else ("key",)
    assert getattr(shelf, call)(*arguments) is None
