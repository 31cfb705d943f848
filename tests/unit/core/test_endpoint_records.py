"""Webhook endpoints in the store and the bucket: what one lost, the other gives back."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest

from maskline.adapters.memory import MemoryArtifactStore
from maskline.adapters.memory_webhooks import MemoryEndpointStore
from maskline.endpoint_records import EndpointRecords
from maskline.errors import ArtifactStoreUnavailable, CapacityError, WebhookNotFound
from maskline.webhooks import ENDPOINTS, MAX_ENDPOINTS, Endpoint
from tests.contracts.outbox import make_endpoint


@dataclass
class FailingBucket(MemoryArtifactStore):
    """A bucket in which these calls fail."""

    broken: set[str] = field(default_factory=set)

    def put(self, *args: object, **kwargs: object) -> None:
        self._call("put")
        super().put(*args, **kwargs)  # type: ignore[arg-type]

    def delete(self, keys: Iterable[str]) -> None:
        self._call("delete")
        super().delete(keys)

    def _call(self, name: str) -> None:
        if name in self.broken:
            raise ArtifactStoreUnavailable("the store does not answer")


@pytest.fixture
def store() -> MemoryEndpointStore:
    return MemoryEndpointStore()


@pytest.fixture
def bucket() -> FailingBucket:
    return FailingBucket()


@pytest.fixture
def records(store: MemoryEndpointStore, bucket: FailingBucket) -> EndpointRecords:
    return EndpointRecords(store, bucket)


def renamed(endpoint: Endpoint) -> Endpoint:
    return endpoint.model_copy(update={"description": endpoint.description + "x"})


def restored(bucket: FailingBucket) -> list[Endpoint]:
    """What a store that lost everything gets back."""
    empty = MemoryEndpointStore()
    count = EndpointRecords(empty, bucket).restore()
    endpoints = empty.all("default") + empty.all("other")
    assert len(endpoints) == count
    return endpoints


def test_a_store_that_lost_its_memory_gets_the_latest_back(
    records: EndpointRecords, store: MemoryEndpointStore, bucket: FailingBucket
) -> None:
    kept, foreign, removed = make_endpoint(), make_endpoint("other"), make_endpoint()
    for endpoint in (kept, foreign, removed):
        records.add(endpoint)
    for _ in range(11):
        latest = records.change("default", kept.id, renamed)
    records.remove("default", removed.id)
    assert latest.version == 12
    assert restored(bucket) == [latest, foreign]
    assert len(list(bucket.keys(ENDPOINTS))) == 2
    assert records.restore() == 0
    assert store.all("default") == [latest]


def test_nothing_is_kept_of_an_endpoint_that_was_not_taken(
    records: EndpointRecords, store: MemoryEndpointStore, bucket: FailingBucket
) -> None:
    bucket.broken = {"put"}
    with pytest.raises(ArtifactStoreUnavailable):
        records.add(make_endpoint())
    assert store.all("default") == restored(bucket) == []


def test_a_change_that_failed_is_finished_by_the_next(
    records: EndpointRecords, bucket: FailingBucket
) -> None:
    endpoint = make_endpoint()
    records.add(endpoint)
    bucket.broken = {"put"}
    with pytest.raises(ArtifactStoreUnavailable):
        records.change("default", endpoint.id, renamed)
    assert restored(bucket) == [endpoint]
    bucket.broken = {"delete"}
    latest = records.change("default", endpoint.id, renamed)
    assert restored(bucket) == [latest]
    assert len(list(bucket.keys(ENDPOINTS))) == 2
    bucket.broken = set()
    records.change("default", endpoint.id, renamed)
    assert len(list(bucket.keys(ENDPOINTS))) == 1


def test_a_removal_that_failed_can_be_asked_for_again(
    records: EndpointRecords, bucket: FailingBucket
) -> None:
    endpoint = make_endpoint()
    records.add(endpoint)
    bucket.broken = {"delete"}
    with pytest.raises(ArtifactStoreUnavailable):
        records.remove("default", endpoint.id)
    bucket.broken = set()
    records.remove("default", endpoint.id)
    assert restored(bucket) == []
    with pytest.raises(WebhookNotFound):
        records.remove("default", endpoint.id)


def test_of_two_changes_at_one_time_none_is_lost(records: EndpointRecords, bucket: FailingBucket) -> None:
    endpoint = make_endpoint()
    records.add(endpoint)
    others = iter([renamed])

    def overtaken(known: Endpoint) -> Endpoint:
        for other in others:
            records.change("default", endpoint.id, other)
        return renamed(known)

    latest = records.change("default", endpoint.id, overtaken)
    assert (latest.description, latest.version) == ("xx", 3)
    assert restored(bucket) == [latest]

    def always_overtaken(known: Endpoint) -> Endpoint:
        records.change("default", endpoint.id, renamed)
        return renamed(known)

    with pytest.raises(CapacityError):
        records.change("default", endpoint.id, always_overtaken)


def test_a_change_that_the_bucket_does_not_take_is_undone(
    records: EndpointRecords, bucket: FailingBucket
) -> None:
    endpoint = make_endpoint()
    records.add(endpoint)
    bucket.broken = {"put"}
    with pytest.raises(ArtifactStoreUnavailable):
        records.change("default", endpoint.id, renamed)
    bucket.broken = set()
    assert records.get("default", endpoint.id).description == endpoint.description
    assert records.change("default", endpoint.id, renamed).description == "x"
    assert [one.description for one in restored(bucket)] == ["x"]


def test_one_too_many_holds_up_no_others(records: EndpointRecords, bucket: FailingBucket) -> None:
    known = [make_endpoint() for _ in range(MAX_ENDPOINTS)]
    for endpoint in known:
        records.add(endpoint)
    empty = MemoryEndpointStore()
    added = make_endpoint()
    assert empty.save(added, over=0)  # before the restore has come to its end
    assert EndpointRecords(empty, bucket).restore() == MAX_ENDPOINTS - 1
    assert len(empty.all("default")) == MAX_ENDPOINTS
