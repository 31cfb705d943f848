"""The keys of everything that Maskline keeps in the bucket.

    jobs/{job}/submission.{ext}           what was accepted: the image, and the request behind it
    results/{job}/{attempt}/category.png  what an attempt made of it
                           /confidence.png
                           /segments.json
                           /prediction.json
                           /overlay.png
                           /segment_masks.json
                           /detections.json
                           /picture.jpg
                           /embedding.npy
    embeddings/{day}/{key}.safetensors    what workers share, until the second day after
    batches/{batch}/{shard}.json          what a batch in work makes jobs of (``maskline/batches.py``)
    webhooks/{endpoint}/{version}.json    a webhook endpoint, until it is removed (``maskline/webhooks.py``)

Every key of a job is written once and never overwritten: an attempt has its own folder. An embedding's may be
written again, with the same content.
"""

from datetime import date
from enum import StrEnum

EMBEDDINGS = "embeddings/"


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
    return f"jobs/{job_id}/submission.{extension}"


def result_key(job_id: str, attempt: int, artifact: Artifact) -> str:
    """Key of one file of an attempt."""
    return f"results/{job_id}/{attempt}/{artifact}"


def embedding_key(day: date, key: str) -> str:
    """Key of an image's embedding that was computed on this day."""
    return f"{EMBEDDINGS}{day.isoformat()}/{key}.safetensors"


def job_prefixes(job_id: str) -> tuple[str, str]:
    """The folders that belong to a job alone."""
    return f"jobs/{job_id}/", f"results/{job_id}/"
