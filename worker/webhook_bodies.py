"""What an event says: small, for who wants more asks the API."""

import json
from datetime import UTC, datetime

from maskline.batches import Batch
from maskline.jobs import Job, JobState
from maskline.requests import EventType, Output
from maskline.webhooks import TEST_EVENT, Delivery

_ROUTE_OF_OUTPUT = {
    Output.CATEGORY_MASK: "categoryMask.png",
    Output.CONFIDENCE_MASK: "confidenceMask.png",
    Output.SEGMENTS: "segments",
    Output.OVERLAY: "overlay.png",
    Output.SEGMENT_MASKS: "segmentMasks",
    Output.DETECTIONS: "detections",
    Output.EMBEDDING: "embedding.npy",
    Output.PICTURE: "picture.jpg",
}


def event_body(delivery: Delivery, subject: Job | Batch | None, public_url: str) -> str:
    """The body of an event, as JSON.

    ``subject``: what it is about, as it is now, None if it is gone; ``public_url``: of the API.
    """
    moment = datetime.fromtimestamp(delivery.timestamp_ms / 1000, UTC)
    if delivery.type == TEST_EVENT:
        url = f"{public_url}/v1/webhooks/{delivery.subject}"
        data: dict[str, object] = {"id": delivery.subject, "url": url}
    elif delivery.type.startswith("job."):
        data = _job(delivery, subject if isinstance(subject, Job) else None, public_url)
    else:
        data = _batch(delivery, subject if isinstance(subject, Batch) else None, public_url)
    event = {
        "type": delivery.type,
        "timestamp": moment.isoformat().replace("+00:00", "Z"),
        "data": data,
    }
    return json.dumps(event, separators=(",", ":"))


def _job(delivery: Delivery, job: Job | None, public_url: str) -> dict[str, object]:
    url = f"{public_url}/v1/jobs/{delivery.subject}"
    data = _state(delivery) | {"url": url, "metadata": job.request.metadata if job else {}}
    if job is not None and delivery.type == EventType.SUCCEEDED:
        data["artifacts"] = {"prediction": f"{url}/prediction"} | {
            str(output): f"{url}/{_ROUTE_OF_OUTPUT[output]}" for output in job.request.outputs
        }
    if job is not None and job.failure is not None:
        data["error"] = job.failure.model_dump(by_alias=True)
    return data


def _batch(delivery: Delivery, batch: Batch | None, public_url: str) -> dict[str, object]:
    data = _state(delivery)
    data["url"] = f"{public_url}/v1/batches/{delivery.subject}"
    if batch is not None:
        progress, destination = batch.progress, batch.request.destination
        data |= {
            "displayName": batch.request.display_name,
            "metadata": batch.request.metadata,
            "items": progress.items,
            "succeeded": batch.counts.succeeded,
            "failed": batch.counts.failed,
            "flagged": batch.counts.flagged,
        }
        if destination is not None:
            data["outputDirectory"] = destination.uri
        if batch.request.resource is not None:  # any project and location lead to it
            job = f"{public_url}/v1/projects/-/locations/-/batchPredictionJobs/{delivery.subject}"
            data["batchPredictionJob"] = job
        if progress.failure is not None:
            data["error"] = progress.failure.model_dump(by_alias=True)
    return data


def _state(delivery: Delivery) -> dict[str, object]:
    happened = delivery.type.partition(".")[2]
    state = JobState.RUNNING if happened in {"started", "progressed"} else happened
    return {"id": delivery.subject, "state": state, "version": delivery.version}
