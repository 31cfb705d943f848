"""The native protocol over the in-memory doubles: what is hard to bring about with real servers."""

import json
from collections.abc import Callable
from io import BytesIO
from typing import NoReturn

import pytest

from maskline.errors import ArtifactStoreUnavailable, JobStoreUnavailable
from maskline.requests import Priority
from tests.unit.api.conftest import ADMIN_KEY, PNG, Api, MakeApi, told


def away(error: type[Exception]) -> Callable[..., NoReturn]:
    def fail(*_: object, **__: object) -> NoReturn:
        raise error("away")

    return fail


def test_events_have_urls_of_the_host_that_was_called(api: Api) -> None:
    job = api.finish(api.submit())
    answer = api.client.get(f"/v1/jobs/{job.id}/events", base_url="http://masks.example")
    assert answer.status_code == 200
    [event] = answer.text.strip().split("\n\n")
    fields = dict(line.split(": ", 1) for line in event.splitlines())
    assert (fields["event"], fields["id"]) == ("job", str(job.version))
    resource = json.loads(fields["data"])
    assert resource["prediction"]["categoryMask"].startswith("http://masks.example/v1/artifacts/results/")


def test_a_stream_ends_in_time_and_frees_its_seat(make_api: MakeApi) -> None:
    api = make_api(max_wait="0.05", max_waiters="1")
    job_id = api.submit()
    for _ in range(3):
        answer = api.client.get(f"/v1/jobs/{job_id}/events")
        assert (answer.status_code, answer.text.count("event: job")) == (200, 1)
        answer.close()


def test_a_stream_without_a_seat_is_refused_in_words(make_api: MakeApi) -> None:
    api = make_api(max_waiters="1")
    job_id = api.submit()
    with api.services.waiters.seat():
        answer = api.client.get(f"/v1/jobs/{job_id}/events")
        assert (answer.status_code, told(answer)["code"]) == (503, "over_capacity")
        polled = api.client.get(f"/v1/jobs/{job_id}?wait=30")  # answered at once
        assert (polled.status_code, told(polled)["state"]) == (200, "queued")


def test_a_stream_ends_when_its_job_is_deleted(api: Api) -> None:
    job_id = api.submit()
    answer = api.client.get(f"/v1/jobs/{job_id}/events", buffered=False)
    chunks = iter(answer.response)
    next(chunks)
    assert api.client.delete(f"/v1/jobs/{job_id}").status_code == 204
    assert list(chunks) == []
    answer.close()


def test_a_deletion_is_done_even_if_the_bucket_is_away(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    job = api.finish(api.submit())
    with monkeypatch.context() as patch:
        patch.setattr(api.artifacts, "delete", away(ArtifactStoreUnavailable))
        assert api.client.delete(f"/v1/jobs/{job.id}").status_code == 204
    assert api.client.get(f"/v1/jobs/{job.id}").status_code == 404
    assert api.jobs.expire(60, 10) == [job.id]  # the sweeper knows what is left to remove


def test_a_job_that_can_not_be_stored_is_not_recorded(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api.artifacts, "put", away(ArtifactStoreUnavailable))
    answer = api.client.post("/v1/jobs", data=PNG, content_type="image/png")
    assert (answer.status_code, told(answer)["code"]) == (503, "artifact_store_unavailable")
    assert int(answer.headers["Retry-After"]) > 0
    assert api.jobs.queue_depth() == 0


def test_a_full_queue_leaves_no_object_behind(make_api: MakeApi) -> None:
    api = make_api(max_queued="1")
    api.submit()
    kept = list(api.artifacts.keys(""))
    answer = api.client.post("/v1/jobs", data=PNG, content_type="image/png")
    assert (answer.status_code, told(answer)["code"]) == (429, "queue_full")
    assert list(api.artifacts.keys("")) == kept


def test_a_repeated_submission_is_one_job(api: Api) -> None:
    def send(query: str, body: bytes = PNG) -> tuple[int, dict[str, str]]:
        answer = api.client.post(
            f"/v1/jobs{query}", data=body, content_type="image/png", headers={"Idempotency-Key": "k"}
        )
        return answer.status_code, told(answer)

    status, first = send("?priority=bulk")
    assert (status, first["priority"]) == (202, Priority.BULK)
    assert send("?priority=bulk")[1]["id"] == first["id"]
    for other in (send(""), send("?priority=bulk", PNG + b"\0")):
        assert (other[0], other[1]["code"]) == (422, "idempotency_key_reused")
    assert len(list(api.artifacts.keys("jobs/"))) == 1


def test_what_comes_while_records_are_made_anew_is_kept_once(api: Api) -> None:
    """A rebuild may have found it, and whoever tries again by its key is then told of that job."""

    def send(headers: dict[str, str] | None = None) -> int:
        answer = api.client.post("/v1/jobs", data=PNG, content_type="image/png", headers=headers)
        return answer.status_code

    api.jobs.lose_memory()
    api.jobs.recall = lambda *_: None  # type: ignore[method-assign]  # as Redis has it then
    assert send({"Idempotency-Key": "k"}) == 503
    kept = list(api.artifacts.keys("jobs/"))
    assert len(kept) == 1
    assert send() == 503
    assert list(api.artifacts.keys("jobs/")) == kept
    api.jobs.begin_epoch(api.jobs.begin_rebuild(), 2)
    assert send() == 202
    assert len(list(api.artifacts.keys("jobs/"))) == 2


def test_a_listing_leaves_out_what_may_be_large(api: Api) -> None:
    request = json.dumps({"prompts": [{"label": "a", "box": [0, 0, 9, 9]}], "metadata": {"n": 1}})
    answer = api.client.post("/v1/jobs", data={"image": (BytesIO(PNG), "a.png"), "request": request})
    assert told(answer)["prompts"]
    [listed] = told(api.client.get("/v1/jobs"))["jobs"]
    assert "prompts" not in listed
    assert listed["metadata"] == {"n": 1}


def test_a_key_comes_in_either_header(api: Api) -> None:
    assert api.client.get("/v1/jobs", headers={"Authorization": ""}).status_code == 401
    assert (
        api.client.get("/v1/jobs", headers={"Authorization": "", "X-API-Key": ADMIN_KEY}).status_code == 200
    )


def test_an_ordinary_key_reaches_jobs_but_no_keys(api: Api) -> None:
    key = told(api.client.post("/v1/keys", json={"name": "lab", "expiresIn": 60}))["key"]
    mine = {"Authorization": f"Bearer {key}"}
    assert api.client.get("/v1/jobs", headers=mine).status_code == 200
    refused = api.client.get("/v1/keys", headers=mine)
    assert (refused.status_code, told(refused)["code"]) == (403, "forbidden")
    [listed] = told(api.client.get("/v1/keys"))["keys"]
    assert "key" not in listed
    assert api.client.delete(f"/v1/keys/{listed['id']}").status_code == 204
    assert api.client.get("/v1/jobs", headers=mine).status_code == 401


def test_a_signed_url_needs_no_key_and_can_not_be_altered(api: Api) -> None:
    job = api.finish(api.submit())
    url = told(api.client.get(f"/v1/jobs/{job.id}"))["prediction"]["categoryMask"]
    nobody = {"Authorization": ""}
    answer = api.client.get(url, headers=nobody)
    assert (answer.status_code, answer.data, answer.mimetype) == (200, b"PNG", "image/png")
    for altered in (url.replace("category", "confidence"), url.replace("expires=1", "expires=2"), url[:-1]):
        assert api.client.get(altered, headers=nobody).status_code == 404


def test_readiness_names_what_is_away(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    assert told(api.client.get("/readyz"))["workers"] == 1
    monkeypatch.setattr(api.services.models, "workers", away(JobStoreUnavailable))
    answer = api.client.get("/readyz", headers={"Authorization": ""})
    assert (answer.status_code, told(answer)["status"]) == (503, "unavailable")
    assert told(answer)["dependencies"] == {"redis": "away", "s3": "ok"}


def test_a_bug_tells_nothing_but_the_request(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api.jobs, "get", away(ZeroDivisionError))
    answer = api.client.get("/v1/jobs/x", headers={"X-Request-Id": "r-1"})
    assert (answer.status_code, told(answer)["code"], told(answer)["instance"]) == (
        500,
        "internal_error",
        "r-1",
    )
    assert "away" not in answer.text
