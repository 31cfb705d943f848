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

Every key of a job is written once and never overwritten: an attempt has its own folder. An embedding's may be
written again, with the same content.
"""

from datetime import date
from enum import StrEnum

SUBMISSIONS = "jobs/"
RESULTS = "results/"
EMBEDDINGS = "embeddings/"
EPOCHS = "epochs/"
KEYS = "keys/"


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
