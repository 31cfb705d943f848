"""The results of a shard as Vertex AI writes them: a file of predictions, and a file of errors."""

import base64
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from tempfile import SpooledTemporaryFile
from types import TracebackType
from typing import BinaryIO, Self, cast

from pydantic import JsonValue

from maskline.artifact_operations import exists
from maskline.artifacts import Artifact, result_key
from maskline.batches import BatchRequest, PlannedItem, errors_key, predictions_key, rpc_code
from maskline.errors import ArtifactNotFound
from maskline.jobs import Failure, Job, JobState
from maskline.ports import ArtifactStore
from maskline.requests import Output
from maskline.results import Prediction

_IN_MEMORY_BYTES = 1 << 23
_MEDIA_TYPE = "application/jsonl"
_GONE = Failure(code="job_not_found", message="the job was deleted before its result was written")


class ShardFiles:
    """Two files on their way to the destination.

    Predictions that are there already were written by a step that was broken off, and stand: the jobs
    that they are of may be gone by now.
    """

    def __init__(self, artifacts: ArtifactStore, request: BatchRequest, shard: int) -> None:
        """``request``: says how an item is named, and where the files go; ``shard``: from 1.

        Raises:
            ArtifactStoreUnavailable: the store does not answer.
        """
        self._artifacts = artifacts
        self._request = request
        self._predictions_key = predictions_key(request.destination, shard)
        self._errors_key = errors_key(request.destination, shard)
        self._there = self._names_there()
        self._predictions = _spool()
        self._errors = _spool()
        self.failures: list[Failure] = []
        """Of the items that have no prediction."""

    def __enter__(self) -> Self:
        """The files, empty."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let the temporary files go."""
        self._predictions.close()
        self._errors.close()

    def add(self, item: PlannedItem, job: Job | None) -> None:
        """Write an item with its prediction or its error.

        Raises:
            ArtifactStoreUnavailable: the store does not answer.
        """
        failure = item.failure or _failure_of(job)
        if failure is None and self._has_prediction(item, job):
            return
        failure = failure or _GONE
        error: JsonValue = {"code": rpc_code(failure), "message": failure.message}
        self._errors.write(_line({**self._name(item), "error": error}))
        self.failures.append(failure)

    def store(self) -> None:
        """Store each of the files that is not empty, and not there.

        Raises:
            ArtifactNotFound: the destination's bucket is not there, or refuses.
            ArtifactStoreUnavailable: the store does not answer.
        """
        for key, file in ((self._predictions_key, self._predictions), (self._errors_key, self._errors)):
            bucket = self._request.destination.bucket
            if file.tell() and not exists(self._artifacts, key, bucket=bucket):
                self._artifacts.put(key, file, _MEDIA_TYPE, bucket=bucket)

    def _has_prediction(self, item: PlannedItem, job: Job | None) -> bool:
        """Whether the prediction is in its file, where it is written if the file is new."""
        name = self._name(item)
        if self._there is not None:
            line = _line(name)
            self._there[line] -= 1
            return self._there[line] >= 0
        if job is None:
            return False
        try:
            prediction = self._prediction(job)
        except ArtifactNotFound:
            return False
        self._predictions.write(_line({**name, "prediction": prediction}))
        return True

    def _names_there(self) -> Counter[bytes] | None:
        """How often each item's name is in the predictions that are there; None where there are none."""
        try:
            _, chunks = self._artifacts.stream(self._predictions_key, bucket=self._request.destination.bucket)
        except ArtifactNotFound:
            return None
        return Counter(_line(_without_prediction(line)) for line in _lines(chunks))

    def _name(self, item: PlannedItem) -> dict[str, JsonValue]:
        field = self._request.fields.key_field
        if field and isinstance(item.instance, dict) and field in item.instance:
            return {"key": item.instance[field]}
        return {"instance": item.instance}

    def _prediction(self, job: Job) -> JsonValue:
        masks = {
            output: base64.b64encode(self._artifacts.get(result_key(job.id, job.attempt, file))).decode()
            for output, file in (
                (Output.CATEGORY_MASK, Artifact.CATEGORY_MASK),
                (Output.CONFIDENCE_MASK, Artifact.CONFIDENCE_MASK),
            )
        }
        prediction = Prediction(
            category_mask=masks[Output.CATEGORY_MASK], confidence_mask=masks[Output.CONFIDENCE_MASK]
        )
        value: JsonValue = prediction.model_dump(by_alias=True)
        return value


def _failure_of(job: Job | None) -> Failure | None:
    if job is None or job.state is JobState.SUCCEEDED:
        return None
    return job.failure or Failure(code=f"job_{job.state}", message=f"the job {job.id} is {job.state}")


def _line(value: dict[str, JsonValue]) -> bytes:
    return json.dumps(value).encode() + b"\n"


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines


def _without_prediction(line: bytes) -> dict[str, JsonValue]:
    return {name: value for name, value in json.loads(line).items() if name != "prediction"}


def _spool() -> BinaryIO:
    return cast(BinaryIO, SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES))
