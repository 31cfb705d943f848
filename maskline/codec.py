"""``jobs/{id}/request.json``: what was accepted, so that a record can be made again from the bucket alone."""

from maskline.jobs import ImageRef, Job
from maskline.requests import SegmentationRequest
from maskline.wire import WireModel

SCHEMA_VERSION = 1


class RequestDocument(WireModel):
    """A job as it was accepted."""

    schema_version: int = SCHEMA_VERSION
    """Grows when the meaning of a field changes."""
    id: str
    """Of the job."""
    tenant: str
    """Whose job it is."""
    request: SegmentationRequest
    """As submitted, with the model and subtask filled in."""
    image: ImageRef
    """Where the image is."""


def request_document(job: Job) -> str:
    """The document of a job, as JSON."""
    return RequestDocument(id=job.id, tenant=job.tenant, request=job.request, image=job.image).to_json()
