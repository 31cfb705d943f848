"""Routes by which the results of batches are read: line by line, file by file, or as a whole."""

import re
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from typing import Annotated

from flask import Blueprint, Response, g
from pydantic import Field

from api.artifact_urls import ArtifactUrls
from api.openapi import BINARY, operation
from api.services import Services
from maskline.artifact_operations import exists
from maskline.batch_artifacts import (
    Shard,
    export_key,
    failed_export_key,
    problems_folder,
    shard_key,
    summary_key,
)
from maskline.batch_records import shard_keys
from maskline.batch_resources import (
    EXPORT_FORMAT,
    ExportFormats,
    ExportResource,
    ShardPage,
    ShardResource,
)
from maskline.batch_results import BatchSummary, ItemError, ItemResult, ItemReview, PromptProblem
from maskline.batches import Batch, ChunkKey, EndedChunk, ExportRequest
from maskline.errors import ArtifactNotFound, BatchNotFinished, ExportFailed
from maskline.jobs import Failure
from maskline.wire import WireModel

_JSON = "application/json"
_JSONL = "application/jsonl"
_ZIP = "application/zip"
_POLL_AFTER_S = 1


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
    """``/v1/batches/{batch}/…``."""
    views = _ResultViews(services)
    blueprint = Blueprint("batch_results", __name__)
    one = "/v1/batches/<batch_id>"
    for rule, view in (
        (f"{one}/shards", views.list_shards),
        (f"{one}/results", views.get_results),
        (f"{one}/errors", views.get_errors),
        (f"{one}/review", views.get_review),
        (f"{one}/problems", views.get_problems),
        (f"{one}/summary", views.get_summary),
        (f"{one}/exports/<export_format>", views.get_export),
        ("/v1/exportFormats", views.list_export_formats),
    ):
        blueprint.add_url_rule(rule, view.__name__, view)
    return blueprint


class _ResultViews:
    def __init__(self, services: Services) -> None:
        self._services = services
        self._artifacts = services.artifacts
        self._batches = services.batches
        self._urls = ArtifactUrls(services)

    @operation(
        "The chunks that have ended, each with the addresses of its files",
        tag="batches",
        query=ShardQuery,
        answers={200: {_JSON: ShardPage}},
        problems=(404, 422),
    )
    def list_shards(self, batch_id: str, query: ShardQuery) -> Response:
        batch = self._get(batch_id)
        first = query.after + 1
        ended = self._batches.ended_chunks(batch_id, first, first + query.page_size - 1)
        while batch.has_ended and not ended and first + query.page_size <= batch.progress.chunks:
            first += query.page_size  # a batch that was cancelled has gaps, which may be longer than a page
            ended = self._batches.ended_chunks(batch_id, first, first + query.page_size - 1)
        in_order = [chunk for number, chunk in enumerate(ended, first) if chunk.number == number]
        page = ShardPage(
            shards=tuple(self._shard(batch, chunk) for chunk in (ended if batch.has_ended else in_order)),
            is_last=batch.has_ended and first + query.page_size > batch.progress.chunks,
        )
        return Response(page.to_json(), mimetype=_JSON)

    @operation(
        "The results that there are, one item a line",
        tag="batches",
        answers={200: {_JSONL: ItemResult}},
        problems=(404,),
    )
    def get_results(self, batch_id: str) -> Response:
        return self._lines(batch_id, Shard.PREDICTIONS)

    @operation(
        "The items that failed, one a line",
        tag="batches",
        answers={200: {_JSONL: ItemError}},
        problems=(404,),
    )
    def get_errors(self, batch_id: str) -> Response:
        return self._lines(batch_id, Shard.ERRORS)

    @operation(
        "The items that somebody should look at, one a line",
        tag="batches",
        answers={200: {_JSONL: ItemReview}},
        problems=(404,),
    )
    def get_review(self, batch_id: str) -> Response:
        return self._lines(batch_id, Shard.REVIEW)

    @operation(
        "The prompts that its COCO or YOLO source did not give, one a line",
        tag="batches",
        answers={200: {_JSONL: PromptProblem}},
        problems=(404,),
    )
    def get_problems(self, batch_id: str) -> Response:
        return self._content(list(self._artifacts.keys(problems_folder(self._get(batch_id).id))))

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
        self._require_format(export_format)
        asked = ExportRequest(format=export_format, polygons=query.polygons)
        rounds = batch.progress.rounds
        try:
            size, chunks = self._artifacts.stream(export_key(batch_id, rounds, asked.file_name))
        except ArtifactNotFound:
            failed_key = failed_export_key(batch_id, rounds, asked.file_name)
            if exists(self._artifacts, failed_key):
                failure = Failure.model_validate_json(self._artifacts.get(failed_key))
                self._artifacts.delete([failed_key])  # who asks again has it tried again
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

    @operation(
        "The formats in which a batch can be exported",
        tag="batches",
        answers={200: {_JSON: ExportFormats}},
    )
    def list_export_formats(self) -> Response:
        formats = ExportFormats(export_formats=tuple(sorted(self._services.models.export_formats())))
        return Response(formats.to_json(), mimetype=_JSON)

    # -- what these are made of

    def _require_format(self, name: str) -> None:
        known = self._services.models.export_formats()
        if not re.fullmatch(EXPORT_FORMAT, name) or (known and name not in known):
            there_are = f"; there are: {', '.join(sorted(known))}" if known else ""
            raise ExportFailed(f"there is no format {name!r}{there_are}")

    def _get(self, batch_id: str) -> Batch:
        return self._batches.get(g.caller.tenant, batch_id)

    def _require_end(self, batch: Batch) -> None:
        if not batch.has_ended:
            raise BatchNotFinished(f"the batch {batch.id} goes on; wait for its end")

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

    def _lines(self, batch_id: str, shard: Shard) -> Response:
        return self._content(shard_keys(self._get(batch_id), shard, self._batches))

    def _content(self, keys: Iterable[str]) -> Response:
        def pieces() -> Iterator[bytes]:
            for key in keys:
                yield from self._artifacts.stream(key)[1]

        return Response(pieces(), mimetype=_JSONL, headers={"Cache-Control": "private, no-store"})
