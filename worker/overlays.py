"""Painting an overlay that was asked for after the job had ended."""

from io import BytesIO

import numpy as np
from PIL import Image as PillowImage

from maskline.artifact_operations import exists
from maskline.artifacts import Artifact, result_key
from maskline.image_header import ImageLimits
from maskline.jobs import Job, JobState
from maskline.ports import ArtifactStore
from maskline.results import ResultDocument
from worker.decoding import decode
from worker.fetching import Fetch
from worker.overlay import render_overlay


def paint_overlay(job: Job, artifacts: ArtifactStore, fetch: Fetch, limits: ImageLimits) -> None:
    """Store the overlay of a succeeded job, if it is not there yet.

    Raises:
        ServiceError: the image or the category mask can't be had any more.
    """
    key = result_key(job.id, job.attempt, Artifact.OVERLAY)
    if job.state is not JobState.SUCCEEDED or exists(artifacts, key):
        return
    image = decode(fetch(job.image), limits, auto_orient=job.request.auto_orient)
    category_map = np.asarray(
        PillowImage.open(BytesIO(artifacts.get(result_key(job.id, job.attempt, Artifact.CATEGORY_MASK))))
    )
    result = ResultDocument.model_validate_json(
        artifacts.get(result_key(job.id, job.attempt, Artifact.PREDICTION))
    )
    body = render_overlay(image, category_map, result.annotation_specs)
    artifacts.put(key, body, Artifact.OVERLAY.media_type)
