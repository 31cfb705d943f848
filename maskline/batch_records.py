"""Batches where they are kept: in the batch store, which is asked, and in the bucket, which remembers.

A batch is in the bucket before it is accepted, and so is its end once it has one. A batch without an end that
is restored is worked off from its beginning; its jobs are there, so that none of them runs again.
"""

import logging
from contextlib import suppress

from pydantic import ValidationError

from maskline.batches import Batch, BatchRequest, Progress
from maskline.errors import ArtifactNotFound, CapacityError, DependencyError
from maskline.ports import ArtifactStore, BatchStore
from maskline.wire import WireModel

logger = logging.getLogger(__name__)

RECORDS = "batch-records/"
_JSON = "application/json"
_ANY_NUMBER = 1_000_000


class BatchDocument(WireModel):
    """A batch as it was accepted."""

    tenant: str
    """Whose it is."""
    created_ms: int
    """When, in ms since 1970."""
    request: BatchRequest
    """What was asked for."""


def keep_batch(batch: Batch, max_active: int, artifacts: ArtifactStore, store: BatchStore) -> None:
    """Accept a new batch.

    Raises:
        QueueFull: ``max_active`` have not ended yet.
        DependencyError: Redis or S3 does not answer; the batch is not accepted.
    """
    document = BatchDocument(tenant=batch.tenant, created_ms=batch.created_ms, request=batch.request)
    artifacts.put(_record_key(batch.id), document.to_json().encode(), _JSON)
    try:
        store.create(batch, max_active)
    except (CapacityError, DependencyError):
        with suppress(DependencyError):
            artifacts.delete([_record_key(batch.id)])
        raise


def note_batch_end(batch: Batch, artifacts: ArtifactStore) -> None:
    """Keep in the bucket how a batch ended. Where the bucket does not take it the end stands without."""
    try:
        artifacts.put(_end_key(batch.id), batch.progress.to_json().encode(), _JSON)
    except DependencyError:
        logger.warning("the end of the batch %s is not noted in the bucket", batch.id)


def forget_batch(tenant: str, batch_id: str, artifacts: ArtifactStore, store: BatchStore) -> None:
    """Forget a batch that has ended.

    Raises:
        BatchNotFound: there is none.
        DependencyError: Redis or S3 does not answer; calling again finishes it.
    """
    store.get(tenant, batch_id)
    artifacts.delete([_record_key(batch_id), _end_key(batch_id)])
    store.delete(tenant, batch_id)


def remove_old_records(artifacts: ArtifactStore, keep_s: float) -> None:
    """Remove what is in the bucket of batches that ended longer ago than this.

    Raises:
        ArtifactStoreUnavailable: the bucket does not answer.
    """
    over = {
        _batch_of(one.key) for one in artifacts.objects(RECORDS) if _is_end(one.key) and one.age_s > keep_s
    }
    artifacts.delete(key for batch_id in over for key in (_record_key(batch_id), _end_key(batch_id)))


def restore_batches(artifacts: ArtifactStore, store: BatchStore, keep_s: float) -> None:
    """Put every batch of the bucket into the store; those that have ended are kept for ``keep_s`` seconds.

    Raises:
        DependencyError: Redis or S3 does not answer; calling again finishes it.
    """
    keys = set(artifacts.keys(RECORDS))
    for batch_id in sorted({_batch_of(key) for key in keys}):
        try:
            document = BatchDocument.model_validate_json(artifacts.get(_record_key(batch_id)))
            end = (
                Progress.model_validate_json(artifacts.get(_end_key(batch_id)))
                if _end_key(batch_id) in keys
                else None
            )
        except ArtifactNotFound:  # forgotten just now
            continue
        except ValidationError:
            logger.warning("the record of the batch %s is damaged", batch_id)
            continue
        batch = Batch(
            id=batch_id, tenant=document.tenant, request=document.request, created_ms=document.created_ms
        )
        store.create(batch, _ANY_NUMBER)
        if end is not None:
            store.save(batch, end, keep_s)


def _record_key(batch_id: str) -> str:
    return f"{RECORDS}{batch_id}/batch.json"


def _end_key(batch_id: str) -> str:
    return f"{RECORDS}{batch_id}/end.json"


def _batch_of(key: str) -> str:
    return key.removeprefix(RECORDS).partition("/")[0]


def _is_end(key: str) -> bool:
    return key.endswith("/end.json")
