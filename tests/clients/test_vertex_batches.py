"""Google's client runs batch prediction jobs to their ends against the running service."""

import base64
import json
import math
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
from google.api_core import exceptions
from google.cloud import aiplatform
from google.cloud.aiplatform.v1.schema.predict.prediction_v1.types import ImageSegmentationPredictionResult
from google.cloud.aiplatform_v1 import JobServiceClient, JobState

from maskline import Client
from maskline.adapters.s3_artifacts import S3ArtifactStore
from maskline.batches import CHUNK_ITEMS
from maskline.local import Stack
from maskline.settings import Settings
from tests.clients.test_vertex import JPEG, LOCATION, PNG, GoogleClient, connect, sdk_of


@pytest.fixture(scope="module")
def store(stack: Stack) -> S3ArtifactStore:
    made = S3ArtifactStore.from_settings(Settings.from_env(stack.environment))
    made.put("photos/a.png", PNG, "image/png", bucket="imports")
    made.put("photos/b.jpg", JPEG, "image/jpeg", bucket="imports")
    made.put("photos/none.png", b"no image", "image/png", bucket="imports")
    return made


@pytest.fixture
def model(stack: Stack) -> GoogleClient:
    return sdk_of(stack).Model("mine--segformer")


def put_input(store: S3ArtifactStore, name: str, lines: list[Any]) -> str:
    text = "".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines)
    store.put(name, text.encode(), "application/jsonl", bucket="imports")
    return f"gs://imports/{name}"


def output(store: S3ArtifactStore, job: Any, name: str) -> list[Any]:
    bucket, _, prefix = job.output_info.gcs_output_directory.removeprefix("gs://").partition("/")
    text = store.get(f"{prefix}/{name}", bucket=bucket)
    return [json.loads(line) for line in text.splitlines()]


def test_a_job_to_its_end(model: GoogleClient, store: S3ArtifactStore, native: Client) -> None:
    lines = [
        {"content": "gs://imports/photos/a.png", "mimeType": "image/png"},
        {"content": "s3://imports/photos/b.jpg"},
        {"content": "gs://imports/photos/none.png"},
        {"content": "gs://imports/photos/absent.png"},
        {"content": "gs://elsewhere/a.png"},
    ]
    job = model.batch_predict(
        job_display_name="Night run",
        instances_format="jsonl",
        gcs_source=put_input(store, "mixed.jsonl", lines),
        gcs_destination_prefix="gs://exports/night",
        model_parameters={"confidenceThreshold": 0},
        labels={"team": "ours"},
        sync=True,
    )
    assert job.state == JobState.JOB_STATE_SUCCEEDED
    stats = job.completion_stats
    assert (stats.successful_count, stats.failed_count, stats.incomplete_count) == (2, 3, 0)
    assert len(job.partial_failures) == 3
    assert job.gca_resource.labels == {"team": "ours"}
    written = output(store, job, "predictions_0001.jsonl")
    assert [line["instance"] for line in written] == lines[:2]
    for line, image in zip(written, (PNG, JPEG), strict=True):
        result = ImageSegmentationPredictionResult.from_json(json.dumps(line["prediction"]))
        own = native.submit(image, model="mine/segformer", parameters={"confidenceThreshold": 0})
        done = native.wait(own.id, timeout=60)
        assert base64.b64decode(result.category_mask) == native.category_mask(done.id)
        assert base64.b64decode(result.confidence_mask) == native.confidence_mask(done.id)
    failed = output(store, job, "errors_0001.jsonl")
    assert [line["instance"] for line in failed] == lines[2:]
    assert [line["error"]["code"] for line in failed] == [3, 5, 5]


def test_a_list_of_files_and_the_job_s_later_life(
    model: GoogleClient, store: S3ArtifactStore, stack: Stack
) -> None:
    uri = put_input(store, "files.txt", ["gs://imports/photos/a.png"])
    job = aiplatform.BatchPredictionJob.create(
        job_display_name="List",
        model_name=model.resource_name,
        instances_format="file-list",
        gcs_source=[uri],
        gcs_destination_prefix="gs://exports/lists",
        sync=True,
    )
    assert output(store, job, "predictions_0001.jsonl")[0]["instance"] == {
        "content": "gs://imports/photos/a.png"
    }
    [found] = aiplatform.BatchPredictionJob.list(filter='display_name="List" AND state="JOB_STATE_SUCCEEDED"')
    assert found.resource_name == job.resource_name
    again = aiplatform.BatchPredictionJob(job.name)
    assert again.output_info.gcs_output_directory == job.output_info.gcs_output_directory
    again.delete()
    with pytest.raises(exceptions.NotFound):
        connect(JobServiceClient, stack).get_batch_prediction_job(name=job.resource_name)


def test_names_by_a_key_and_fields_that_do_not_count(
    model: GoogleClient, store: S3ArtifactStore, stack: Stack
) -> None:
    client = connect(JobServiceClient, stack)
    image = "gs://imports/photos/a.png"
    lines: list[Any] = [{"content": image, "id": f"n{n}", "note": ["any"]} for n in range(2)]
    lines.append({"content": "gs://imports/photos/absent.png", "id": "gone", "note": 1})
    lines.append({"content": image, "id": "more", "remark": 1})
    config = {"instance_type": "object", "key_field": "id", "excluded_fields": ["note"]}
    asked = wire_job(model, put_input(store, "keys.jsonl", lines)) | {"instance_config": config}
    job = client.create_batch_prediction_job(parent=LOCATION, batch_prediction_job=asked)
    assert job.instance_config.key_field == "id"
    ended = wait_for_end(client, job.name)
    assert [line["key"] for line in output(store, ended, "predictions_0001.jsonl")] == ["n0", "n1"]
    failed = output(store, ended, "errors_0001.jsonl")
    assert [line["key"] for line in failed] == ["gone", "more"]
    assert "/remark" in failed[1]["error"]["message"]


@pytest.mark.parametrize("parent", ["", f"{LOCATION}/"])
def test_a_publisher_s_model(store: S3ArtifactStore, stack: Stack, model: GoogleClient, parent: str) -> None:
    client = connect(JobServiceClient, stack)
    uri = put_input(store, f"published-{len(parent)}.jsonl", [{"content": "gs://imports/photos/a.png"}])
    asked = wire_job(model, uri) | {"model": f"{parent}publishers/mine/models/segformer"}
    job = client.create_batch_prediction_job(parent=LOCATION, batch_prediction_job=asked)
    assert job.model == asked["model"]
    ended = wait_for_end(client, job.name)
    assert ended.state == JobState.JOB_STATE_SUCCEEDED
    assert ended.completion_stats.successful_count == 1


def test_a_cancelled_job(model: GoogleClient, store: S3ArtifactStore, stack: Stack) -> None:
    client = connect(JobServiceClient, stack)
    lines = [{"content": "gs://imports/photos/a.png"}] * 20_000
    job = client.create_batch_prediction_job(
        parent=LOCATION, batch_prediction_job=wire_job(model, put_input(store, "many.jsonl", lines))
    )
    with pytest.raises(exceptions.Conflict, match="cancel it first"):
        client.delete_batch_prediction_job(name=job.name)
    wait_until(lambda: client.get_batch_prediction_job(name=job.name).state == JobState.JOB_STATE_RUNNING)
    client.cancel_batch_prediction_job(name=job.name)
    ended = wait_for_end(client, job.name)
    assert ended.state == JobState.JOB_STATE_CANCELLED
    assert "cancelled" in ended.error.message
    assert ended.completion_stats.successful_count < len(lines)
    client.delete_batch_prediction_job(name=job.name).result(timeout=10)


def test_what_is_wrong_is_a_bad_request(model: GoogleClient, store: S3ArtifactStore, stack: Stack) -> None:
    client = connect(JobServiceClient, stack)
    good = wire_job(model, put_input(store, "one.jsonl", [{"content": "gs://imports/photos/a.png"}]))
    for change, words in (
        ({"model_parameters": {"confidenceThreshold": 2}}, "modelParameters"),
        ({"display_name": ""}, "displayName"),
        ({"input_config": source("gs://maskline/x")}, "not open for import"),
        ({"input_config": source("gs://imports/none.jsonl")}, "can't be read"),
        ({"output_config": destination("gs://imports/x")}, "not open for export"),
        ({"output_config": destination("gs://exports/../maskline/x")}, "is empty"),
        ({"output_config": destination("gs://exports/" + "d" * 300)}, "255 bytes"),
    ):
        with pytest.raises(exceptions.BadRequest, match=words):
            client.create_batch_prediction_job(parent=LOCATION, batch_prediction_job=good | change)
    with pytest.raises(exceptions.NotFound):
        client.create_batch_prediction_job(
            parent=LOCATION, batch_prediction_job=good | {"model": f"{LOCATION}/models/none"}
        )


def test_a_job_outlives_the_processes(model: GoogleClient, store: S3ArtifactStore, stack: Stack) -> None:
    client = connect(JobServiceClient, stack)
    lines = [{"content": f"gs://imports/outlived/{n}.png"} for n in range(330)]
    for n in range(len(lines)):  # no two are the same, or they would be run once
        store.put(f"outlived/{n}.png", PNG + str(n).encode(), "image/png", bucket="imports")
    job = client.create_batch_prediction_job(
        parent=LOCATION, batch_prediction_job=wire_job(model, put_input(store, "outlived.jsonl", lines))
    )
    wait_until(lambda: client.get_batch_prediction_job(name=job.name).state == JobState.JOB_STATE_RUNNING)
    for name in ("worker-1", "api"):
        time.sleep(0.5)
        now = client.get_batch_prediction_job(name=job.name)
        assert now.state in {JobState.JOB_STATE_PENDING, JobState.JOB_STATE_RUNNING}, "killed too late"
        pid = stack.process(name).pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
    ended = wait_for_end(client, job.name)
    assert ended.state == JobState.JOB_STATE_SUCCEEDED
    assert ended.completion_stats.successful_count == len(lines)
    written = [
        line["instance"]
        for number in range(1, math.ceil(len(lines) / CHUNK_ITEMS) + 1)
        for line in output(store, ended, f"predictions_{number:04d}.jsonl")
    ]
    assert written == lines


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def source(uri: str) -> dict[str, Any]:
    return {"instances_format": "jsonl", "gcs_source": {"uris": [uri]}}


def destination(uri: str) -> dict[str, Any]:
    return {"predictions_format": "jsonl", "gcs_destination": {"output_uri_prefix": uri}}


def wire_job(model: GoogleClient, uri: str) -> dict[str, Any]:
    return {
        "display_name": "Wire",
        "model": model.resource_name,
        "input_config": source(uri),
        "output_config": destination("gs://exports/wire"),
    }


def wait_for_end(client: GoogleClient, name: str) -> Any:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            job = client.get_batch_prediction_job(name=name)
        except (exceptions.GoogleAPICallError, OSError):  # the API starts again
            job = None
        if job is not None and job.state in {
            JobState.JOB_STATE_SUCCEEDED,
            JobState.JOB_STATE_FAILED,
            JobState.JOB_STATE_CANCELLED,
        }:
            return job
        time.sleep(0.5)
    raise AssertionError(f"{name} did not end")
