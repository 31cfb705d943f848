"""API keys in the key store and in the bucket: no key is lost, and none that was revoked comes back."""

from collections.abc import Callable
from typing import NoReturn

import pytest

from maskline.adapters.memory import MemoryArtifactStore, MemoryKeyStore
from maskline.errors import ArtifactStoreUnavailable, JobStoreUnavailable
from maskline.key_records import keep_key, restore_keys, revoke_key
from maskline.keys import ApiKey, Scope, make_key


@pytest.fixture
def bucket() -> MemoryArtifactStore:
    return MemoryArtifactStore()


@pytest.fixture
def store() -> MemoryKeyStore:
    return MemoryKeyStore()


def made(tenant: str = "lab") -> ApiKey:
    return make_key("one", tenant=tenant, scopes=(Scope.READ,), expires_in_s=60)[0]


def away(error: type[Exception]) -> Callable[..., NoReturn]:
    def fail(*_: object) -> NoReturn:
        raise error("away")

    return fail


def test_a_store_that_lost_its_memory_has_all_keys_again(
    bucket: MemoryArtifactStore, store: MemoryKeyStore
) -> None:
    first, second, revoked = made(), made("other"), made()
    for key in (first, second, revoked):
        keep_key(key, bucket, store)
    assert revoke_key(revoked.id, bucket, store)
    bucket.put("keys/torn.json", b"{", "application/json")
    bucket.put("jobs/x/submission.json", b"{}", "application/json")
    anew = MemoryKeyStore()
    for _ in range(2):
        assert restore_keys(bucket, anew) == ["keys/torn.json"]
        assert anew.all() == store.all() == [first, second]


def test_the_bucket_holds_no_secret(bucket: MemoryArtifactStore, store: MemoryKeyStore) -> None:
    record, key = make_key("one")
    keep_key(record, bucket, store)
    [kept] = [bucket.get(name) for name in bucket.keys("")]
    assert key.rpartition("_")[2].encode() not in kept


def test_a_key_works_only_once_it_is_in_the_bucket(
    bucket: MemoryArtifactStore, store: MemoryKeyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket, "put", away(ArtifactStoreUnavailable))
    with pytest.raises(ArtifactStoreUnavailable):
        keep_key(made(), bucket, store)
    assert store.all() == []


def test_a_key_that_was_never_given_leaves_no_record(
    bucket: MemoryArtifactStore, store: MemoryKeyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "add", away(JobStoreUnavailable))
    with pytest.raises(JobStoreUnavailable):
        keep_key(made(), bucket, store)
    assert list(bucket.keys("")) == []


def test_a_revocation_that_broke_off_is_finished_by_the_next(
    bucket: MemoryArtifactStore, store: MemoryKeyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = made()
    keep_key(key, bucket, store)
    with monkeypatch.context() as patch:
        patch.setattr(store, "remove", away(JobStoreUnavailable))
        with pytest.raises(JobStoreUnavailable):
            revoke_key(key.id, bucket, store)
    assert list(bucket.keys("")) == [], "a rebuilt store must not have it"
    assert revoke_key(key.id, bucket, store)
    assert not revoke_key(key.id, bucket, store)
    assert store.all() == []


def test_a_key_can_be_revoked_before_it_is_restored(
    bucket: MemoryArtifactStore, store: MemoryKeyStore
) -> None:
    key = made()
    keep_key(key, bucket, store)
    anew = MemoryKeyStore()
    assert revoke_key(key.id, bucket, anew)
    assert restore_keys(bucket, anew) == []
    assert anew.all() == []


def test_a_key_that_is_revoked_while_it_is_restored_stays_so(
    bucket: MemoryArtifactStore, store: MemoryKeyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = made()
    keep_key(key, bucket, store)
    anew = MemoryKeyStore()
    add = anew.add

    def add_late(late: ApiKey) -> None:
        revoke_key(late.id, bucket, anew)
        add(late)

    monkeypatch.setattr(anew, "add", add_late)
    restore_keys(bucket, anew)
    assert anew.all() == []
