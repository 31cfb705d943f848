"""Batches: made, filled, watched, steered, and their results read."""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from hashlib import sha256
from http import HTTPStatus
from io import BytesIO
from typing import Annotated, BinaryIO, cast

from flask import Blueprint, Response, g, request
from pydantic import BaseModel, Field

from api.artifact_urls import ArtifactUrls
from api.batch_presenter import present
from api.body import broken_off_told, parse_body, read_body, validate
from api.checks import faults_of_request
from api.intake import take_upload
from api.limits import admit_batch
from api.openapi import BINARY, operation
from api.services import Services
from maskline.artifact_operations import exists
from maskline.batch_artifacts import (
    Shard,
    export_key,
    failed_export_key,
    pack_key,
    part_key,
    published_key,
    record_key,
    shard_key,
    summary_key,
)
from maskline.batch_items import BatchItem
from maskline.batch_records import complete_batch, forget_batch, keep_batch, retry_batch
from maskline.batch_resources import (
    EXPORT_FORMAT,
    MAX_PACK_BYTES,
    BatchPage,
    BatchResource,
    BatchSource,
    ExportResource,
    NewBatch,
    ShardPage,
    ShardResource,
)
from maskline.batch_results import BatchSummary, ItemError, ItemResult, ItemReview
from maskline.batches import (
    MAX_ACTIVE,
    MAX_PARTS,
    Batch,
    BatchRequest,
    BatchState,
    ChunkKey,
    Destination,
    EndedChunk,
    ExportRequest,
    Source,
    SourceKind,
    new_batch_id,
)
from maskline.bucket_uris import not_open, split_uri, why_not_writable
from maskline.errors import (
    ArtifactNotFound,
    BatchClosed,
    BatchNotFinished,
    BatchNotFound,
    ExportFailed,
    Fault,
    IdempotencyKeyReused,
    InvalidRequest,
    MalformedRequest,
    UnsupportedMediaType,
)
from maskline.image_header import ImageLimits
from maskline.jobs import Failure
from maskline.requests import Output, Priority, SegmentationRequest
from maskline.wire import WireModel

_JSON = "application/json"
_JSONL = "application/jsonl"
_BYTES = "application/octet-stream"
_ZIP = "application/zip"
_MULTIPART = "multipart/form-data"
_PATH = "/v1/batches"
_POLL_AFTER_S = 1
_MAX_JSON_BYTES = 1 << 25
_MAX_MANIFEST_BYTES = 1 << 32
_MAX_KEY = 255
_TOGETHER = 200  # chunks that are asked about at once
_MANIFEST_PART, _REQUEST_PART = "manifest", "request"


class MultipartBatch(BaseModel):
    """The parts of a multipart submission."""

    manifest: Annotated[bytes, Field(json_schema_extra={"format": "binary"})]
    """Items as JSON, one a line."""
    request: NewBatch = NewBatch()
    """Everything else, as JSON."""


class BatchQuery(WireModel):
    """Query of the batches."""

    page_size: Annotated[int, Field(ge=1, le=200)] = 50
    """Most batches on a page."""
    page_token: Annotated[str, Field(pattern=r"^[0-9]{1,20}$")] | None = None
    """``nextPageToken`` of the page before."""


class ShardQuery(WireModel):
    """Query of the chunks that have ended."""

    after: Annotated[int, Field(ge=0)] = 0
    """Number of the last chunk that is known already."""
    page_size: Annotated[int, Field(ge=1, le=1000)] = 100
    """Most chunks on a page."""


class ExportQuery(WireModel):
    """Query of an export."""

    polygons: bool = False
    """Outlines in place of masks, in formats that have both."""


def make_blueprint(services: Services) -> Blueprint:
    """``/v1/batches``."""
    views = _BatchViews(services)
    blueprint = Blueprint("batches", __name__)
    one = f"{_PATH}/<batch_id>"
    for rule, method, view in (
        (_PATH, "POST", views.create_batch),
        (_PATH, "GET", views.list_batches),
        (one, "GET", views.get_batch),
        (one, "DELETE", views.delete_batch),
        (f"{one}/packs/<int:number>", "PUT", views.put_pack),
        (f"{one}/parts/<int:number>", "PUT", views.put_part),
        (f"{one}:complete", "POST", views.complete_batch),
        (f"{one}:pause", "POST", views.pause_batch),
        (f"{one}:resume", "POST", views.resume_batch),
        (f"{one}:cancel", "POST", views.cancel_batch),
        (f"{one}:retry", "POST", views.retry_batch),
        (f"{one}/shards", "GET", views.list_shards),
        (f"{one}/results", "GET", views.get_results),
        (f"{one}/errors", "GET", views.get_errors),
        (f"{one}/review", "GET", views.get_review),
        (f"{one}/summary", "GET", views.get_summary),
        (f"{one}/exports/<export_format>", "GET", views.get_export),
    ):
        blueprint.add_url_rule(rule, view.__name__, view, methods=[method])
    return blueprint


class _BatchViews:
    def __init__(self, services: Services) -> None:
        self._services = services
        self._settings = services.settings
        self._artifacts = services.artifacts
        self._batches = services.batches
        self._urls = ArtifactUrls(services)

    @operation(
        "Label many images: named by a list, by a manifest, or by where they are",
        tag="batches",
        headers={"Idempotency-Key": "Same key and same request: the same batch, however often it is sent"},
        bodies={_JSON: NewBatch, _MULTIPART: MultipartBatch},
        answers={202: {_JSON: BatchResource}},
        problems=(400, 404, 413, 415, 422, 429),
    )
    def create_batch(self) -> Response:
        asked, manifest = _read_new_batch()
        with closing(manifest or BytesIO()):
            batch = self._batch(asked, is_complete=bool(asked.items or asked.source or manifest))
            known = self._known(batch)
            if known is None:
                admit_batch(self._services, batch.tenant)
                self._store_items(batch, asked, manifest)
                keep_batch(batch, MAX_ACTIVE, self._artifacts, self._batches)
        return self._answer(known or batch, HTTPStatus.ACCEPTED)

    @operation(
        "List batches, newest first",
        tag="batches",
        query=BatchQuery,
        answers={200: {_JSON: BatchPage}},
        problems=(422,),
    )
    def list_batches(self, query: BatchQuery) -> Response:
        newest_first = self._batches.all(g.caller.tenant)[::-1]
        start = int(query.page_token or 0)
        page = newest_first[start : start + query.page_size]
        end = start + len(page)
        listing = BatchPage(
            batches=tuple(map(present, page)), next_page_token=str(end) if end < len(newest_first) else None
        )
        return Response(listing.to_json(), mimetype=_JSON)

    @operation("A batch", tag="batches", answers={200: {_JSON: BatchResource}}, problems=(404,))
    def get_batch(self, batch_id: str) -> Response:
        return self._answer(self._get(batch_id))

    @operation(
        "Remove a batch that has ended, and its results",
        tag="batches",
        answers={204: {}},
        problems=(404, 409),
    )
    def delete_batch(self, batch_id: str) -> Response:
        batch = self._get(batch_id)
        if not batch.progress.state.is_final or batch.is_retrying:
            raise BatchNotFinished(f"the batch {batch_id} goes on; cancel it first")
        forget_batch(g.caller.tenant, batch_id, self._artifacts, self._batches)
        return Response(status=HTTPStatus.NO_CONTENT)

    @operation(
        "Upload a pack: images one after the other, for items that name the pack, an offset and a length",
        tag="batches",
        bodies={_BYTES: BINARY},
        answers={204: {}},
        problems=(400, 404, 409, 413, 422),
    )
    def put_pack(self, batch_id: str, number: int) -> Response:
        self._require_open(batch_id, number)
        self._store_body(pack_key(batch_id, number), MAX_PACK_BYTES, _BYTES)
        return Response(status=HTTPStatus.NO_CONTENT)

    @operation(
        "Upload items as JSON, one a line; parts are numbered from 1, without gaps",
        tag="batches",
        bodies={_JSONL: BINARY},
        answers={200: {_JSON: BatchResource}},
        problems=(400, 404, 409, 413, 422),
    )
    def put_part(self, batch_id: str, number: int) -> Response:
        batch = self._require_open(batch_id, number)
        if number > batch.parts + 1:
            raise _faulty(f"part {number} can't follow part {batch.parts}; the next is {batch.parts + 1}")
        key = part_key(batch_id, number)
        self._store_body(key, _MAX_MANIFEST_BYTES, _JSONL)
        try:
            return self._answer(self._batches.add_part(g.caller.tenant, batch_id, number))
        except BatchClosed:  # meanwhile; where this part is another one may come
            self._artifacts.delete([key])
            raise

    @operation(
        "Say that there are no more parts to come",
        tag="batches",
        answers={200: {_JSON: BatchResource}},
        problems=(404,),
    )
    def complete_batch(self, batch_id: str) -> Response:
        return self._answer(complete_batch(g.caller.tenant, batch_id, self._artifacts, self._batches))

    @operation(
        "Begin no more items, until the batch is resumed; those in hand are ended",
        tag="batches",
        answers={200: {_JSON: BatchResource}},
        problems=(404,),
    )
    def pause_batch(self, batch_id: str) -> Response:
        return self._answer(self._batches.pause(g.caller.tenant, batch_id, is_paused=True))

    @operation(
        "Go on with a batch that was paused",
        tag="batches",
        answers={200: {_JSON: BatchResource}},
        problems=(404,),
    )
    def resume_batch(self, batch_id: str) -> Response:
        return self._answer(self._batches.pause(g.caller.tenant, batch_id, is_paused=False))

    @operation(
        "Cancel a batch; the results that there are stay",
        tag="batches",
        answers={200: {_JSON: BatchResource}},
        problems=(404,),
    )
    def cancel_batch(self, batch_id: str) -> Response:
        return self._answer(self._batches.cancel(g.caller.tenant, batch_id))

    @operation(
        "Try the items anew that failed, of a batch that has succeeded with the others",
        tag="batches",
        answers={202: {_JSON: BatchResource}},
        problems=(404, 409),
    )
    def retry_batch(self, batch_id: str) -> Response:
        batch = self._get(batch_id)
        if batch.progress.state.is_final and batch.progress.state is not _SUCCEEDED:
            raise BatchNotFinished(f"the batch {batch_id} has {batch.progress.state}; make another")
        if batch.request.resource is not None:
            raise BatchNotFinished(
                "batches of Vertex AI are not tried anew; make another with the items that failed"
            )
        retried = retry_batch(g.caller.tenant, batch_id, self._artifacts, self._batches)
        return self._answer(retried, HTTPStatus.ACCEPTED)

    @operation(
        "The chunks that have ended, each with the addresses of its files",
        tag="batches",
        query=ShardQuery,
        answers={200: {_JSON: ShardPage}},
        problems=(404, 422),
    )
    def list_shards(self, batch_id: str, query: ShardQuery) -> Response:
        batch = self._get(batch_id)
        has_ended = batch.progress.state.is_final and not batch.is_retrying
        first = query.after + 1
        ended = self._batches.ended_chunks(batch_id, first, first + query.page_size - 1)
        while has_ended and not ended and first + query.page_size <= batch.progress.chunks:
            first += query.page_size  # a batch that was cancelled has gaps, which may be longer than a page
            ended = self._batches.ended_chunks(batch_id, first, first + query.page_size - 1)
        in_order = [chunk for number, chunk in enumerate(ended, first) if chunk.number == number]
        page = ShardPage(
            shards=tuple(self._shard(batch, chunk) for chunk in (ended if has_ended else in_order)),
            is_last=has_ended and first + query.page_size > batch.progress.chunks,
        )
        return Response(page.to_json(), mimetype=_JSON)

    @operation(
        "The results that there are, one item a line",
        tag="batches",
        answers={200: {_JSONL: ItemResult}},
        problems=(404,),
    )
    def get_results(self, batch_id: str) -> Response:
        return self._lines(batch_id, Shard.PREDICTIONS, lambda chunk: chunk.succeeded)

    @operation(
        "The items that failed, one a line",
        tag="batches",
        answers={200: {_JSONL: ItemError}},
        problems=(404,),
    )
    def get_errors(self, batch_id: str) -> Response:
        return self._lines(batch_id, Shard.ERRORS, lambda chunk: chunk.failed)

    @operation(
        "The items that somebody should look at, one a line",
        tag="batches",
        answers={200: {_JSONL: ItemReview}},
        problems=(404,),
    )
    def get_review(self, batch_id: str) -> Response:
        return self._lines(batch_id, Shard.REVIEW, lambda chunk: chunk.flagged)

    @operation(
        "What came of a batch that has ended",
        tag="batches",
        answers={200: {_JSON: BatchSummary}},
        problems=(404, 409),
    )
    def get_summary(self, batch_id: str) -> Response:
        batch = self._get(batch_id)
        self._require_end(batch)
        return Response(self._artifacts.get(summary_key(batch_id, batch.progress.rounds)), mimetype=_JSON)

    @operation(
        "All results in the format of a trainer or a labelling tool, as a ZIP; 202 while it is made",
        tag="batches",
        query=ExportQuery,
        answers={200: {_ZIP: BINARY}, 202: {_JSON: ExportResource}},
        problems=(404, 409, 422),
    )
    def get_export(self, batch_id: str, export_format: str, query: ExportQuery) -> Response:
        batch = self._get(batch_id)
        self._require_end(batch)
        if batch.request.resource is not None:
            raise ExportFailed("a batch of Vertex AI has no segments to export; make one by POST /v1/batches")
        if not re.fullmatch(EXPORT_FORMAT, export_format):
            raise ExportFailed(f"there is no format {export_format!r}")
        asked = ExportRequest(format=export_format, polygons=query.polygons)
        rounds = batch.progress.rounds
        try:
            size, chunks = self._artifacts.stream(export_key(batch_id, rounds, asked.file_name))
        except ArtifactNotFound:
            failed_key = failed_export_key(batch_id, rounds, asked.file_name)
            if exists(self._artifacts, failed_key):
                failure = Failure.model_validate_json(self._artifacts.get(failed_key))
                raise ExportFailed(failure.message) from None
            self._services.queue.publish_export(g.caller.tenant, batch_id, asked.to_json())
            headers = {"Retry-After": str(_POLL_AFTER_S)}
            resource = ExportResource(format=export_format, state="running")
            return Response(resource.to_json(), HTTPStatus.ACCEPTED, headers, mimetype=_JSON)
        headers = {
            "Content-Length": str(size),
            "Cache-Control": "private, no-store",
            "Content-Disposition": f'attachment; filename="{batch_id}-{asked.file_name}"',
        }
        return Response(chunks, mimetype=_ZIP, headers=headers)

    # -- what these are made of

    def _require_end(self, batch: Batch) -> None:
        if not batch.progress.state.is_final or batch.is_retrying:
            raise BatchNotFinished(f"the batch {batch.id} goes on; wait for its end")

    def _get(self, batch_id: str) -> Batch:
        return self._batches.get(g.caller.tenant, batch_id)

    def _require_open(self, batch_id: str, number: int) -> Batch:
        batch = self._get(batch_id)
        if not 1 <= number <= MAX_PARTS:
            raise _faulty(f"give a number from 1 to {MAX_PARTS}")
        if batch.is_complete or batch.progress.state.is_final:
            raise BatchClosed(f"the batch {batch_id} is complete; make another for more items")
        return batch

    def _store_body(self, key: str, most_bytes: int, media_type: str) -> None:
        """Store the request's body, unless the key is there: then this call is one that was made before."""
        if exists(self._artifacts, key):
            return
        request.max_content_length = most_bytes
        with broken_off_told(), closing(take_upload(request.stream, request.content_length).file) as file:
            if not file.seek(0, 2):
                raise MalformedRequest("the body is empty")
            self._artifacts.put(key, file, media_type)

    def _answer(self, batch: Batch, status: HTTPStatus = HTTPStatus.OK) -> Response:
        headers = {} if batch.progress.state.is_final else {"Retry-After": str(_POLL_AFTER_S)}
        if status is HTTPStatus.ACCEPTED:
            headers["Location"] = f"{_PATH}/{batch.id}"
        return Response(present(batch).to_json(), status, headers, mimetype=_JSON)

    def _shard(self, batch: Batch, chunk: EndedChunk) -> ShardResource:
        key = ChunkKey(batch.id, chunk.number, chunk.attempt)
        failed = chunk.failed if chunk.number >= batch.progress.first_of_round else 0

        def url(shard: Shard, lines: int) -> str | None:
            return self._urls.make(shard_key(key, shard)) if lines else None

        return ShardResource(
            number=chunk.number,
            succeeded=chunk.succeeded,
            failed=failed,
            flagged=chunk.flagged,
            predictions=url(Shard.PREDICTIONS, chunk.succeeded),
            errors=url(Shard.ERRORS, failed),
            review=url(Shard.REVIEW, chunk.flagged),
        )

    def _lines(self, batch_id: str, shard: Shard, count: Callable[[EndedChunk], int]) -> Response:
        batch = self._get(batch_id)
        first = batch.progress.first_of_round if shard is Shard.ERRORS else 1

        def pieces() -> Iterator[bytes]:
            for start in range(first, batch.progress.chunks + 1, _TOGETHER):
                last = min(start + _TOGETHER - 1, batch.progress.chunks)
                for chunk in self._batches.ended_chunks(batch_id, start, last):
                    if count(chunk):
                        key = shard_key(ChunkKey(batch_id, chunk.number, chunk.attempt), shard)
                        yield from self._artifacts.stream(key)[1]

        return Response(pieces(), mimetype=_JSONL, headers={"Cache-Control": "private, no-store"})

    def _known(self, batch: Batch) -> Batch | None:
        """The batch that the idempotency key made before.

        Raises:
            IdempotencyKeyReused: by another request.
        """
        if "Idempotency-Key" not in request.headers:
            return None
        try:
            known = self._get(batch.id)
        except BatchNotFound:
            if exists(self._artifacts, record_key(batch.id, "removed")):
                raise IdempotencyKeyReused(
                    "the idempotency key is that of a batch that was deleted"
                ) from None
            return None
        if known.request != batch.request:
            raise IdempotencyKeyReused("the idempotency key was used for another batch")
        return known

    def _store_items(self, batch: Batch, asked: NewBatch, manifest: BinaryIO | None) -> None:
        """Store what was sent of the items, as the first part."""
        key = part_key(batch.id, 1)
        if not batch.parts or exists(self._artifacts, key):
            return
        lines = "".join(item.to_short_json() + "\n" for item in asked.items or ())
        self._artifacts.put(key, manifest or lines.encode(), _JSONL)

    def _batch(self, asked: NewBatch, *, is_complete: bool) -> Batch:
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
        has_first_part = is_complete and source is None
        return Batch(
            id=_batch_id(),
            tenant=g.caller.tenant,
            request=BatchRequest(
                request=wanted.model_copy(update={"metadata": {}}),
                sources=(source,) if source else (),
                destination=destination,
                review=asked.review,
                display_name=asked.display_name,
                metadata=asked.metadata,
            ),
            created_ms=int(datetime.now(UTC).timestamp() * 1000),
            parts=int(has_first_part),
            is_complete=is_complete,
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


_SUCCEEDED = BatchState.SUCCEEDED
_OUTPUTS = (Output.CATEGORY_MASK, Output.CONFIDENCE_MASK, Output.SEGMENTS)
_KINDS = {
    "manifest": SourceKind.LINES,
    "images": SourceKind.IMAGES,
    "coco": SourceKind.COCO,
    "yolo": SourceKind.YOLO,
}


def _read_new_batch() -> tuple[NewBatch, BinaryIO | None]:
    """What the body asks for, and the manifest beside it."""
    if request.mimetype == _JSON:
        return validate(parse_body(read_body(request, _MAX_JSON_BYTES)), NewBatch), None
    if request.mimetype != _MULTIPART:
        raise UnsupportedMediaType(
            f"the content type {request.mimetype!r} is not taken; send application/json, or "
            "multipart/form-data with the parts 'request' and 'manifest'"
        )
    request.max_content_length = _MAX_MANIFEST_BYTES
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
    return new, cast(BinaryIO, manifest.stream)


def _batch_id() -> str:
    """A fresh id; with an idempotency key the one that follows from it."""
    key = request.headers.get("Idempotency-Key")
    if not key:
        return new_batch_id()
    if len(key) > _MAX_KEY:
        raise InvalidRequest([Fault("", f"more than {_MAX_KEY} characters", parameter="Idempotency-Key")])
    digest = sha256(f"{g.caller.tenant} {key}".encode()).digest()
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


def _faulty(detail: str) -> InvalidRequest:
    return InvalidRequest([Fault("", detail)])
