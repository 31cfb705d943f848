"""The main job through the public API: submit, wait, fetch, list, cancel, delete."""

import base64
import json
import threading
import time
from io import BytesIO

import httpx
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from maskline import ApiError, Client, Prompt
from maskline.adapters.s3_artifacts import S3ArtifactStore
from maskline.jobs import JobState
from maskline.local import Stack
from maskline.requests import Priority
from tests.factories import DISC_BOX, OF_EVERY_MODEL, disc_mask, encoded, picture

DISC = Prompt(label="disc", box=DISC_BOX)


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(png)))


def test_a_photo_becomes_its_masks(client: Client, disc: bytes) -> None:
    job = client.wait(client.submit(disc, prompts=[DISC]).id, timeout=60)
    category, confidence = client.category_mask(job.id), client.confidence_mask(job.id)
    image = Image.open(BytesIO(category))
    assert (image.format, image.mode, image.size) == ("PNG", "P", (96, 64))
    found = np.asarray(image) == 1
    truth = disc_mask()
    assert (found & truth).sum() / (found | truth).sum() > 0.95
    assert job.annotation_specs is not None
    specs = {spec.id: spec for spec in job.annotation_specs}
    assert [spec.display_name for spec in job.annotation_specs] == ["background", "disc"]
    palette = image.getpalette()
    assert palette is not None
    assert "#" + bytes(palette[3:6]).hex() == specs[1].color
    sure = Image.open(BytesIO(confidence))
    assert (sure.mode, sure.size) == ("L", (96, 64))
    assert np.asarray(sure)[found].min() >= 127

    segments = client.segments(job.id)
    [segment] = segments.segments
    assert job.segment_count == 1
    rle = {"size": list(segment.segmentation.size), "counts": segment.segmentation.counts}
    assert np.array_equal(coco.decode(rle).astype(bool), found)
    assert list(segment.bbox) == coco.toBbox(rle).tolist()
    assert segment.area == found.sum()

    assert pixels(client.overlay(job.id)).shape == (64, 96, 3)
    assert job.timings is not None
    assert all(value >= 0 for value in job.timings.model_dump().values())
    assert job.attempt == 1


def test_the_prediction_comes_in_three_forms(http: httpx.Client, client: Client, disc: bytes) -> None:
    job = client.wait(client.submit(disc, prompts=[DISC]).id, timeout=60)
    mask = client.category_mask(job.id)
    inline = http.get(f"/v1/jobs/{job.id}/prediction").json()
    assert inline.keys() == {"categoryMask", "confidenceMask"}
    assert base64.b64decode(inline["categoryMask"], validate=True) == mask
    by_url = http.get(f"/v1/jobs/{job.id}").json()["prediction"]
    answer = httpx.get(by_url["categoryMask"])
    assert (answer.status_code, answer.headers["content-type"], answer.content) == (200, "image/png", mask)
    by_uri = http.get(f"/v1/jobs/{job.id}", params={"masks": "uri"}).json()["prediction"]
    assert by_uri["categoryMask"] == f"s3://maskline/results/{job.id}/1/category.png"
    for altered in (
        by_url["categoryMask"].replace("category", "confidence"),
        by_url["categoryMask"].replace("expires=1", "expires=2"),
    ):
        assert httpx.get(altered).json()["code"] == "artifact_not_found"


@pytest.mark.parametrize("form", ["multipart", "raw", "json"])
def test_every_form_of_a_submission_is_the_same_job(http: httpx.Client, disc: bytes, form: str) -> None:
    prompts = [{"label": "disc", "box": list(DISC_BOX)}]
    headers = {"Prefer": "wait=30"}
    if form == "multipart":
        request = (None, json.dumps({"prompts": prompts}), "application/json")
        answer = http.post("/v1/jobs", headers=headers, files={"image": ("a.png", disc), "request": request})
    elif form == "raw":
        answer = http.post(
            "/v1/jobs",
            headers=headers | {"Content-Type": "image/png"},
            params={"prompts": json.dumps(prompts)},
            content=disc,
        )
    else:
        image = {"content": base64.b64encode(disc).decode()}
        answer = http.post("/v1/jobs", headers=headers, json={"prompts": prompts, "image": image})
    assert answer.status_code == 200, answer.text
    assert answer.headers["preference-applied"] == "wait=30"
    job = answer.json()
    assert job["state"] == "succeeded"
    assert (job["width"], job["height"], job["segmentCount"]) == (96, 64, 1)
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}"


def test_an_image_in_an_open_bucket_is_taken(client: Client, artifacts: S3ArtifactStore, disc: bytes) -> None:
    artifacts.put("set/disc.png", disc, "image/png", bucket="imports")
    job = client.submit("s3://imports/set/disc.png", prompts=[DISC])
    done = client.wait(job.id, timeout=60)
    assert (done.width, done.height) == (96, 64)
    for uri, code in (
        ("s3://imports/set/none.png", "image_unreachable"),
        ("s3://maskline/jobs/x", "invalid_request"),
    ):
        with pytest.raises(ApiError) as refused:
            client.submit(uri)
        assert refused.value.code == code


def test_the_same_input_gives_the_same_bytes(client: Client, coffee: bytes) -> None:
    prompt = Prompt(label="cup", box=(168, 10, 425, 215))
    jobs = [client.submit(coffee, prompts=[prompt], outputs=OF_EVERY_MODEL) for _ in range(4)]
    ids = [client.wait(job.id, timeout=120).id for job in jobs]
    for fetch in (client.category_mask, client.confidence_mask, client.overlay):
        assert len({fetch(job_id) for job_id in ids}) == 1
    assert len({client.segments(job_id).to_json() for job_id in ids}) == 1


def test_orientation_is_followed_unless_switched_off(client: Client) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encoded(np.rot90(picture()), "PNG", exif=exif)
    upright = client.wait(client.submit(turned, prompts=[DISC]).id, timeout=60)
    assert (upright.width, upright.height) == (96, 64)
    found = pixels(client.category_mask(upright.id)) == 1
    truth = disc_mask()
    assert (found & truth).sum() / (found | truth).sum() > 0.95
    stored = client.wait(client.submit(turned, auto_orient=False).id, timeout=60)
    assert (stored.width, stored.height) == (64, 96)


def test_an_idempotency_key_makes_two_requests_one(client: Client, disc: bytes) -> None:
    first = client.submit(disc, prompts=[DISC], idempotency_key="one")
    assert client.submit(disc, prompts=[DISC], idempotency_key="one").id == first.id
    with pytest.raises(ApiError) as refused:
        client.submit(disc, idempotency_key="one")
    assert (refused.value.status, refused.value.code) == (422, "idempotency_key_reused")


def test_a_job_is_cancelled_once_and_deleted_for_good(
    client: Client, http: httpx.Client, stack: Stack, disc: bytes
) -> None:
    done = client.wait(client.submit(disc).id, timeout=60)
    assert client.cancel(done.id).state is JobState.SUCCEEDED
    artifact = http.get(f"/v1/jobs/{done.id}").json()["prediction"]["categoryMask"]
    client.delete(done.id)
    assert httpx.get(artifact).status_code == 404
    bucket = stack.process("s3").log_file.parent.parent / "s3" / "maskline"
    assert not [path for path in bucket.rglob("*") if path.is_file() and done.id in str(path.parent)]
    with pytest.raises(ApiError) as gone:
        client.get(done.id)
    assert gone.value.code == "job_not_found"


def test_a_long_poll_answers_at_the_end_of_the_job(client: Client, coffee: bytes) -> None:
    job = client.submit(coffee, parameters={"iterations": 10})
    ended = client.get(job.id, wait=30)
    assert ended.state is JobState.SUCCEEDED


def test_events_tell_every_change_until_the_end(client: Client, coffee: bytes) -> None:
    job = client.submit(coffee, parameters={"iterations": 10})
    seen = list(client.events(job.id))
    assert seen[-1].state is JobState.SUCCEEDED
    versions = [event.version for event in seen]
    assert versions == sorted(set(versions))


def test_waiting_requests_leave_room_for_others(http: httpx.Client, stack: Stack, coffee: bytes) -> None:
    """More waiters than seats: those without a seat are answered at once, and nobody is refused."""
    headers = {"Authorization": f"Bearer {stack.api_key}", "Prefer": "wait=20"}
    statuses: list[int] = []

    def submit() -> None:
        answer = httpx.post(
            f"{stack.url}/v1/jobs",
            params={"parameters": '{"iterations": 10}'},
            content=coffee,
            headers=headers | {"Content-Type": "image/png"},
            timeout=60,
        )
        statuses.append(answer.status_code)

    threads = [threading.Thread(target=submit) for _ in range(24)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    began = time.monotonic()
    assert http.get("/healthz").status_code == 200
    assert time.monotonic() - began < 20
    for thread in threads:
        thread.join()
    assert set(statuses) <= {200, 202}
    assert len(statuses) == 24


def test_a_listing_has_filters_and_pages(client: Client, http: httpx.Client, disc: bytes) -> None:
    jobs = [client.submit(disc, priority=Priority.BULK, metadata={"n": n}) for n in range(3)]
    for job in jobs:
        client.wait(job.id, timeout=60)
    page = http.get("/v1/jobs", params={"pageSize": 2}).json()
    assert [job["id"] for job in page["jobs"]] == [jobs[2].id, jobs[1].id]
    following = http.get("/v1/jobs", params={"pageSize": 2, "pageToken": page["nextPageToken"]}).json()
    assert following["jobs"][0]["id"] == jobs[0].id
    assert following["jobs"][0]["metadata"] == {"n": 0}
    assert http.get("/v1/jobs", params={"model": "nothing"}).json() == {"jobs": []}
    succeeded = {job.id for job in client.list(state=JobState.SUCCEEDED)}
    assert succeeded >= {job.id for job in jobs}


def test_the_model_says_what_it_can_do(client: Client) -> None:
    page = client.models()
    assert page.default_model == "grabcut"
    model = client.model("grabcut")
    assert model in page.models
    assert model.available
    assert "iterations" in model.parameters_schema["properties"]  # type: ignore[operator]


def test_keys_open_the_service_until_they_are_revoked(client: Client, stack: Stack, disc: bytes) -> None:
    created = client.create_key("tests")
    with Client(stack.url, created.key) as other:
        job = other.submit(disc)
        assert other.get(job.id).id == job.id
        with pytest.raises(ApiError) as refused:
            other.create_key("more")
        assert (refused.value.status, refused.value.code) == (403, "forbidden")
        assert created.id in {key.id for key in client.keys()}  # noqa: SIM118 (no mapping)
        client.revoke_key(created.id)
        with pytest.raises(ApiError) as shut:
            other.get(job.id)
        assert (shut.value.status, shut.value.code) == (401, "unauthenticated")


def test_the_service_says_that_it_is_ready(http: httpx.Client) -> None:
    assert http.get("/readyz").json() == {
        "status": "ok",
        "dependencies": {"redis": "ok", "s3": "ok"},
        "workers": 1,
    }
    assert http.get("/docs/").status_code == 200
