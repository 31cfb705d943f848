"""Routes by which batches are made, filled, watched and steered."""

from contextlib import ExitStack, closing
from http import HTTPStatus
from typing import Annotated

from flask import Blueprint, Response, g, request
from pydantic import Field

from api.batch_intake import JSON, MAX_MANIFEST_BYTES, MULTIPART, BatchIntake, MultipartBatch, read_new_batch
from api.batch_presenter import present
from api.body import broken_off_told
from api.intake import Upload, take_upload
from api.limits import admit_batch
from api.openapi import BINARY, operation
from api.services import Services
from maskline.artifact_operations import exists, put_once
from maskline.batch_artifacts import (
    pack_key,
    part_key,
    record_key,
)
from maskline.batch_records import cancel_batch, complete_batch, forget_batch, keep_batch, retry_batch
from maskline.batch_refusals import closed, out_of_turn
from maskline.batch_resources import (
    MAX_PACK_BYTES,
    BatchPage,
    BatchResource,
    NewBatch,
)
from maskline.batches import (
    MAX_ACTIVE,
    MAX_PARTS,
    Batch,
)
from maskline.errors import (
    BatchClosed,
    BatchNotFinished,
    BatchNotFound,
    Fault,
    IdempotencyKeyReused,
    InvalidRequest,
    MalformedRequest,
)
from maskline.wire import WireModel

_JSONL = "application/jsonl"
_BYTES = "application/octet-stream"
_PATH = "/v1/batches"
_POLL_AFTER_S = 1


class BatchQuery(WireModel):
    """Query of the batches."""

    page_size: Annotated[int, Field(ge=1, le=200)] = 50
    """Most batches on a page."""
    page_token: Annotated[str, Field(pattern=r"^[0-9]{1,20}$")] | None = None
    """``nextPageToken`` of the page before."""


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
    ):
        blueprint.add_url_rule(rule, view.__name__, view, methods=[method])
    return blueprint


class _BatchViews:
    def __init__(self, services: Services) -> None:
        self._services = services
        self._settings = services.settings
        self._artifacts = services.artifacts
        self._batches = services.batches
        self._intake = BatchIntake(services)

    @operation(
        "Label many images: named by a list, by a manifest, or by where they are",
        tag="batches",
        headers={"Idempotency-Key": "Same key and same request: the same batch, however often it is sent"},
        bodies={JSON: NewBatch, MULTIPART: MultipartBatch},
        answers={202: {JSON: BatchResource}},
        problems=(400, 404, 413, 415, 422, 429),
    )
    def create_batch(self) -> Response:
        asked, items = read_new_batch(request)
        with ExitStack() as held:
            if items is not None:
                held.enter_context(closing(items.file))
            batch = self._intake.make(
                asked,
                tenant=g.caller.tenant,
                idempotency_key=request.headers.get("Idempotency-Key"),
                items_sha256=items.sha256 if items else None,
            )
            known = self._known(batch)
            if known is None:
                admit_batch(self._services, batch.tenant)
                self._store_items(batch, items)
                keep_batch(batch, MAX_ACTIVE, self._artifacts, self._batches)
        return self._answer(known or batch, HTTPStatus.ACCEPTED)

    @operation(
        "List batches, newest first",
        tag="batches",
        query=BatchQuery,
        answers={200: {JSON: BatchPage}},
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
        return Response(listing.to_json(), mimetype=JSON)

    @operation("A batch", tag="batches", answers={200: {JSON: BatchResource}}, problems=(404,))
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
        if not batch.has_ended:
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
        answers={200: {JSON: BatchResource}},
        problems=(400, 404, 409, 413, 422),
    )
    def put_part(self, batch_id: str, number: int) -> Response:
        batch = self._require_open(batch_id, number)
        if number > batch.parts + 1:
            raise out_of_turn(number, batch)
        key = part_key(batch_id, number)
        self._store_body(key, MAX_MANIFEST_BYTES, _JSONL)
        try:
            return self._answer(self._batches.add_part(g.caller.tenant, batch_id, number))
        except BatchClosed:  # meanwhile; where this part is another one may come
            self._artifacts.delete([key])
            raise

    @operation(
        "Say that there are no more parts to come",
        tag="batches",
        answers={200: {JSON: BatchResource}},
        problems=(404,),
    )
    def complete_batch(self, batch_id: str) -> Response:
        return self._answer(complete_batch(g.caller.tenant, batch_id, self._artifacts, self._batches))

    @operation(
        "Begin no more items, until the batch is resumed; those in hand are ended",
        tag="batches",
        answers={200: {JSON: BatchResource}},
        problems=(404,),
    )
    def pause_batch(self, batch_id: str) -> Response:
        return self._answer(self._batches.pause(g.caller.tenant, batch_id, is_paused=True))

    @operation(
        "Go on with a batch that was paused",
        tag="batches",
        answers={200: {JSON: BatchResource}},
        problems=(404,),
    )
    def resume_batch(self, batch_id: str) -> Response:
        return self._answer(self._batches.pause(g.caller.tenant, batch_id, is_paused=False))

    @operation(
        "Cancel a batch; the results that there are stay",
        tag="batches",
        answers={200: {JSON: BatchResource}},
        problems=(404,),
    )
    def cancel_batch(self, batch_id: str) -> Response:
        return self._answer(cancel_batch(g.caller.tenant, batch_id, self._artifacts, self._batches))

    @operation(
        "Try the items anew that failed, of a batch that has succeeded with the others",
        tag="batches",
        answers={202: {JSON: BatchResource}},
        problems=(404, 409, 429),
    )
    def retry_batch(self, batch_id: str) -> Response:
        batch = self._get(batch_id)
        if batch.request.resource is not None:
            raise BatchNotFinished(
                "batches of Vertex AI are not tried anew; make another with the items that failed"
            )
        retried = retry_batch(g.caller.tenant, batch_id, MAX_ACTIVE, self._artifacts, self._batches)
        return self._answer(retried, HTTPStatus.ACCEPTED)

    # -- what these are made of

    def _get(self, batch_id: str) -> Batch:
        return self._batches.get(g.caller.tenant, batch_id)

    def _require_open(self, batch_id: str, number: int) -> Batch:
        batch = self._get(batch_id)
        if not 1 <= number <= MAX_PARTS:
            raise _faulty(f"give a number from 1 to {MAX_PARTS}")
        if batch.is_complete or batch.progress.state.is_final:
            raise closed(batch_id)
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
        headers = {} if batch.has_ended else {"Retry-After": str(_POLL_AFTER_S)}
        if status is HTTPStatus.ACCEPTED:
            headers["Location"] = f"{_PATH}/{batch.id}"
        return Response(present(batch).to_json(), status, headers, mimetype=JSON)

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

    def _store_items(self, batch: Batch, items: Upload | None) -> None:
        """Store the items that came with the request, as the first part."""
        if items is not None:
            put_once(self._artifacts, part_key(batch.id, 1), items.file, _JSONL)


def _faulty(detail: str) -> InvalidRequest:
    return InvalidRequest([Fault("", detail)])
