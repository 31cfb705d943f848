"""What both sides do with artifacts beyond a single call to their store."""

import logging
from datetime import date
from typing import BinaryIO

from maskline.artifacts import EMBEDDINGS, end_key, job_prefixes
from maskline.codec import end_document
from maskline.errors import ArtifactNotFound, ArtifactStoreUnavailable
from maskline.jobs import Job, JobState
from maskline.ports import ArtifactStore, JobStore

logger = logging.getLogger(__name__)


def exists(store: ArtifactStore, key: str, *, bucket: str | None = None) -> bool:
    """Whether there is an object of this key.

    Raises:
        ArtifactStoreUnavailable: the store does not answer.
    """
    try:
        store.size(key, bucket=bucket)
    except ArtifactNotFound:
        return False
    return True


def put_once(store: ArtifactStore, key: str, body: bytes | BinaryIO, media_type: str) -> bool:
    """Store an object unless there is one of this key; whether there was none.

    Raises:
        ArtifactStoreUnavailable: the store does not answer.
    """
    if exists(store, key):
        return False
    store.put(key, body, media_type)
    return True


def cancel_job(jobs: JobStore, artifacts: ArtifactStore, tenant: str, job_id: str) -> Job:
    """The job, now cancelled, in the bucket too; an ended job stays as it is.

    Raises:
        JobNotFound: there is none.
        JobStoreUnavailable: the store does not answer.
    """
    job = jobs.cancel(tenant, job_id)
    if job.state is JobState.CANCELLED:
        note_end(artifacts, job)
    return job


def note_end(store: ArtifactStore, job: Job) -> bool:
    """Keep in the bucket that a job has ended, where no attempt's files say so; False: it does not take it.

    The note is for a Redis that loses its memory. The end stands without, and a sweeper tries again.
    """
    end = end_document(job.state, job.attempt, job.failure)
    try:
        put_once(store, end_key(job.id), end, "application/json")
    except ArtifactStoreUnavailable:
        logger.warning("the end of the job %s is not noted in the bucket", job.id)
        return False
    return True


def remove_artifacts(store: ArtifactStore, job_id: str) -> None:
    """Delete everything that belongs to a job alone.

    Raises:
        ArtifactStoreUnavailable: the store does not answer; calling again finishes it.
    """
    for prefix in job_prefixes(job_id):
        store.delete(store.keys(prefix))


def remove_embeddings(store: ArtifactStore, before: date) -> None:
    """Delete the embeddings of all days before this one.

    Raises:
        ArtifactStoreUnavailable: the store does not answer; calling again finishes it.
    """
    end = f"{EMBEDDINGS}{before.isoformat()}"
    store.delete(key for key in store.keys(EMBEDDINGS) if key < end)
