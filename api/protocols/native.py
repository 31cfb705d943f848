"""The native protocol: submit, poll, wait, stream, list, cancel and delete jobs."""

import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from http import HTTPStatus
from typing import Annotated

from flask import Blueprint, Response, g, request, stream_with_context
from pydantic import BaseModel, Field

from api.artifact_urls import ArtifactUrls
from api.intake import JobParameters, JobRequest, Submission, fingerprint, read_submission
from api.openapi import BINARY, operation
from api.presenter import Masks, Presenter, require_result
from api.services import Services
from api.submission import Submitter
from api.waiting import wait_for_end
from maskline.artifact_operations import cancel_job, exists, remove_artifacts
from maskline.artifacts import Artifact, result_key
from maskline.errors import (
    ArtifactNotFound,
    CapacityError,
    DependencyError,
    Fault,
    InvalidRequest,
    RenderPending,
    ServiceError,
)
from maskline.jobs import Job, JobState
from maskline.ports import Idempotency
from maskline.requests import Output
from maskline.resources import JobPage, JobResource
from maskline.results import DetectionList, Prediction, SegmentList, SegmentPictureList
from maskline.wire import WireModel

JSON = "application/json"
PNG = "image/png"
JPEG = "image/jpeg"
NPY = "application/octet-stream"
EVENTS = "text/event-stream"
JOBS_PATH = "/v1/jobs"
_POLL_AFTER_S = 1
_KEEP_ALIVE_S = 10.0
_OVERLAY_WAIT_S = 20.0
_OVERLAY_LOOK_S = 0.05
_MAX_KEY = 255
_NOTHING = ": still there\n\n"  # a comment, by which both sides see that the stream lives
_EVENT_SCHEMA = {  # of each event: what OpenAPI 3.1 has for a stream
    "type": "object",
    "required": ["id", "event", "data"],
    "properties": {
        "id": {"type": "string", "description": "The job's version."},
        "event": {"const": "job"},
        "data": {
            "type": "string",
            "contentMediaType": JSON,
            "contentSchema": {"$ref": f"#/components/schemas/{JobResource.__name__}"},
        },
    },
}


class JobQuery(WireModel):
    """Query of one job."""

    wait: Annotated[float, Field(ge=0)] = 0
    """Seconds to wait for the job's end before answering; the service's own limit holds."""
    masks: Masks = Masks.URL
    """How the masks are given: a URL that ends after a while, an ``s3://`` URI, or base64."""


class PredictionQuery(WireModel):
    """Query of a prediction."""

    masks: Masks = Masks.INLINE
    """How the masks are given: base64 as Vertex AI does, a URL that ends, or an ``s3://`` URI."""


class EventsQuery(WireModel):
    """Query of a job's events."""

    masks: Masks = Masks.URL
    """How the masks are given: a URL that ends after a while, an ``s3://`` URI, or base64."""


class ListQuery(WireModel):
    """Query of a listing."""

    state: JobState | None = None
    """Only jobs in this state."""
    model: str | None = None
    """Only jobs of this model."""
    page_size: Annotated[int, Field(ge=1, le=200)] = 50
    """Most jobs on a page."""
    page_token: Annotated[str, Field(pattern="^[0-9a-f]{32}$")] | None = None
    """``nextPageToken`` of the page before."""


class MultipartSubmission(BaseModel):
    """The parts of a multipart submission."""

    image: Annotated[bytes, Field(json_schema_extra={"format": "binary"})]
    """The image."""
    request: JobParameters = JobParameters()
    """Everything else, as JSON."""


def make_blueprint(services: Services) -> Blueprint:
    """The routes."""
    views = _JobViews(services)
    blueprint = Blueprint("jobs", __name__)
    for rule, method, view in (
        (JOBS_PATH, "POST", views.submit_job),
        (JOBS_PATH, "GET", views.list_jobs),
        (f"{JOBS_PATH}/<job_id>", "GET", views.get_job),
        (f"{JOBS_PATH}/<job_id>", "DELETE", views.delete_job),
        (f"{JOBS_PATH}/<job_id>:cancel", "POST", views.cancel_job),
        (f"{JOBS_PATH}/<job_id>/prediction", "GET", views.get_prediction),
        (f"{JOBS_PATH}/<job_id>/categoryMask.png", "GET", views.get_category_mask),
        (f"{JOBS_PATH}/<job_id>/confidenceMask.png", "GET", views.get_confidence_mask),
        (f"{JOBS_PATH}/<job_id>/overlay.png", "GET", views.get_overlay),
        (f"{JOBS_PATH}/<job_id>/segments", "GET", views.get_segments),
        (f"{JOBS_PATH}/<job_id>/segmentMasks", "GET", views.get_segment_masks),
        (f"{JOBS_PATH}/<job_id>/detections", "GET", views.get_detections),
        (f"{JOBS_PATH}/<job_id>/picture.jpg", "GET", views.get_picture),
        (f"{JOBS_PATH}/<job_id>/embedding.npy", "GET", views.get_embedding),
        (f"{JOBS_PATH}/<job_id>/events", "GET", views.get_events),
    ):
        blueprint.add_url_rule(rule, view.__name__, view, methods=[method])
    return blueprint


class _JobViews:
    def __init__(self, services: Services) -> None:
        self._services = services
        self._settings = services.settings
        self._jobs = services.jobs
        self._presenter = Presenter(services, ArtifactUrls(services))
        self._submitter = Submitter(services)

    @operation(
        "Submit an image",
        tag="jobs",
        image_query=JobParameters,
        headers={
            "Idempotency-Key": "Same key and same request: the same job, however often it is sent",
            "Prefer": "`wait=N`: answer 200 with the finished job if it ends within N seconds",
        },
        bodies={
            "multipart/form-data": MultipartSubmission,
            JSON: JobRequest,
            "image/*": BINARY,
        },
        answers={202: {JSON: JobResource}, 200: {JSON: JobResource}},
        problems=(400, 404, 413, 415, 422, 429, 503),
    )
    def submit_job(self) -> Response:
        wait_s = _preferred_wait()
        with closing(read_submission(request, self._settings.max_image_bytes)) as submission:
            job = self._submitter.submit(
                g.caller.tenant, submission, _idempotency(submission), reuses_result=wait_s is not None
            )
        if wait_s is not None:
            job = wait_for_end(self._services, job, wait_s)
        status = HTTPStatus.OK if job.state.is_final and wait_s is not None else HTTPStatus.ACCEPTED
        response = self._answer(job, Masks.URL, status)
        response.headers["Location"] = f"{JOBS_PATH}/{job.id}"
        if wait_s is not None:
            response.headers["Preference-Applied"] = f"wait={wait_s:g}"
        return response

    @operation(
        "Look at a job, or wait for its end",
        tag="jobs",
        query=JobQuery,
        answers={200: {JSON: JobResource}},
        problems=(404, 422),
    )
    def get_job(self, job_id: str, query: JobQuery) -> Response:
        job = self._jobs.get(g.caller.tenant, job_id)
        if query.wait:
            job = wait_for_end(self._services, job, query.wait)
        return self._answer(job, query.masks, HTTPStatus.OK)

    @operation(
        "List jobs, newest first",
        tag="jobs",
        query=ListQuery,
        answers={200: {JSON: JobPage}},
        problems=(422,),
    )
    def list_jobs(self, query: ListQuery) -> Response:
        page = self._jobs.page(
            g.caller.tenant,
            state=query.state,
            model=query.model,
            size=query.page_size,
            token=query.page_token,
        )
        listing = JobPage(
            jobs=tuple(self._presenter.brief(job) for job in page.jobs), next_page_token=page.next_token
        )
        return Response(listing.to_json(), mimetype=JSON)

    @operation(
        "Cancel a job that is queued or running; one that has ended stays as it is",
        tag="jobs",
        answers={200: {JSON: JobResource}},
        problems=(404,),
    )
    def cancel_job(self, job_id: str) -> Response:
        job = cancel_job(self._jobs, self._services.artifacts, g.caller.tenant, job_id)
        return self._answer(job, Masks.URL, HTTPStatus.OK)

    @operation(
        "Remove a job and its artifacts, whatever its state",
        tag="jobs",
        answers={204: {}},
        problems=(404,),
    )
    def delete_job(self, job_id: str) -> Response:
        self._jobs.delete(g.caller.tenant, job_id)
        with suppress(DependencyError):  # the sweeper removes what stays behind
            remove_artifacts(self._services.artifacts, job_id)
        return Response(status=HTTPStatus.NO_CONTENT)

    @operation(
        "The prediction alone, exactly as Vertex AI writes it",
        tag="results",
        query=PredictionQuery,
        answers={200: {JSON: Prediction}},
        problems=(404, 409, 422),
    )
    def get_prediction(self, job_id: str, query: PredictionQuery) -> Response:
        job = self._jobs.get(g.caller.tenant, job_id)
        prediction = self._presenter.prediction(job, query.masks)
        return Response(prediction.to_json(), mimetype=JSON)

    @operation("The category mask", tag="results", answers={200: {PNG: BINARY}}, problems=(404, 409))
    def get_category_mask(self, job_id: str) -> Response:
        return self._file(job_id, Artifact.CATEGORY_MASK, Output.CATEGORY_MASK)

    @operation("The confidence mask", tag="results", answers={200: {PNG: BINARY}}, problems=(404, 409))
    def get_confidence_mask(self, job_id: str) -> Response:
        return self._file(job_id, Artifact.CONFIDENCE_MASK, Output.CONFIDENCE_MASK)

    @operation(
        "The segments, with their COCO run lengths",
        tag="results",
        answers={200: {JSON: SegmentList}},
        problems=(404, 409),
    )
    def get_segments(self, job_id: str) -> Response:
        return self._file(job_id, Artifact.SEGMENTS, Output.SEGMENTS)

    @operation(
        "The segments, each with its mask as a picture",
        tag="results",
        answers={200: {JSON: SegmentPictureList}},
        problems=(404, 409),
    )
    def get_segment_masks(self, job_id: str) -> Response:
        return self._file(job_id, Artifact.SEGMENT_MASKS, Output.SEGMENT_MASKS)

    @operation(
        "The segments that the request's `detections` chose, with their outlines",
        tag="results",
        answers={200: {JSON: DetectionList}},
        problems=(404, 409),
    )
    def get_detections(self, job_id: str) -> Response:
        return self._file(job_id, Artifact.DETECTIONS, Output.DETECTIONS)

    @operation(
        "The image with the detections drawn on it",
        tag="results",
        answers={200: {JPEG: BINARY}},
        problems=(404, 409),
    )
    def get_picture(self, job_id: str) -> Response:
        return self._file(job_id, Artifact.PICTURE, Output.PICTURE)

    @operation(
        "What the model's encoder made of the image, as `numpy.save` writes it",
        tag="results",
        answers={200: {NPY: BINARY}},
        problems=(404, 409),
    )
    def get_embedding(self, job_id: str) -> Response:
        return self._file(job_id, Artifact.EMBEDDING, Output.EMBEDDING)

    @operation(
        "The image with the categories painted over it; made when it is asked for first",
        tag="results",
        answers={200: {PNG: BINARY}},
        problems=(404, 409),
    )
    def get_overlay(self, job_id: str) -> Response:
        job = self._jobs.get(g.caller.tenant, job_id)
        require_result(job)
        key = result_key(job.id, job.attempt, Artifact.OVERLAY)
        if not exists(self._services.artifacts, key):
            self._services.queue.publish_overlay(job.id)
            self._wait_for_overlay(key)
        return self._stream(key, Artifact.OVERLAY)

    @operation(
        "The job at every change, as server-sent events named `job`; to be opened again until the job ends",
        tag="jobs",
        query=EventsQuery,
        answers={200: {EVENTS: _EVENT_SCHEMA}},
        problems=(404, 422, 503),
    )
    def get_events(self, job_id: str, query: EventsQuery) -> Response:
        job = self._jobs.get(g.caller.tenant, job_id)
        first = _event(self._presenter.full(job, query.masks))
        seat = ExitStack()
        if not seat.enter_context(self._services.waiters.seat()):
            raise CapacityError("too many requests wait already; poll the job instead")
        response = Response(
            stream_with_context(self._events(job, first, query.masks)),
            mimetype=EVENTS,
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )
        response.call_on_close(seat.close)
        return response

    def _answer(self, job: Job, masks: Masks, status: HTTPStatus) -> Response:
        headers = {} if job.state.is_final else {"Retry-After": str(_POLL_AFTER_S)}
        return Response(self._presenter.text(job, masks), status, headers, mimetype=JSON)

    def _events(self, job: Job, first: str, masks: Masks) -> Iterator[str]:
        yield first
        deadline = time.monotonic() + self._settings.max_wait
        while not job.state.is_final and (left := deadline - time.monotonic()) > 0:
            try:
                seen = self._jobs.wait(job.tenant, job.id, job.version, min(left, _KEEP_ALIVE_S))
                text = _event(self._presenter.full(seen, masks)) if seen.version > job.version else _NOTHING
            except ServiceError:  # the job is gone, or a server is: the client asks again, and is told
                return
            yield text
            job = seen

    def _file(self, job_id: str, artifact: Artifact, output: Output) -> Response:
        job = self._jobs.get(g.caller.tenant, job_id)
        require_result(job)
        if output not in job.request.outputs:
            asked = ", ".join(job.request.outputs)
            raise ArtifactNotFound(f"the job was not asked for its {output}; it was asked for: {asked}")
        return self._stream(result_key(job.id, job.attempt, artifact), artifact)

    def _stream(self, key: str, artifact: Artifact) -> Response:
        size, chunks = self._services.artifacts.stream(key)
        headers = {"Content-Length": str(size), "Cache-Control": "private, no-store"}
        return Response(chunks, mimetype=artifact.media_type, headers=headers)

    def _wait_for_overlay(self, key: str) -> None:
        deadline = time.monotonic() + _OVERLAY_WAIT_S
        with self._services.waiters.seat() as seated:
            while seated and time.monotonic() < deadline:
                if exists(self._services.artifacts, key):
                    return
                time.sleep(_OVERLAY_LOOK_S)
        raise RenderPending("the overlay is being painted; ask again in a moment")


def _idempotency(submission: Submission) -> Idempotency | None:
    key = request.headers.get("Idempotency-Key")
    if not key:
        return None
    if len(key) > _MAX_KEY:
        raise InvalidRequest([Fault("", f"more than {_MAX_KEY} characters", parameter="Idempotency-Key")])
    return Idempotency(key=key, fingerprint=fingerprint(submission))


def _preferred_wait() -> float | None:
    match = re.search(r"\bwait=(\d+(?:\.\d+)?)", request.headers.get("Prefer", ""))
    return float(match[1]) if match else None


def _event(resource: JobResource) -> str:
    return f"id: {resource.version}\nevent: job\ndata: {resource.to_json()}\n\n"
