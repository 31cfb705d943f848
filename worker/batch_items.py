"""The items of a batch: lines of objects in a bucket, read from where they were left off."""

from codecs import BOM_UTF8
from collections.abc import Iterator
from typing import NamedTuple

from pydantic import JsonValue
from pydantic_core import from_json

from maskline.batches import SHARD_ITEMS, Batch, BatchRequest, ItemFields, ItemForm, PlannedItem, ShardPlan
from maskline.bucket_uris import not_open, split_uri
from maskline.errors import Fault, ImageUnreachable, InvalidRequest, MalformedRequest, RequestError
from maskline.jobs import Failure
from maskline.ports import ArtifactStore
from maskline.wire import require_plain

_MAX_LINE_BYTES = 1 << 16
_MAX_READ_BYTES = 1 << 23  # for one shard: more than its items take, so it bounds what holds none
_TOLD_BYTES = 256
_SCHEMES = ("gs://", "s3://")
_KNOWN_FIELDS = frozenset({"content", "mimeType"})


class _Line(NamedTuple):
    text: bytes
    """Without its end; at most one byte more than the longest that is taken."""
    end: int
    """Byte of the object after it."""


def read_shard(batch: Batch, artifacts: ArtifactStore, import_buckets: tuple[str, ...]) -> ShardPlan:
    """The batch's next items; it may be none, although there are more to come.

    Raises:
        ArtifactNotFound: an object of the input is gone.
        ArtifactStoreUnavailable: the store does not answer.
    """
    items: list[PlannedItem] = []
    source, offset = batch.progress.source, batch.progress.offset
    read = 0
    while source < len(batch.request.sources):
        for line in _lines(artifacts, batch.request, source, offset):
            text = line.text if offset else line.text.removeprefix(BOM_UTF8)
            if text.strip():
                items.append(_item(text, batch.request, import_buckets))
            read += line.end - offset
            offset = line.end
            if len(items) == SHARD_ITEMS or read >= _MAX_READ_BYTES:
                return ShardPlan(items=tuple(items), source=source, offset=offset)
        source, offset = source + 1, 0
    return ShardPlan(items=tuple(items), source=source, offset=offset)


def _lines(artifacts: ArtifactStore, request: BatchRequest, source: int, start: int) -> Iterator[_Line]:
    """The lines from the byte ``start`` on; of a very long one the beginning."""
    where = request.sources[source]
    if start and start >= artifacts.size(where.key, bucket=where.bucket):
        return
    _, chunks = artifacts.stream(where.key, bucket=where.bucket, start=start)
    text, end = b"", start
    try:
        for chunk in chunks:
            *complete, rest = chunk.split(b"\n")
            for part in complete:
                end += len(part) + 1
                yield _Line(_joined(text, part), end)
                text = b""
            end += len(rest)
            text = _joined(text, rest)
    finally:
        close = getattr(chunks, "close", None)  # gives the connection back; an iterator of a list has none
        if close is not None:
            close()
    if text:
        yield _Line(text, end)


def _joined(text: bytes, more: bytes) -> bytes:
    return text + more[: _MAX_LINE_BYTES + 1 - len(text)]


def _item(text: bytes, request: BatchRequest, import_buckets: tuple[str, ...]) -> PlannedItem:
    instance: JsonValue = text[:_TOLD_BYTES].decode(errors="replace")
    try:
        instance = _instance(text, request.form)
        uri = _image_uri(instance, request.fields, import_buckets)
    except RequestError as error:
        return PlannedItem(instance=instance, failure=Failure(code=error.code, message=error.message))
    return PlannedItem(instance=instance, uri=uri)


def _instance(text: bytes, form: ItemForm) -> JsonValue:
    if len(text) > _MAX_LINE_BYTES:
        raise MalformedRequest(f"the line is longer than {_MAX_LINE_BYTES} bytes")
    try:
        if form is ItemForm.FILE_LIST:
            return {"content": text.decode().strip()}
        value: JsonValue = from_json(text, allow_inf_nan=False)
        require_plain(value)
    except ValueError as error:
        raise MalformedRequest(f"the line can't be read as {form} in UTF-8: {error}") from error
    return value


def _image_uri(instance: JsonValue, fields: ItemFields, import_buckets: tuple[str, ...]) -> str:
    if not isinstance(instance, dict):
        raise MalformedRequest('give an object, such as {"content": "gs://BUCKET/KEY"}')
    named = set(instance) - {fields.key_field} - set(fields.excluded)
    unknown = sorted((named & set(fields.included) if fields.included else named) - _KNOWN_FIELDS)
    if unknown:
        detail = "there is no such field; there are content and mimeType"
        raise InvalidRequest([Fault(f"/{name}", detail) for name in unknown])
    content = instance.get("content")
    if not isinstance(content, str) or not content.startswith(_SCHEMES):
        raise InvalidRequest(
            [Fault("/content", "give the image's URI, as gs://BUCKET/KEY or s3://BUCKET/KEY")]
        )
    bucket, key = split_uri(content)
    if not key:
        raise InvalidRequest([Fault("/content", "the URI names no object; give gs://BUCKET/KEY")])
    if bucket not in import_buckets:
        raise ImageUnreachable(not_open(bucket, "import", import_buckets))
    return f"s3://{bucket}/{key}"
