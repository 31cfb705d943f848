"""The items of a batch that failed become a part of their own, to be run again."""

import json
from collections.abc import Iterator
from tempfile import TemporaryFile

from maskline.artifact_operations import exists
from maskline.batch_artifacts import Shard, round_key
from maskline.batch_records import shard_keys
from maskline.batch_results import ItemError
from maskline.batches import Batch, ItemForm, NotedLine
from maskline.ports import ArtifactStore, BatchStore

_MEDIA_TYPE = "application/jsonl"
_IN_VAIN = frozenset({"repeated_item", "malformed_request", "unusable_item"})


def make_retry_part(batch: Batch, artifacts: ArtifactStore, batches: BatchStore) -> None:
    """Store the items that failed in the latest round as the part of the next round, unless it is there.

    Raises:
        ArtifactNotFound: a file of errors is gone.
        DependencyError: Redis or the bucket does not answer.
    """
    key = round_key(batch.id, batch.progress.rounds + 1)
    if exists(artifacts, key):
        return
    with TemporaryFile() as part:
        for line in _failed(batch, artifacts, batches):
            part.write(line + b"\n")
        artifacts.put(key, part, _MEDIA_TYPE)


def _failed(batch: Batch, artifacts: ArtifactStore, batches: BatchStore) -> Iterator[bytes]:
    for key in shard_keys(batch, Shard.ERRORS, batches):
        for line in artifacts.get(key).splitlines():
            yield _noted(ItemError.model_validate_json(line)).to_json().encode()


def _noted(error: ItemError) -> NotedLine:
    is_in_vain = error.error.code in _IN_VAIN
    return NotedLine(
        line=error.line,
        form=ItemForm.ITEM,
        text=json.dumps(error.instance, ensure_ascii=False, separators=(",", ":")),  # no longer than it was
        failure=error.error if is_in_vain else None,
    )
