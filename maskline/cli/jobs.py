"""Submit, wait, get, list, cancel, delete."""

import json
import time
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer
from pydantic import JsonValue

from maskline.cli.context import ApiKey, Json, Url, connect, print_json, print_table, results, to_people
from maskline.cli.prompts import read_prompts
from maskline.client import Client, JobDidNotSucceed, WaitTimeout
from maskline.jobs import JobState
from maskline.requests import Priority, Subtask, Webhook
from maskline.resources import JobResource

JobId = Annotated[str, typer.Argument(help="Id of the job.")]
Timeout = Annotated[float | None, typer.Option("--timeout", help="Seconds to wait at most.")]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out", help="Folder for category.png, confidence.png, overlay.png and the JSON files; waits."
    ),
]


def submit(
    image: Annotated[str, typer.Argument(help="A file, an http(s) URL, or an s3:// URI.")],
    model: Annotated[
        str | None, typer.Option(help="Id of the model; left out: the service's default.")
    ] = None,
    box: Annotated[list[str] | None, typer.Option(help="LABEL:x1,y1,x2,y2; each box is a prompt.")] = None,
    point: Annotated[list[str] | None, typer.Option(help="LABEL:x,y on the object.")] = None,
    not_point: Annotated[list[str] | None, typer.Option(help="LABEL:x,y beside the object.")] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(help="JSON file with prompts, as the API takes them; masks go in here.", exists=True),
    ] = None,
    threshold: Annotated[float | None, typer.Option(help="Confidence threshold, 0 to 1.")] = None,
    param: Annotated[list[str] | None, typer.Option(help="NAME=VALUE; the value is JSON.")] = None,
    subtask: Annotated[Subtask | None, typer.Option(help="What kind of segmentation.")] = None,
    priority: Annotated[Priority, typer.Option(help="Which queue.")] = Priority.INTERACTIVE,
    auto_orient: Annotated[bool, typer.Option(help="Turn the image upright by its EXIF orientation.")] = True,
    metadata: Annotated[list[str] | None, typer.Option(help="NAME=VALUE, given back with the job.")] = None,
    webhook: Annotated[str | None, typer.Option(help="URL to call when the job ends.")] = None,
    expires_in: Annotated[int | None, typer.Option(help="Seconds until the job is removed.")] = None,
    wait_for_end: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for the end.")] = False,
    timeout: Timeout = None,
    out: Out = None,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Submit an image; print its job."""
    parameters = pairs(param)
    if threshold is not None:
        parameters["confidenceThreshold"] = threshold
    source = image if "://" in image else Path(image)
    with connect(url, api_key) as client:
        job = client.submit(
            source,
            model=model,
            prompts=read_prompts(box or (), point or (), not_point or (), prompts),
            parameters=parameters,
            subtask=subtask,
            priority=priority,
            auto_orient=auto_orient,
            metadata=pairs(metadata),
            webhook=Webhook(url=webhook) if webhook else None,
            expires_in=expires_in,
        )
        if wait_for_end or out is not None:
            to_people.print(f"job {job.id}", highlight=False)
            job = _end_of(client, job.id, timeout, out, as_json)
    _show(job, as_json)


def wait(
    job_id: JobId,
    timeout: Timeout = None,
    out: Out = None,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Wait for a job's end."""
    with connect(url, api_key) as client:
        job = _end_of(client, job_id, timeout, out, as_json)
    _show(job, as_json)


def get(job_id: JobId, url: Url = None, api_key: ApiKey = None, as_json: Json = False) -> None:
    """Look at a job."""
    with connect(url, api_key) as client:
        _show(client.get(job_id), as_json)


def list_jobs(
    state: Annotated[JobState | None, typer.Option(help="Only jobs in this state.")] = None,
    model: Annotated[str | None, typer.Option(help="Only jobs of this model.")] = None,
    limit: Annotated[int, typer.Option(help="At most so many.", min=1)] = 20,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """List jobs, newest first."""
    with connect(url, api_key) as client:
        jobs = list(islice(client.list(state=state, model=model), limit))
    if as_json:
        print_json(jobs)
        return
    print_table(
        ("id", "state", "model", "created", "attempt", "error"),
        (
            (
                job.id,
                job.state,
                job.model,
                f"{job.created_at:%Y-%m-%d %H:%M:%S}",
                str(job.attempt),
                job.error.code if job.error else "",
            )
            for job in jobs
        ),
    )


def cancel(job_id: JobId, url: Url = None, api_key: ApiKey = None, as_json: Json = False) -> None:
    """Cancel a job."""
    with connect(url, api_key) as client:
        _show(client.cancel(job_id), as_json)


def delete(job_id: JobId, url: Url = None, api_key: ApiKey = None) -> None:
    """Remove a job and its artifacts."""
    with connect(url, api_key) as client:
        client.delete(job_id)


def _end_of(
    client: Client, job_id: str, timeout: float | None, out: Path | None, as_json: bool
) -> JobResource:
    try:
        job = wait_with_progress(client, job_id, timeout)
    except (JobDidNotSucceed, WaitTimeout) as error:
        if as_json:
            print_json(error.job)
        raise
    if out is not None:
        save_results(client, job, out)
        to_people.print(f"saved in {out.resolve()}", highlight=False, soft_wrap=True)
    return job


def wait_with_progress(client: Client, job_id: str, timeout: float | None = None) -> JobResource:
    """The succeeded job; a line on standard error tells how it goes."""
    began = time.monotonic()
    with to_people.status("waiting") as status:

        def tell(job: JobResource) -> None:
            place = f", number {job.place} in the queue" if job.place else ""
            status.update(f"{job.id} is {job.state}{place} ({time.monotonic() - began:.0f} s)")

        return client.wait(job_id, timeout=timeout, on_update=tell)


def save_results(client: Client, job: JobResource, folder: Path) -> list[Path]:
    """Write what the job produced into the folder; the files."""
    folder.mkdir(parents=True, exist_ok=True)
    prediction = client.prediction(job.id)
    files = {
        "prediction.json": json.dumps(
            prediction.model_dump(by_alias=True, exclude_none=True), indent=2
        ).encode(),
        "overlay.png": client.overlay(job.id),
    }
    if "categoryMask" in job.outputs:
        files["category.png"] = client.category_mask(job.id)
    if "confidenceMask" in job.outputs:
        files["confidence.png"] = client.confidence_mask(job.id)
    if "segments" in job.outputs:
        files["segments.json"] = client.segments(job.id).to_json().encode()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return [folder / name for name in files]


def pairs(texts: list[str] | None) -> dict[str, JsonValue]:
    """The values of options ``NAME=VALUE``, each read as JSON if it is some.

    Raises:
        typer.BadParameter: one is of another form.
    """
    pairs: dict[str, JsonValue] = {}
    for text in texts or ():
        name, separator, value = text.partition("=")
        if not separator or not name:
            raise typer.BadParameter(f"{text!r} is not of the form NAME=VALUE")
        try:
            pairs[name] = json.loads(value, parse_constant=_no_json)
        except ValueError:
            pairs[name] = value
    return pairs


def _no_json(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON, though Python reads it as such")


def _show(job: JobResource, as_json: bool) -> None:
    if as_json:
        print_json(job)
        return
    results.print(f"{job.id}  {job.state}", highlight=False)
    if job.error:
        results.print(f"  {job.error.code}: {job.error.message}", highlight=False, markup=False)
    if job.timings:
        stages = job.timings.model_dump()
        line = "  ".join(f"{name} {ms:.0f} ms" for name, ms in stages.items())
        results.print(f"  {line}", highlight=False, soft_wrap=True)
