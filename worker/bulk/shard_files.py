"""The shard of a chunk: its lines of predictions, errors and reviews, and what they come to."""

import heapq
import json
from collections import Counter
from tempfile import SpooledTemporaryFile
from types import TracebackType
from typing import BinaryIO, Self, cast

from pydantic import JsonValue

from maskline.batch_artifacts import Shard, chunk_end_key, shard_key
from maskline.batch_results import ItemError, ItemResult, ItemReview
from maskline.batches import SLOWEST, BatchRequest, ChunkEnd, ChunkKey, ItemForm, LabelSum, rpc_code
from maskline.jobs import Failure
from maskline.ports import ArtifactStore
from worker.bulk.item_runner import Labelled
from worker.bulk.lines import Item

_IN_MEMORY_BYTES = 1 << 24
_MEDIA_TYPE = "application/jsonl"


class ShardFiles:
    """Three files on their way to the bucket."""

    def __init__(self, chunk: ChunkKey, request: BatchRequest) -> None:
        """``request``: of the chunk's batch; lines of Vertex AI say less than ours."""
        self._chunk = chunk
        self._request = request
        self._files = {shard: _spool() for shard in Shard}
        self._confidence = 0.0
        self._labels: dict[str, LabelSum] = {}
        self._errors: Counter[str] = Counter()
        self._lines: Counter[Shard] = Counter()
        self._milliseconds: dict[str, float] = {}

    def __enter__(self) -> Self:
        """The files, empty."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let the temporary files go."""
        for file in self._files.values():
            file.close()

    def add(self, item: Item, outcome: Labelled | Failure) -> None:
        """Write an item with its prediction or its error."""
        if isinstance(outcome, Failure):
            self._errors[outcome.code] += 1
            self._write(Shard.ERRORS, self._error_line(item, outcome))
            return
        self._write(Shard.PREDICTIONS, self._prediction_line(item, outcome))
        if outcome.flags:
            self._write(Shard.REVIEW, _review_line(item, outcome))
        self._confidence += outcome.mean_confidence
        for label, more in outcome.sums.items():
            self._labels[label] = self._labels.get(label, LabelSum()).plus(more)
        timings = outcome.timings
        self._milliseconds[f"{item.told_line} {item.id}"] = round(
            timings.fetch + timings.decode + timings.model + timings.render, 3
        )

    def store(self, artifacts: ArtifactStore) -> ChunkEnd:
        """Store each of the files that is not empty, and what they come to.

        Raises:
            ArtifactStoreUnavailable: the store does not answer.
        """
        for shard, file in self._files.items():
            if file.tell():
                artifacts.put(shard_key(self._chunk, shard), file, _MEDIA_TYPE)
        slowest = heapq.nlargest(SLOWEST, self._milliseconds.items(), key=lambda one: one[1])
        end = ChunkEnd(
            number=self._chunk.number,
            attempt=self._chunk.attempt,
            succeeded=self._lines[Shard.PREDICTIONS],
            failed=self._lines[Shard.ERRORS],
            flagged=self._lines[Shard.REVIEW],
            confidence=round(self._confidence, 6),
            labels=self._labels,
            errors=dict(self._errors),
            slowest=dict(slowest),
        )
        artifacts.put(chunk_end_key(self._chunk), end.to_json().encode(), "application/json")
        return end

    def _write(self, shard: Shard, line: str) -> None:
        self._files[shard].write(line.encode() + b"\n")
        self._lines[shard] += 1

    def _prediction_line(self, item: Item, outcome: Labelled) -> str:
        if self._is_of_vertex(item):
            prediction: JsonValue = outcome.prediction.model_dump(by_alias=True)
            return json.dumps({**self._name(item), "prediction": prediction})
        # Its parts were checked when they were made.
        return ItemResult.model_construct(
            id=item.id,
            line=item.told_line,
            instance=item.instance,
            prediction=outcome.prediction,
            width=outcome.width,
            height=outcome.height,
            bit_depth=outcome.bit_depth,
            annotation_specs=outcome.annotation_specs,
            segments=outcome.segments,
            mean_confidence=outcome.mean_confidence,
            timings=outcome.timings,
            flags=outcome.flags,
        ).to_json()

    def _error_line(self, item: Item, failure: Failure) -> str:
        if self._is_of_vertex(item):
            error: JsonValue = {"code": rpc_code(failure.code), "message": failure.message}
            return json.dumps({**self._name(item), "error": error})
        return ItemError.model_construct(
            id=item.id, line=item.told_line, instance=item.instance, error=failure
        ).to_json()

    def _is_of_vertex(self, item: Item) -> bool:
        return item.form in {ItemForm.JSONL, ItemForm.FILE_LIST}

    def _name(self, item: Item) -> dict[str, JsonValue]:
        field = self._request.fields.key_field
        if field and isinstance(item.instance, dict) and field in item.instance:
            return {"key": item.instance[field]}
        return {"instance": item.instance}


def _review_line(item: Item, outcome: Labelled) -> str:
    return ItemReview.model_construct(
        id=item.id,
        line=item.told_line,
        instance=item.instance,
        mean_confidence=outcome.mean_confidence,
        flags=outcome.flags,
    ).to_json()


def _spool() -> BinaryIO:
    return cast(BinaryIO, SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES))
