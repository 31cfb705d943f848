"""The keys of everything that Maskline keeps in the bucket.

    jobs/{job}/submission.{ext}           what was accepted: the image, and the request behind it
              /ended.json                 how the job ended, where no attempt ended it
    results/{job}/{attempt}/category.png  what an attempt made of it
                           /confidence.png
                           /segments.json
                           /prediction.json
                           /overlay.png
                           /segment_masks.json
                           /detections.json
                           /picture.jpg
                           /embedding.npy
                           /failure.json  alone, where the attempt failed
    embeddings/{day}/{key}.safetensors    what workers share, until the second day after
    epochs/{number}                       nothing; each time that Redis was filled from here there is one more
    batches/{batch}/{shard}.json          what a batch in work makes jobs of (``maskline/batches.py``)
    keys/{key}.json                       the record of an API key, until it is revoked
    webhooks/{endpoint}/{version}.json    a webhook endpoint, until it is removed (``maskline/webhooks.py``)
    doctor/{chance}                       what ``maskline doctor`` tried; it removes it itself

Every key of a job is written once and never overwritten: an attempt has its own folder. An embedding's may be
written again, with the same content.
"""

import re
from datetime import date
from enum import StrEnum
from typing import NamedTuple

SUBMISSIONS = "jobs/"
RESULTS = "results/"
EMBEDDINGS = "embeddings/"
EPOCHS = "epochs/"
KEYS = "keys/"
PROBES = "doctor/"

_OF_A_JOB = re.compile(rf"(?:{SUBMISSIONS}([0-9a-f]{{32}})|{RESULTS}([0-9a-f]{{32}})/(\d+))/[^/]+")


class Artifact(StrEnum):
    """The files of an attempt; the value is the name in its folder."""

    CATEGORY_MASK = "category.png"
    CONFIDENCE_MASK = "confidence.png"
    SEGMENTS = "segments.json"
    PREDICTION = "prediction.json"
    OVERLAY = "overlay.png"
    SEGMENT_MASKS = "segment_masks.json"
    DETECTIONS = "detections.json"
    PICTURE = "picture.jpg"
    EMBEDDING = "embedding.npy"
    FAILURE = "failure.json"

    @property
    def media_type(self) -> str:
        """Its content type."""
        return _MEDIA_TYPES[self.value.rpartition(".")[2]]


class Owner(NamedTuple):
    """What an object belongs to."""

    job_id: str
    attempt: int | None
    """None: to the job as it was accepted."""


def owner_of(key: str) -> Owner | None:
    """The job and attempt that a key was made for; None where it is of neither."""
    match = _OF_A_JOB.fullmatch(key)
    if match is None:
        return None
    submitted, ran, attempt = match.groups()
    return Owner(submitted or ran, int(attempt) if attempt else None)


_MEDIA_TYPES = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "json": "application/json",
    "npy": "application/octet-stream",
}


def submission_key(job_id: str, extension: str) -> str:
    """Key of what was accepted; ``extension`` (without the dot) is the image's."""
    return f"{SUBMISSIONS}{job_id}/submission.{extension}"


def end_key(job_id: str) -> str:
    """Key of the note of how a job ended that no attempt ended."""
    return f"{SUBMISSIONS}{job_id}/ended.json"


def job_of(key: str) -> str:
    """Id of the job that a key under ``SUBMISSIONS`` or ``RESULTS`` is of."""
    return key.split("/", 2)[1]


def epoch_key(number: int) -> str:
    """Key of what says that Redis was filled for the ``number``-th time."""
    return f"{EPOCHS}{number:06d}"


def result_key(job_id: str, attempt: int, artifact: Artifact) -> str:
    """Key of one file of an attempt."""
    return f"{RESULTS}{job_id}/{attempt}/{artifact}"


def embedding_key(day: date, key: str) -> str:
    """Key of an image's embedding that was computed on this day."""
    return f"{EMBEDDINGS}{day.isoformat()}/{key}.safetensors"


def key_record_key(key_id: str) -> str:
    """Key of an API key's record."""
    return f"{KEYS}{key_id}.json"


def job_prefixes(job_id: str) -> tuple[str, str]:
    """The folders that belong to a job alone."""
    return f"{SUBMISSIONS}{job_id}/", f"{RESULTS}{job_id}/"
