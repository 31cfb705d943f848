"""Sources become parts: what is elsewhere is written down as lines in Maskline's own bucket, once, so that a
batch stays what it was when it is read again."""

from collections.abc import Iterable
from fnmatch import fnmatchcase
from tempfile import TemporaryFile

from maskline.artifact_operations import exists
from maskline.batch_artifacts import part_key
from maskline.batch_items import BatchItem
from maskline.batches import Batch, ItemForm, NotedLine, Source, SourceKind
from maskline.image_header import IMAGE_EXTENSIONS
from maskline.ports import ArtifactStore

_MEDIA_TYPE = "application/jsonl"


def import_source(batch: Batch, number: int, artifacts: ArtifactStore) -> None:
    """Store a source, from 1, as the part of the same number, unless it is there.

    Raises:
        ArtifactNotFound: the source is not there, or refuses.
        ArtifactStoreUnavailable: the store does not answer.
    """
    key = part_key(batch.id, number)
    if exists(artifacts, key):
        return
    source = batch.request.sources[number - 1]
    with TemporaryFile() as part:
        for piece in _pieces(source, artifacts):
            part.write(piece)
        artifacts.put(key, part, _MEDIA_TYPE)


def _pieces(source: Source, artifacts: ArtifactStore) -> Iterable[bytes]:
    if source.kind is SourceKind.LINES:
        return artifacts.stream(source.key, bucket=source.bucket)[1]
    keys = (one.key for one in artifacts.objects(source.key, bucket=source.bucket))
    wanted = (key for key in keys if _is_wanted(key.removeprefix(source.key), source.pattern))
    lines = (_line(number, _item(source, key)) for number, key in enumerate(wanted, 1))
    return (line.to_json().encode() + b"\n" for line in lines)


def _is_wanted(name: str, pattern: str) -> bool:
    """``name``: what follows the prefix."""
    if pattern:
        return fnmatchcase(name, pattern)
    is_hidden = any(part.startswith(".") for part in name.split("/"))
    return not is_hidden and name.rpartition(".")[2].lower() in IMAGE_EXTENSIONS


def _item(source: Source, key: str) -> BatchItem:
    return BatchItem(id=key.removeprefix(source.key).lstrip("/"), image=f"s3://{source.bucket}/{key}")


def _line(number: int, item: BatchItem) -> NotedLine:
    return NotedLine(line=number, form=ItemForm.ITEM, text=item.to_short_json())
