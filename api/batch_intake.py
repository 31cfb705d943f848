"""What the body of a new batch asks for, and the batch that comes of it."""

from collections.abc import Iterable
from hashlib import sha256
from typing import Annotated, BinaryIO, cast

from flask import Request
from pydantic import BaseModel, Field

from api.body import broken_off_told, parse_body, read_body, validate
from api.checks import faults_of_request
from api.intake import Upload, measure, upload_of
from api.services import Services
from maskline.batch_artifacts import Shard, published_key
from maskline.batch_items import BatchItem
from maskline.batch_resources import BatchSource, NewBatch
from maskline.batches import (
    MAX_PARTS,
    Batch,
    BatchRequest,
    Destination,
    Source,
    SourceKind,
    new_batch_id,
)
from maskline.bucket_uris import not_open, split_uri, why_not_writable
from maskline.clock import time_ms
from maskline.errors import (
    ArtifactNotFound,
    Fault,
    InvalidRequest,
    MalformedRequest,
    UnsupportedMediaType,
)
from maskline.image_header import ImageLimits
from maskline.requests import Output, Priority, SegmentationRequest

JSON = "application/json"
MULTIPART = "multipart/form-data"
MAX_MANIFEST_BYTES = 1 << 32
_MAX_JSON_BYTES = 1 << 25
_MAX_KEY = 255
_MANIFEST_PART, _REQUEST_PART = "manifest", "request"


class MultipartBatch(BaseModel):
    """The parts of a multipart submission."""

    manifest: Annotated[bytes, Field(json_schema_extra={"format": "binary"})]
    """Items as JSON, one a line."""
    request: NewBatch = NewBatch()
    """Everything else, as JSON."""


_OUTPUTS = (Output.CATEGORY_MASK, Output.CONFIDENCE_MASK, Output.SEGMENTS)
_KINDS = {
    "manifest": SourceKind.LINES,
    "images": SourceKind.IMAGES,
    "coco": SourceKind.COCO,
    "yolo": SourceKind.YOLO,
}


def read_new_batch(request: Request) -> tuple[NewBatch, Upload | None]:
    """What the body asks for, and the items in it or beside it, one a line.

    Raises:
        UnsupportedMediaType: the body's content type is neither of the two.
        MalformedRequest: the body is not of the form that its content type promises.
        InvalidRequest: with every fault.
        RequestEntityTooLarge: (Werkzeug's) the body is larger than it may be.
    """
    if request.mimetype == JSON:
        new = validate(parse_body(read_body(request, _MAX_JSON_BYTES)), NewBatch)
        lines = "".join(item.to_short_json() + "\n" for item in new.items or ())
        return new, upload_of(lines.encode()) if new.items is not None else None
    if request.mimetype != MULTIPART:
        raise UnsupportedMediaType(
            f"the content type {request.mimetype!r} is not taken; send application/json, or "
            "multipart/form-data with the parts 'request' and 'manifest'"
        )
    request.max_content_length = MAX_MANIFEST_BYTES
    with broken_off_told():
        manifest, asked = request.files.get(_MANIFEST_PART), request.files.get(_REQUEST_PART)
        text = asked.read() if asked is not None else request.form.get(_REQUEST_PART, "{}").encode()
        names = {str(name) for name in (*request.files, *request.form)}
    if manifest is None or names - {_MANIFEST_PART, _REQUEST_PART}:
        raise MalformedRequest(
            "the multipart body needs a file part named 'manifest', may have a JSON part named 'request', "
            f"and no other; it has: {', '.join(sorted(names)) or 'none'}"
        )
    new = validate(parse_body(text), NewBatch)
    if new.items is not None or new.source is not None:
        raise InvalidRequest([Fault("/items", "give the items in the manifest alone")])
    return new, measure(cast(BinaryIO, manifest.stream))


def _batch_id(tenant: str, key: str | None) -> str:
    """A fresh id; with an idempotency key the one that follows from it."""
    if not key:
        return new_batch_id()
    if len(key) > _MAX_KEY:
        raise InvalidRequest([Fault("", f"more than {_MAX_KEY} characters", parameter="Idempotency-Key")])
    digest = sha256(f"{tenant} {key}".encode()).digest()
    return f"{int.from_bytes(digest[:8]):019d}"[:19]


def _faults_of_ids(items: Iterable[BatchItem]) -> list[Fault]:
    first: dict[str, int] = {}
    faults = []
    for number, item in enumerate(items):
        item_id = item.id or str(number + 1)
        if first.setdefault(item_id, number) != number:
            faults.append(Fault(f"/items/{number}/id", f"item {first[item_id]} has this id too: {item_id!r}"))
    return faults


def _folder_of(key: str) -> str:
    return key.rpartition("/")[0] + "/" if "/" in key else ""


class BatchIntake:
    """Turns what a client sent into a batch."""

    def __init__(self, services: Services) -> None:
        """``services``: the models' cards, and the buckets that items may be in."""
        self._services = services
        self._settings = services.settings
        self._artifacts = services.artifacts

    def make(
        self, asked: NewBatch, *, tenant: str, idempotency_key: str | None, items_sha256: str | None
    ) -> Batch:
        """The batch, which is not kept yet. With an idempotency key its id follows from that.

        Raises:
            ModelNotFound: there is no such model.
            InvalidRequest: with every fault.
            ArtifactStoreUnavailable: a source is in the store, which does not answer.
        """
        card = self._services.cards.find(asked.model or self._settings.default_model)
        wanted = SegmentationRequest(
            model=card.id,
            subtask=asked.subtask or card.subtasks[0],
            prompts=asked.prompts,
            parameters=asked.parameters,
            auto_orient=asked.auto_orient,
            outputs=_OUTPUTS,
            priority=Priority.BULK,
            metadata=asked.metadata,
        )
        limits = ImageLimits.from_settings(self._settings)
        faults = [
            *(
                fault
                for fault in faults_of_request(wanted, card, None, limits=limits, has_webhook_secret=False)
                if asked.prompts or fault.pointer != "/prompts"  # the items may bring some
            ),
            *_faults_of_ids(asked.items or ()),
        ]
        source = self._source(asked.source, faults) if asked.source else None
        destination = self._destination(asked.destination, faults) if asked.destination else None
        if faults:
            raise InvalidRequest(faults)
        return Batch(
            id=_batch_id(tenant, idempotency_key),
            tenant=tenant,
            request=BatchRequest(
                request=wanted.model_copy(update={"metadata": {}}),
                sources=(source,) if source else (),
                destination=destination,
                review=asked.review,
                items_sha256=items_sha256,
                display_name=asked.display_name,
                metadata=asked.metadata,
            ),
            created_ms=time_ms(),
            parts=int(items_sha256 is not None),
            is_complete=items_sha256 is not None or source is not None,
        )

    def _source(self, asked: BatchSource, faults: list[Fault]) -> Source:
        field, kind = next((name, kind) for name, kind in _KINDS.items() if getattr(asked, name) is not None)
        bucket, key = split_uri(getattr(asked, field))
        if kind is SourceKind.YOLO and key and not key.endswith("/"):
            key += "/"
        images = split_uri(asked.image_prefix) if asked.image_prefix else (bucket, _folder_of(key))
        pointer = f"/source/{field}"
        is_object = kind in {SourceKind.LINES, SourceKind.COCO}
        if bucket not in self._settings.import_buckets:
            faults.append(Fault(pointer, not_open(bucket, "import", self._settings.import_buckets)))
        elif is_object:
            try:
                self._artifacts.size(key, bucket=bucket)
            except ArtifactNotFound as error:
                faults.append(Fault(pointer, f"it can't be read: {error.message}"))
        if images[0] != bucket:
            faults.append(Fault("/source/imagePrefix", f"give a prefix in the bucket {bucket!r}"))
        return Source(
            kind=kind,
            bucket=bucket,
            key=key,
            pattern=asked.pattern,
            images=images[1] if kind is SourceKind.COCO else "",
            prompts=asked.prompts,
        )

    def _destination(self, uri: str, faults: list[Fault]) -> Destination:
        bucket, prefix = split_uri(f"{uri.rstrip('/')}/")
        destination = Destination(uri=uri, bucket=bucket, prefix=prefix)
        open_buckets = self._settings.export_buckets
        if bucket not in open_buckets:
            faults.append(Fault("/destination", not_open(bucket, "export", open_buckets)))
        elif wrong := why_not_writable(published_key(destination, Shard.PREDICTIONS, MAX_PARTS)):
            faults.append(Fault("/destination", wrong))
        return destination
