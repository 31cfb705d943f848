"""Batch prediction jobs: images and results in buckets. The workers move them on (``worker/batches.py``)."""

import re
import secrets
from datetime import UTC, datetime
from typing import Annotated, Literal

from flask import Response, g, request
from pydantic import ConfigDict, Field, JsonValue

from api.body import read_body, read_json
from api.checks import faults_of_request
from api.limits import admit_batch
from api.openapi import operation
from api.protocols.vertex.deployments import VERSION, Deployments
from api.protocols.vertex.errors import ErrorBody
from api.protocols.vertex.listing import ListQuery, page_of
from api.protocols.vertex.operations import Operation, ended_operation
from api.protocols.vertex.prediction import request_for
from api.protocols.vertex.routes import JSON, Nothing, Route, parent_of
from api.services import Services
from maskline.batch_artifacts import Shard, published_key
from maskline.batch_records import cancel_batch, forget_batch, keep_batch
from maskline.batches import (
    MAX_ACTIVE,
    Batch,
    BatchRequest,
    BatchState,
    Destination,
    ItemFields,
    ItemForm,
    Source,
    new_batch_id,
    rpc_code,
)
from maskline.bucket_uris import not_open, split_uri, why_not_writable
from maskline.clock import time_ms
from maskline.errors import ArtifactNotFound, BatchNotFinished, BatchNotFound, Fault, InvalidRequest
from maskline.image_header import ImageLimits
from maskline.jobs import Failure
from maskline.plain_words import Right
from maskline.requests import Priority, SegmentationRequest
from maskline.results import ModelCard
from maskline.wire import FreeObject, WireModel

_MAX_BODY_BYTES = 1 << 20
_MAX_INPUT_BYTES = 1 << 30
_STATES = {
    BatchState.QUEUED: "JOB_STATE_PENDING",
    BatchState.RUNNING: "JOB_STATE_RUNNING",
    BatchState.SUCCEEDED: "JOB_STATE_SUCCEEDED",
    BatchState.FAILED: "JOB_STATE_FAILED",
    BatchState.CANCELLED: "JOB_STATE_CANCELLED",
}

Uri = Annotated[
    str,
    Field(pattern=r"^(gs|s3)://[^/*\s]+/[^*]+$", max_length=2048),
    Right("give gs://BUCKET/KEY or s3://BUCKET/KEY, without wildcards"),
]
Prefix = Annotated[
    str,
    Field(pattern=r"^(gs|s3)://[^/\s]+(/.*)?$", max_length=1024),
    Right("give gs://BUCKET/DIRECTORY or s3://BUCKET/DIRECTORY"),
]

Ignored = Annotated[JsonValue, Field(exclude=True)]
"""Of a field that is taken, and neither looked at nor given back."""


class GcsSource(WireModel):
    """Objects with instances."""

    uris: Annotated[list[Uri], Field(min_length=1, max_length=100)]
    """In buckets that are open for import."""


class GcsDestination(WireModel):
    """Where the results go."""

    output_uri_prefix: Prefix
    """A directory in a bucket that is open for export."""


class InputConfig(WireModel):
    """What goes in."""

    instances_format: ItemForm
    """What a line of the input is."""
    gcs_source: GcsSource
    """Where the lines are."""


class OutputConfig(WireModel):
    """What comes out."""

    predictions_format: Annotated[str, Field(pattern="^jsonl$"), Right("give jsonl")]
    """``jsonl``."""
    gcs_destination: GcsDestination
    """Where it goes."""


class InstanceConfig(WireModel):
    """Which fields of an instance count."""

    instance_type: Annotated[str, Field(pattern="^(object)?$"), Right("give object")] = ""
    """``object``."""
    key_field: str | None = None
    """The field that stands for the instance in the results."""
    included_fields: tuple[str, ...] = ()
    """These fields alone count."""
    excluded_fields: tuple[str, ...] = ()
    """These fields do not count."""


class NewBatchPredictionJob(WireModel):
    """The body by which a job is made."""

    display_name: Annotated[str, Field(min_length=1, max_length=128)]
    """Name for people."""
    model: Annotated[
        str,
        Field(pattern=r"^((projects/[^/]+/locations/[^/]+/)?(publishers/[^/]+/)?models/)?[^/]+$"),
        Right("give projects/PROJECT/locations/LOCATION/models/MODEL or publishers/PUBLISHER/models/MODEL"),
    ]
    """Resource name of the model."""
    input_config: InputConfig
    """What goes in."""
    output_config: OutputConfig
    """What comes out."""
    model_parameters: FreeObject | None = None
    """As ``parameters`` of an online prediction."""
    instance_config: InstanceConfig = InstanceConfig()
    """Which fields of an instance count."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Given back."""
    generate_explanation: Annotated[Literal[False], Right("leave it out; there are no explanations")] = False
    """There are none."""
    dedicated_resources: Ignored = None
    """Ignored."""
    disable_container_logging: Ignored = None
    """Ignored."""
    encryption_spec: Ignored = None
    """Ignored."""
    manual_batch_tuning_parameters: Ignored = None
    """Ignored."""
    service_account: Ignored = None
    """Ignored."""


class RpcStatus(WireModel):
    """``google.rpc.Status``."""

    code: int
    """Of ``google.rpc.Code``."""
    message: str
    """What was wrong."""


class CompletionStats(WireModel):
    """How many instances are done; written as Google's JSON writes 64-bit integers."""

    successful_count: str
    """With a prediction."""
    failed_count: str
    """With an error."""
    incomplete_count: str
    """To come; -1 while they have not all been read."""


class OutputInfo(WireModel):
    """Where the results are."""

    gcs_output_directory: str
    """The directory that was made for them."""


class BatchPredictionJob(WireModel):
    """``google.cloud.aiplatform.v1.BatchPredictionJob``: what was sent, and what came of it."""

    model_config = ConfigDict(extra="allow")

    name: str
    """Resource name."""
    model_version_id: str = VERSION
    """Always the same: models have no versions."""
    state: str
    """``JOB_STATE_…``."""
    create_time: datetime
    """When it was made."""
    start_time: datetime | None = None
    """When it first ran."""
    end_time: datetime | None = None
    """When it ended."""
    update_time: datetime
    """When it last moved."""
    error: RpcStatus | None = None
    """Why it failed or was cancelled."""
    partial_failures: tuple[RpcStatus, ...] = ()
    """The first twenty errors of instances."""
    completion_stats: CompletionStats
    """How many instances are done."""
    output_info: OutputInfo
    """Where the results are."""


class BatchPredictionJobPage(WireModel):
    """A page of jobs."""

    batch_prediction_jobs: tuple[BatchPredictionJob, ...]
    """Oldest first."""
    next_page_token: str | None = None
    """Absent on the last page."""


def routes(services: Services, deployments: Deployments) -> list[Route]:
    """The routes."""
    views = _Views(services, deployments)
    return [
        ("POST", "batchPredictionJobs", views.create_batch_prediction_job),
        ("GET", "batchPredictionJobs", views.list_batch_prediction_jobs),
        ("GET", "batchPredictionJobs/<job>", views.get_batch_prediction_job),
        ("DELETE", "batchPredictionJobs/<job>", views.delete_batch_prediction_job),
        ("POST", "batchPredictionJobs/<job>:cancel", views.cancel_batch_prediction_job),
    ]


class _Views:
    def __init__(self, services: Services, deployments: Deployments) -> None:
        self._services = services
        self._settings = services.settings
        self._batches = services.batches
        self._deployments = deployments

    @operation(
        "Segment images of a bucket; the masks go to a bucket",
        tag="Vertex AI",
        bodies={JSON: NewBatchPredictionJob},
        answers={200: {JSON: BatchPredictionJob}},
        problems=(400, 404, 429),
        problem=ErrorBody,
    )
    def create_batch_prediction_job(self, project: str, location: str) -> Response:
        batch = self._batch(read_json(read_body(request, _MAX_BODY_BYTES), NewBatchPredictionJob))
        admit_batch(self._services, batch.tenant)
        keep_batch(batch, MAX_ACTIVE, self._services.artifacts, self._batches)
        return Response(_resource(batch, project, location).to_json(), mimetype=JSON)

    @operation(
        "A batch prediction job",
        tag="Vertex AI",
        answers={200: {JSON: BatchPredictionJob}},
        problems=(404,),
        problem=ErrorBody,
    )
    def get_batch_prediction_job(self, project: str, location: str, job: str) -> Response:
        return Response(_resource(self._get(job), project, location).to_json(), mimetype=JSON)

    @operation(
        "List the batch prediction jobs; filters: `displayName`, `state`, `model`",
        tag="Vertex AI",
        query=ListQuery,
        answers={200: {JSON: BatchPredictionJobPage}},
        problems=(400,),
        problem=ErrorBody,
    )
    def list_batch_prediction_jobs(self, project: str, location: str, query: ListQuery) -> Response:
        page, token = page_of(
            [batch for batch in self._batches.all(g.caller.tenant) if batch.request.resource is not None],
            query,
            id_of=lambda batch: batch.id,
            fields={
                "displayName": lambda batch: batch.request.display_name,
                "state": _state,
                "model": lambda batch: str(_asked(batch)["model"]),
            },
        )
        jobs = tuple(_resource(batch, project, location) for batch in page)
        listing = BatchPredictionJobPage(batch_prediction_jobs=jobs, next_page_token=token)
        return Response(listing.to_json(), mimetype=JSON)

    @operation(
        "Cancel a batch prediction job; what is written stays",
        tag="Vertex AI",
        answers={200: {JSON: Nothing}},
        problems=(404,),
        problem=ErrorBody,
    )
    def cancel_batch_prediction_job(self, project: str, location: str, job: str) -> Response:
        self._get(job)
        cancel_batch(g.caller.tenant, job, self._services.artifacts, self._batches)
        return Response(Nothing().to_json(), mimetype=JSON)

    @operation(
        "Forget a batch prediction job that has ended; its results stay",
        tag="Vertex AI",
        answers={200: {JSON: Operation}},
        problems=(404, 409),
        problem=ErrorBody,
    )
    def delete_batch_prediction_job(self, project: str, location: str, job: str) -> Response:
        if not self._get(job).progress.state.is_final:
            raise BatchNotFinished(f"the batch prediction job {job} goes on; cancel it first")
        forget_batch(g.caller.tenant, job, self._services.artifacts, self._batches)
        return Response(ended_operation(project, location).to_json(), mimetype=JSON)

    def _get(self, job: str) -> Batch:
        batch = self._batches.get(g.caller.tenant, job)
        if batch.request.resource is None:
            raise BatchNotFound(
                f"there is no batch prediction job {job!r}; GET /v1/batches/{job} has this batch"
            )
        return batch

    def _batch(self, asked: NewBatchPredictionJob) -> Batch:
        deployment = self._deployments.find_by_resource_name(asked.model)
        card = deployment.card
        wanted = request_for(
            card,
            {**deployment.parameters, **(asked.model_parameters or {})},
            subtask=deployment.subtask or card.subtasks[0],
            priority=Priority.BULK,
        )
        sources = _sources(asked)
        created_ms = time_ms()
        destination = _destination(asked, card, created_ms)
        faults = [
            *self._faults_of_parameters(wanted, card),
            *self._faults_of_sources(sources),
            *self._faults_of_destination(destination),
        ]
        if faults:
            raise InvalidRequest(faults)
        fields = asked.instance_config
        return Batch(
            id=new_batch_id(),
            tenant=g.caller.tenant,
            request=BatchRequest(
                request=wanted,
                form=asked.input_config.instances_format,
                fields=ItemFields(
                    key_field=fields.key_field,
                    included=fields.included_fields,
                    excluded=fields.excluded_fields,
                ),
                sources=sources,
                destination=destination,
                display_name=asked.display_name,
                resource=asked.model_dump(mode="json", by_alias=True, exclude_unset=True),
            ),
            created_ms=created_ms,
            is_complete=True,
        )

    def _faults_of_parameters(self, wanted: SegmentationRequest, card: ModelCard) -> list[Fault]:
        limits = ImageLimits.from_settings(self._settings)
        faults = faults_of_request(wanted, card, None, limits=limits, has_webhook_secret=False)
        return [
            Fault(re.sub("^/parameters", "/modelParameters", fault.pointer), fault.detail) for fault in faults
        ]

    def _faults_of_sources(self, sources: tuple[Source, ...]) -> list[Fault]:
        faults = []
        total = 0
        for number, source in enumerate(sources):
            pointer = f"/inputConfig/gcsSource/uris/{number}"
            if source.bucket not in self._settings.import_buckets:
                faults.append(
                    Fault(pointer, not_open(source.bucket, "import", self._settings.import_buckets))
                )
                continue
            try:
                total += self._services.artifacts.size(source.key, bucket=source.bucket)
            except ArtifactNotFound as error:
                faults.append(Fault(pointer, f"it can't be read: {error.message}"))
        if total > _MAX_INPUT_BYTES:
            detail = f"together they are {total} bytes; at most {_MAX_INPUT_BYTES} are taken"
            faults.append(Fault("/inputConfig/gcsSource/uris", detail))
        return faults

    def _faults_of_destination(self, destination: Destination) -> list[Fault]:
        open_buckets = self._settings.export_buckets
        if destination.bucket not in open_buckets:
            wrong: str | None = not_open(destination.bucket, "export", open_buckets)
        else:
            # An item takes more than a byte.
            longest = published_key(destination, Shard.PREDICTIONS, _MAX_INPUT_BYTES)
            wrong = why_not_writable(longest)
        return [Fault("/outputConfig/gcsDestination/outputUriPrefix", wrong)] if wrong else []


def _sources(asked: NewBatchPredictionJob) -> tuple[Source, ...]:
    pairs = map(split_uri, asked.input_config.gcs_source.uris)
    return tuple(Source(bucket=bucket, key=key) for bucket, key in pairs)


def _destination(asked: NewBatchPredictionJob, card: ModelCard, created_ms: int) -> Destination:
    base = asked.output_config.gcs_destination.output_uri_prefix.rstrip("/")
    name = re.sub(r"[^\w-]+", "_", card.display_name)
    made = datetime.fromtimestamp(created_ms / 1000, UTC).strftime("%Y_%m_%dT%H_%M_%S")
    # Two of one model may be made in one millisecond, and must not write over each other.
    directory = f"prediction-{name}-{made}_{created_ms % 1000:03d}Z-{secrets.token_hex(3)}"
    bucket, prefix = split_uri(f"{base}/{directory}/")
    return Destination(uri=f"{base}/{directory}", bucket=bucket, prefix=prefix)


def _state(batch: Batch) -> str:
    if batch.is_cancelling and not batch.progress.state.is_final:
        return "JOB_STATE_CANCELLING"
    return _STATES[batch.progress.state]


def _resource(batch: Batch, project: str, location: str) -> BatchPredictionJob:
    progress, counts, destination = batch.progress, batch.counts, batch.request.destination
    done = counts.succeeded + counts.failed
    return BatchPredictionJob(
        **_asked(batch),
        name=f"{parent_of(project, location)}/batchPredictionJobs/{batch.id}",
        state=_state(batch),
        create_time=_time(batch.created_ms),
        start_time=_time(progress.started_ms) if progress.started_ms else None,
        end_time=_time(progress.ended_ms) if progress.ended_ms else None,
        update_time=_time(progress.updated_ms or batch.created_ms),
        error=_status(progress.failure) if progress.failure else None,
        partial_failures=tuple(
            RpcStatus(code=one.code, message=one.message) for one in progress.partial_failures
        ),
        completion_stats=CompletionStats(
            successful_count=str(counts.succeeded),
            failed_count=str(counts.failed),
            incomplete_count=str(progress.items - done if batch.is_all_cut else -1),
        ),
        output_info=OutputInfo(gcs_output_directory=destination.uri if destination else ""),
    )


def _asked(batch: Batch) -> dict[str, JsonValue]:
    """The request as its client wrote it."""
    return batch.request.resource or {}


def _status(failure: Failure) -> RpcStatus:
    return RpcStatus(code=rpc_code(failure.code), message=failure.message)


def _time(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
