"""The results of a shard as Vertex AI writes them: a file of predictions, and a file of errors."""

import base64
import json
from tempfile import SpooledTemporaryFile
from types import TracebackType
from typing import BinaryIO, Self, cast

from pydantic import JsonValue

from maskline.artifact_operations import exists
from maskline.artifacts import Artifact, result_key
from maskline.batches import BatchRequest, PlannedItem, rpc_code
from maskline.errors import ArtifactNotFound
from maskline.jobs import Failure, Job, JobState
from maskline.ports import ArtifactStore
from maskline.requests import Output
from maskline.results import Prediction

_IN_MEMORY_BYTES = 1 << 23
_MEDIA_TYPE = "application/jsonl"
_GONE = Failure(code="job_not_found", message="the job was deleted before its result was written")


class ShardFiles:
    """Two files on their way to the destination."""

    def __init__(self, artifacts: ArtifactStore, request: BatchRequest) -> None:
        """``request``: says how an item is named, and where the files go."""
        self._artifacts = artifacts
        self._request = request
        self._predictions = _spool()
        self._errors = _spool()
        self._written = 0
        self.failures: list[Failure] = []

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
        if failure is None and job is not None:
            try:
                prediction = self._prediction(job)
            except ArtifactNotFound:
                failure = _GONE
        if failure is None:
            self._predictions.write(_line({**self._name(item), "prediction": prediction}))
            self._written += 1
            return
        error: JsonValue = {"code": rpc_code(failure), "message": failure.message}
        self._errors.write(_line({**self._name(item), "error": error}))
        self.failures.append(failure)

    def store_predictions(self, number: int) -> int:
        """Store the predictions as the file of this number, if there are any; how many there are."""
        return self._store(f"predictions_{number:04d}.jsonl", self._predictions, self._written)

    def store_errors(self, number: int) -> int:
        """Store the errors as the file of this number, if there are any; how many there are."""
        return self._store(f"errors_{number:04d}.jsonl", self._errors, len(self.failures))

    def _store(self, name: str, file: BinaryIO, lines: int) -> int:
        destination = self._request.destination
        key = f"{destination.prefix}{name}"
        # A step that was broken off may have stored it; the same items make the same file.
        if lines and not exists(self._artifacts, key, bucket=destination.bucket):
            self._artifacts.put(key, file, _MEDIA_TYPE, bucket=destination.bucket)
        return lines

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
    if job is None:
        return _GONE
    if job.state is JobState.SUCCEEDED:
        return None
    return job.failure or Failure(code=f"job_{job.state}", message=f"the job {job.id} is {job.state}")


def _line(value: dict[str, JsonValue]) -> bytes:
    return json.dumps(value).encode() + b"\n"


def _spool() -> BinaryIO:
    return cast(BinaryIO, SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES))
