"""The keys of everything that Maskline keeps in the bucket.

    inputs/{sha256}/{job}.{ext}           an image, named by its content and by the job that brought it first
    jobs/{job}/request.json               what was accepted
    results/{job}/{attempt}/category.png  what an attempt made of it
                           /confidence.png
                           /segments.json
                           /prediction.json
                           /overlay.png

Every key is written once and never overwritten: an attempt has its own folder, and an image that was
deleted comes back under another key.
"""

from enum import StrEnum


class Artifact(StrEnum):
    """The files of an attempt; the value is the name in its folder."""

    CATEGORY_MASK = "category.png"
    CONFIDENCE_MASK = "confidence.png"
    SEGMENTS = "segments.json"
    PREDICTION = "prediction.json"
    OVERLAY = "overlay.png"

    @property
    def media_type(self) -> str:
        """Its content type."""
        return "image/png" if self.value.endswith(".png") else "application/json"


def input_key(sha256: str, job_id: str, extension: str) -> str:
    """Key of an image; ``extension`` without the dot."""
    return f"inputs/{sha256}/{job_id}.{extension}"


def request_key(job_id: str) -> str:
    """Key of the accepted request."""
    return f"jobs/{job_id}/request.json"


def result_key(job_id: str, attempt: int, artifact: Artifact) -> str:
    """Key of one file of an attempt."""
    return f"results/{job_id}/{attempt}/{artifact}"


def job_prefixes(job_id: str) -> tuple[str, str]:
    """The folders that belong to a job alone."""
    return f"jobs/{job_id}/", f"results/{job_id}/"
