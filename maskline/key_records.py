"""API keys where they are kept: in the key store, which is asked, and in the bucket, which remembers.

A key is in the bucket before it works, and gone from there before it is gone from the store. So no key that
somebody was given is lost with the store's memory, and none that was revoked comes back.
"""

from contextlib import suppress

from pydantic import ValidationError

from maskline.artifact_operations import exists
from maskline.artifacts import KEYS, key_record_key
from maskline.errors import ArtifactNotFound, DependencyError
from maskline.keys import ApiKey
from maskline.ports import ArtifactStore, KeyStore

_JSON = "application/json"


def keep_key(key: ApiKey, artifacts: ArtifactStore, store: KeyStore) -> None:
    """Let a new key work from now on.

    Raises:
        DependencyError: Redis or S3 does not answer; the key does not work.
    """
    record = key_record_key(key.id)
    artifacts.put(record, key.to_json().encode(), _JSON)
    try:
        store.add(key)
    except DependencyError:
        # What stays behind when this fails is the record of a key that nobody was given.
        with suppress(DependencyError):
            artifacts.delete([record])
        raise


def revoke_key(key_id: str, artifacts: ArtifactStore, store: KeyStore) -> bool:
    """Let a key never work again; False: there was none.

    Raises:
        DependencyError: Redis or S3 does not answer; calling again finishes it.
    """
    record = key_record_key(key_id)
    was_kept = exists(artifacts, record)
    if was_kept:
        artifacts.delete([record])
    return store.remove(key_id) or was_kept


def restore_keys(artifacts: ArtifactStore, store: KeyStore) -> list[str]:
    """Put every key of the bucket into the store; the objects there that are no records.

    Raises:
        DependencyError: Redis or S3 does not answer; calling again finishes it.
    """
    damaged = []
    for record in list(artifacts.keys(KEYS)):
        try:
            key = ApiKey.model_validate_json(artifacts.get(record))
        except ArtifactNotFound:  # revoked just now
            continue
        except ValidationError:
            damaged.append(record)
            continue
        store.add(key)
        if not exists(artifacts, record):  # revoked between the look and the addition
            store.remove(key.id)
    return damaged
