"""Jobs as the native API shows them."""

import base64
from datetime import UTC, datetime
from enum import StrEnum
from typing import assert_never

from flask import request

from api.artifact_urls import ArtifactUrls
from api.kept import KeptTexts
from api.services import Services
from maskline.artifacts import Artifact, result_key
from maskline.errors import JobNotFinished, JobWithoutResult
from maskline.jobs import Job, JobState
from maskline.requests import Output, Subtask
from maskline.resources import JobResource
from maskline.results import Prediction

_KEPT_TEXTS = 512
_KEPT_PART = 0.02  # of the life of the URLs in a text

_FILE_OF_OUTPUT = {
    Output.CATEGORY_MASK: Artifact.CATEGORY_MASK,
    Output.CONFIDENCE_MASK: Artifact.CONFIDENCE_MASK,
}


class Masks(StrEnum):
    """How a prediction gives its masks."""

    URL = "url"
    URI = "uri"
    INLINE = "inline"


class Presenter:
    """Renders jobs."""

    def __init__(self, services: Services, urls: ArtifactUrls) -> None:
        """``services``: where results are read; ``urls``: makes the masks' URLs."""
        self._services = services
        self._urls = urls
        self._kept = KeptTexts(_KEPT_TEXTS, _KEPT_PART * services.settings.url_expiry)

    def text(self, job: Job, masks: Masks) -> str:
        """The whole job as JSON; that of an ended job, which never changes, is kept for a while."""
        if not job.state.is_final or masks is Masks.INLINE:
            return self.full(job, masks).to_json()
        # What the URLs begin with: the same job may be asked for under several names.
        called = request.environ.get("wsgi.url_scheme"), request.environ.get("HTTP_HOST")
        key = job.id, job.version, masks, called
        return self._kept.get(key, lambda: self.full(job, masks).to_json())

    def full(self, job: Job, masks: Masks) -> JobResource:
        """The job with its place in the queue or its prediction."""
        resource = self.brief(job).model_copy(update={"prompts": job.request.prompts})
        if job.state is not JobState.SUCCEEDED:
            return resource
        result = self._services.result_of(job)
        return resource.model_copy(
            update={
                "width": result.width,
                "height": result.height,
                "prediction": self.prediction(job, masks),
                "annotation_specs": result.annotation_specs,
                "bit_depth": result.bit_depth,
                "segment_count": result.segment_count,
            }
        )

    def brief(self, job: Job) -> JobResource:
        """The job by its record alone."""
        asked = job.request
        return JobResource(
            id=job.id,
            state=job.state,
            version=job.version,
            model=asked.model or "",
            subtask=asked.subtask or Subtask.SEMANTIC,
            parameters=asked.parameters,
            outputs=asked.outputs,
            priority=asked.priority,
            metadata=asked.metadata,
            created_at=_time(job.created_ms),
            started_at=_time(job.started_ms) if job.started_ms else None,
            finished_at=_time(job.finished_ms) if job.finished_ms else None,
            expires_at=_time(job.expires_ms),
            attempt=job.attempt,
            place=job.place,
            timings=job.timings,
            width=job.image.width,
            height=job.image.height,
            error=job.failure,
        )

    def prediction(self, job: Job, masks: Masks) -> Prediction:
        """The Vertex result object.

        Raises:
            JobNotFinished: the job has not ended.
            JobWithoutResult: it ended, but not in success.
        """
        require_result(job)
        given = {
            output: self._mask(result_key(job.id, job.attempt, file), masks)
            for output, file in _FILE_OF_OUTPUT.items()
            if output in job.request.outputs
        }
        return Prediction(
            category_mask=given.get(Output.CATEGORY_MASK), confidence_mask=given.get(Output.CONFIDENCE_MASK)
        )

    def _mask(self, key: str, masks: Masks) -> str:
        match masks:
            case Masks.URL:
                return self._urls.make(key)
            case Masks.URI:
                return self._services.artifacts.uri(key)
            case Masks.INLINE:
                return base64.b64encode(self._services.artifacts.get(key)).decode()
        assert_never(masks)


def require_result(job: Job) -> None:
    """Return if the job succeeded.

    Raises:
        JobNotFinished: the job has not ended.
        JobWithoutResult: it ended, but not in success.
    """
    if not job.state.is_final:
        raise JobNotFinished(f"the job is {job.state}; its result comes when it has succeeded")
    if job.state is not JobState.SUCCEEDED:
        reason = f": {job.failure.message}" if job.failure else ""
        raise JobWithoutResult(f"the job is {job.state}{reason}")


def _time(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
