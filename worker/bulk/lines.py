"""The lines of a part: cut out of its bytes, and read as items."""

from codecs import BOM_UTF8
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pydantic import JsonValue, ValidationError
from pydantic_core import from_json

from maskline.batch_items import MAX_ID, MAX_ITEM_BYTES, BatchItem, PackedImage
from maskline.batches import BatchRequest, ItemFields, ItemForm, NotedLine
from maskline.bucket_uris import not_open, split_uri
from maskline.errors import Fault, ImageUnreachable, InvalidRequest, MalformedRequest, RequestError
from maskline.jobs import Failure, ImageRef
from maskline.plain_words import pointer, words
from maskline.requests import SegmentationRequest
from maskline.wire import require_plain

_TOLD_BYTES = 256  # of a line that can't be read
_SCHEMES = ("gs://", "s3://")
_KNOWN_FIELDS = frozenset({"content", "mimeType"})


class Line(NamedTuple):
    """A line of a part."""

    text: bytes
    """Without its end."""
    number: int
    """Within all parts, from 1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """An item as its line says, or why it says none."""

    id: str
    line: int
    instance: JsonValue
    """As it was given; of what can't be read the beginning, as text."""
    form: ItemForm
    """What the line is."""
    request: SegmentationRequest | None = None
    """What is asked of its image."""
    image: ImageRef | PackedImage | None = None
    """Where that is."""
    failure: Failure | None = None
    """Why it can't be run."""

    @property
    def told_line(self) -> int:
        """The number that its client gave it, else that of its line."""
        given = self.instance.get("line") if isinstance(self.instance, dict) else None
        return given if self.form is ItemForm.ITEM and type(given) is int and given > 0 else self.line


def lines_of(data: bytes, first: int) -> Iterator[Line]:
    """The lines that hold anything; ``first``: the number of the first line."""
    for number, line in enumerate(data.split(b"\n"), first):
        text = text_of(line)
        if text:
            yield Line(text, number)


def text_of(line: bytes) -> bytes:
    """What a line holds, without a byte order mark and white space around it."""
    return line.removeprefix(BOM_UTF8).strip()


def id_of(text: bytes, number: int) -> str:
    """The id of the ``BatchItem`` that a line holds; of a line that can't be read its number."""
    try:
        return _id_in(from_json(text), number)
    except ValueError:
        return str(number)


def _id_in(value: JsonValue, number: int) -> str:
    given = value.get("id") if isinstance(value, dict) else None
    return given if isinstance(given, str) and 0 < len(given) <= MAX_ID else str(number)


def read_item(line: Line, form: ItemForm, batch: BatchRequest, import_buckets: Sequence[str]) -> Item:
    """The item that a line holds. ``import_buckets``: those that it may name."""
    if form is ItemForm.NOTED:
        return _noted(line, batch, import_buckets)
    instance: JsonValue = line.text[:_TOLD_BYTES].decode(errors="replace")
    item_id = str(line.number)
    try:
        value = instance = _value(line.text, form)
        if form is ItemForm.ITEM:
            item_id = _id_in(value, line.number)
            image, request = _of_item(value, batch.request, import_buckets)
        else:
            image, request = _image_of(value, batch.fields, import_buckets), batch.request
    except RequestError as error:
        return Item(
            id=item_id,
            line=line.number,
            instance=instance,
            form=form,
            failure=Failure(code=error.code, message=error.message),
        )
    return Item(
        id=item_id,
        line=line.number,
        instance=instance,
        form=form,
        request=request,
        image=image,
    )


def image_of_item(instance: JsonValue, import_buckets: Sequence[str]) -> ImageRef | PackedImage:
    """Where the image of an item is, as it was given.

    Raises:
        RequestError: it names none, or one of a bucket that is not open any more.
    """
    try:
        return _ref(BatchItem.model_validate(instance).image, import_buckets)
    except ValidationError as error:
        raise MalformedRequest("the item names no image") from error


def _noted(line: Line, batch: BatchRequest, import_buckets: Sequence[str]) -> Item:
    noted = NotedLine.model_validate_json(line.text)
    if noted.failure is None:
        return read_item(Line(noted.text.encode(), noted.line), noted.form, batch, import_buckets)
    instance = from_json(noted.text)
    item_id = instance.get("id") if isinstance(instance, dict) else None
    return Item(
        id=item_id if isinstance(item_id, str) else str(noted.line),
        line=noted.line,
        instance=instance,
        form=noted.form,
        failure=noted.failure,
    )


def _value(text: bytes, form: ItemForm) -> JsonValue:
    if len(text) > MAX_ITEM_BYTES:
        raise MalformedRequest(f"the line is longer than {MAX_ITEM_BYTES} bytes")
    try:
        if form is ItemForm.FILE_LIST:
            return {"content": text.decode().strip()}
        value: JsonValue = from_json(text, allow_inf_nan=False)
        require_plain(value)
    except ValueError as error:
        kind = "JSON" if form is ItemForm.ITEM else str(form)
        raise MalformedRequest(f"the line can't be read as {kind} in UTF-8: {error}") from error
    return value


def _of_item(
    value: JsonValue, request: SegmentationRequest, import_buckets: Sequence[str]
) -> tuple[ImageRef | PackedImage, SegmentationRequest]:
    try:
        item = BatchItem.model_validate(value)
    except ValidationError as error:
        raise InvalidRequest(
            [Fault(pointer(*one["loc"]), words(one)) for one in error.errors(include_url=False)]
        ) from error
    changes = {
        name: value
        for name in ("subtask", "prompts", "auto_orient")
        if (value := getattr(item, name)) is not None
    }
    if item.parameters:
        changes["parameters"] = {**request.parameters, **item.parameters}
    return _ref(item.image, import_buckets), request.model_copy(update=changes) if changes else request


def _ref(image: str | PackedImage, import_buckets: Sequence[str]) -> ImageRef | PackedImage:
    if isinstance(image, PackedImage):
        return image
    if not image.startswith(_SCHEMES):
        return ImageRef(url=image)
    bucket, key = split_uri(image)
    if bucket not in import_buckets:
        raise ImageUnreachable(not_open(bucket, "import", import_buckets))
    return ImageRef(uri=f"s3://{bucket}/{key}")


def _image_of(instance: JsonValue, fields: ItemFields, import_buckets: Sequence[str]) -> ImageRef:
    """Of an instance of Vertex AI."""
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
    return ImageRef(uri=f"s3://{bucket}/{key}")
