"""Batches where they are kept: in the batch store, which is asked, and in the bucket, which remembers.

What was told to a client is in the bucket before it is told: the batch, that it is complete, that its failed
items are tried anew, that it was deleted. A batch without an end that is restored is cut anew, from the same
parts into the same chunks, and those of them that had ended are not run again.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace

from pydantic import ValidationError

from maskline.artifact_operations import put_once
from maskline.batch_artifacts import (
    RECORDS,
    Shard,
    batch_of,
    folder,
    lines_in,
    part_key,
    parts_folder,
    record_key,
    rounds_folder,
    shard_key,
)
from maskline.batches import Batch, BatchRequest, BatchState, ChunkKey, Progress
from maskline.errors import ArtifactNotFound, BatchNotFound, CapacityError, DependencyError
from maskline.ports import ArtifactStore, BatchStore
from maskline.wire import WireModel

logger = logging.getLogger(__name__)

_JSON = "application/json"
_ANY_NUMBER = 1_000_000
_TOGETHER = 200  # chunks that are asked about at once


class BatchDocument(WireModel):
    """A batch as it was accepted."""

    tenant: str
    """Whose it is."""
    created_ms: int
    """When, in ms since 1970."""
    request: BatchRequest
    """What was asked for."""


class CompleteDocument(WireModel):
    """That a batch's client has uploaded everything."""

    parts: int
    """That there are, or will be once all sources are read."""


class RetryDocument(WireModel):
    """That the items that failed are tried anew."""

    first_chunk: int
    """Number of the first chunk of the round."""


def keep_batch(batch: Batch, max_active: int, artifacts: ArtifactStore, store: BatchStore) -> None:
    """Accept a new batch, whose parts are stored.

    Raises:
        QueueFull: ``max_active`` have not ended yet.
        TenantQueueFull: half as many of the tenant's have not.
        DependencyError: Redis or S3 does not answer; it may have been accepted.
    """
    document = BatchDocument(tenant=batch.tenant, created_ms=batch.created_ms, request=batch.request)
    keys = [record_key(batch.id, "batch"), record_key(batch.id, "complete")]
    artifacts.put(keys[0], document.to_json().encode(), _JSON)
    try:
        if batch.is_complete:
            complete = CompleteDocument(parts=max(batch.parts, len(batch.request.sources)))
            artifacts.put(keys[1], complete.to_json().encode(), _JSON)
        store.create(batch, max_active, max_of_tenant=max_active // 2)
    except (CapacityError, DependencyError):
        with suppress(DependencyError):  # where it can't be known whether it was taken the documents stay
            if not _is_there(batch, store):
                artifacts.delete([*keys, part_key(batch.id, 1)])
        raise


def _is_there(batch: Batch, store: BatchStore) -> bool:
    try:
        store.get(batch.tenant, batch.id)
    except BatchNotFound:
        return False
    return True


def complete_batch(tenant: str, batch_id: str, artifacts: ArtifactStore, store: BatchStore) -> Batch:
    """The batch, to which no more parts are added.

    Raises:
        BatchNotFound: there is none.
        DependencyError: Redis or S3 does not answer; calling again finishes it.
    """
    batch = store.complete(tenant, batch_id)
    complete = CompleteDocument(parts=max(batch.parts - batch.progress.rounds, len(batch.request.sources)))
    put_once(artifacts, record_key(batch_id, "complete"), complete.to_json().encode(), _JSON)
    return batch


def cancel_batch(tenant: str, batch_id: str, artifacts: ArtifactStore, store: BatchStore) -> Batch:
    """The batch, now to be cancelled; one that has ended stays as it is.

    Raises:
        BatchNotFound: there is none.
        DependencyError: Redis or S3 does not answer; calling again finishes it.
    """
    batch = store.cancel(tenant, batch_id)
    if batch.is_cancelling:
        put_once(artifacts, record_key(batch_id, "cancelled"), b"", _JSON)
    return batch


def retry_batch(
    tenant: str, batch_id: str, max_active: int, artifacts: ArtifactStore, store: BatchStore
) -> Batch:
    """The batch, which goes on with the items that failed.

    Raises:
        QueueFull: ``max_active`` have not ended yet.
        TenantQueueFull: half as many of the tenant's have not.
        BatchNotFound: there is none.
        BatchNotFinished: it goes on, or nothing failed.
        DependencyError: Redis or S3 does not answer; calling again finishes it.
    """
    batch = store.retry(tenant, batch_id, max_active=max_active, max_of_tenant=max_active // 2)
    note_retry(batch, artifacts)
    return batch


def note_retry(batch: Batch, artifacts: ArtifactStore) -> None:
    """Keep in the bucket that the failed items of a batch are tried anew, unless it is there.

    Raises:
        ArtifactStoreUnavailable: the bucket does not answer.
    """
    document = RetryDocument(first_chunk=batch.progress.chunks + 1)
    key = record_key(batch.id, f"retry-{batch.progress.rounds + 1}")
    put_once(artifacts, key, document.to_json().encode(), _JSON)


def note_batch_end(batch: Batch, end: Progress, artifacts: ArtifactStore) -> bool:
    """Keep in the bucket how a batch is about to end, unless it has such a note; whether it had none.

    ``batch``: before its end.

    Raises:
        ArtifactStoreUnavailable: the bucket does not answer.
    """
    return put_once(artifacts, _end_key(batch), end.to_json().encode(), _JSON)


def correct_batch_end(batch: Batch, end: Progress | None, artifacts: ArtifactStore) -> None:
    """Keep in the bucket how a batch has ended, in place of an end that was about to come, and did not.

    ``batch``: before its end; ``end``: None: it goes on.

    Raises:
        ArtifactStoreUnavailable: the bucket does not answer.
    """
    key = _end_key(batch)
    with suppress(ArtifactNotFound):
        if end is not None and Progress.model_validate_json(artifacts.get(key)).state is end.state:
            return
    artifacts.delete([key])
    if end is not None:
        artifacts.put(key, end.to_json().encode(), _JSON)


def _end_key(batch: Batch) -> str:
    """Of the round that the batch is in, or is about to begin."""
    return record_key(batch.id, f"end-{batch.progress.rounds + batch.is_retrying}")


def forget_batch(tenant: str, batch_id: str, artifacts: ArtifactStore, store: BatchStore) -> None:
    """Forget a batch that has ended; what is in the bucket of it goes in a while.

    Raises:
        BatchNotFound: there is none.
        DependencyError: Redis or S3 does not answer; calling again finishes it.
    """
    store.get(tenant, batch_id)
    put_once(artifacts, record_key(batch_id, "removed"), b"", _JSON)
    store.delete(tenant, batch_id)


def shard_keys(batch: Batch, shard: Shard, store: BatchStore) -> Iterator[str]:
    """The keys of such files of all chunks that have ended, of errors those of the latest round.

    Raises:
        DependencyError: Redis does not answer.
    """
    first = batch.progress.first_of_round if shard is Shard.ERRORS else 1
    for start in range(first, batch.progress.chunks + 1, _TOGETHER):
        last = min(start + _TOGETHER - 1, batch.progress.chunks)
        for chunk in store.ended_chunks(batch.id, start, last):
            if lines_in(chunk, shard):
                yield shard_key(ChunkKey(batch.id, chunk.number, chunk.attempt), shard)


def remove_old_batches(artifacts: ArtifactStore, keep_s: float) -> None:
    """Remove what is in the bucket of batches that were forgotten, or ended longer ago than this.

    Raises:
        ArtifactStoreUnavailable: the bucket does not answer.
    """
    ages_s: defaultdict[str, dict[str, float]] = defaultdict(dict)
    for one in artifacts.objects(RECORDS):
        ages_s[batch_of(one.key)][_name(one.key)] = one.age_s
    for batch_id, notes in ages_s.items():
        rounds = _rounds(notes)
        if "removed" in notes or notes.get(f"end-{rounds}", 0) > keep_s:
            artifacts.delete(artifacts.keys(folder(batch_id)))
            artifacts.delete(record_key(batch_id, name) for name in notes)


def restore_batches(artifacts: ArtifactStore, store: BatchStore, keep_s: float) -> None:
    """Put every batch of the bucket into the store; those that have ended are kept for ``keep_s`` seconds.

    Raises:
        DependencyError: Redis or S3 does not answer; calling again finishes it.
    """
    notes: defaultdict[str, set[str]] = defaultdict(set)
    for key in artifacts.keys(RECORDS):
        notes[batch_of(key)].add(_name(key))
    for batch_id in sorted(notes):
        if "removed" in notes[batch_id]:
            continue
        try:
            _restore(batch_id, notes[batch_id], artifacts, store, keep_s)
        except ArtifactNotFound:  # removed just now
            continue
        except ValidationError:
            logger.warning("the record of the batch %s is damaged", batch_id)


def _restore(
    batch_id: str, notes: set[str], artifacts: ArtifactStore, store: BatchStore, keep_s: float
) -> None:
    """A batch that has succeeded is restored as if it had not: so it is cut, and its results are found."""
    document = BatchDocument.model_validate_json(artifacts.get(record_key(batch_id, "batch")))
    uploaded = sum(1 for _ in artifacts.keys(parts_folder(batch_id)))
    if "complete" in notes:  # else one that came too late would count
        complete = CompleteDocument.model_validate_json(artifacts.get(record_key(batch_id, "complete")))
        uploaded = min(uploaded, complete.parts)
    begun = sum(1 for _ in artifacts.keys(rounds_folder(batch_id)))
    batch = Batch(
        id=batch_id,
        tenant=document.tenant,
        request=document.request,
        created_ms=document.created_ms,
        parts=uploaded + begun,
        is_complete="complete" in notes,
        progress=Progress(imported=min(uploaded, len(document.request.sources)), is_restored=True),
    )
    if rounds := _rounds(notes):
        batch = _with_rounds(batch, rounds, begun, artifacts)
    store.create(batch, _ANY_NUMBER)
    if "cancelled" in notes:
        store.cancel(batch.tenant, batch_id)
    if f"end-{rounds}" in notes:
        end = Progress.model_validate_json(artifacts.get(record_key(batch_id, f"end-{rounds}")))
        if end.state is not BatchState.SUCCEEDED:
            store.save(store.get(batch.tenant, batch_id), end, keep_s)


def _with_rounds(batch: Batch, rounds: int, begun: int, artifacts: ArtifactStore) -> Batch:
    """The batch in its latest round, of those whose part is stored."""
    progress = batch.progress
    if begun:
        key = record_key(batch.id, f"retry-{begun}")
        retry = RetryDocument.model_validate_json(artifacts.get(key))
        progress = progress.model_copy(update={"rounds": begun, "first_of_round": retry.first_chunk})
    return replace(batch, progress=progress, is_retrying=begun < rounds)


def _rounds(notes: Iterable[str]) -> int:
    """How often failed items were tried anew."""
    return max((int(name.removeprefix("retry-")) for name in notes if name.startswith("retry-")), default=0)


def _name(key: str) -> str:
    return key.rpartition("/")[2].removesuffix(".json")
