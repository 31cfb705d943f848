"""Limits of tenants, on the routes of every protocol: held before anything is stored, told in headers."""

import base64
from typing import Any

import http_sf
import pytest
from werkzeug.test import TestResponse

from maskline.keys import Scope
from tests.factories import make_card
from tests.unit.api.conftest import PNG, Api, MakeApi, told
from tests.unit.api.test_keys import make
from tests.unit.api.test_vertex_batches import body as batch_body

IMAGE = base64.b64encode(PNG).decode()
LOCATION = "/v1/projects/p/locations/us-central1"
CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "native": ("/v1/jobs", {"json": {"image": {"content": IMAGE}}}),
    "native, with a wait": (
        "/v1/jobs",
        {"data": PNG, "content_type": "image/png", "headers": {"Prefer": "wait=0.01"}},
    ),
    "Hugging Face": ("/models/grabcut", {"data": PNG, "content_type": "image/png"}),
    "Vertex AI": (f"{LOCATION}/endpoints/grabcut:predict", {"json": {"instances": [{"content": IMAGE}]}}),
    "Vertex AI's batches": (f"{LOCATION}/batchPredictionJobs", {"json": batch_body()}),
    "Roboflow v0": ("/grabcut/1", {"data": IMAGE}),
    "Roboflow v1": (
        "/infer/instance_segmentation",
        {"json": {"model_id": "grabcut", "image": {"type": "base64", "value": IMAGE}}},
    ),
}


@pytest.fixture
def limited(make_api: MakeApi) -> MakeApi:
    def make_limited(**settings: str) -> Api:
        api = make_api(import_buckets="imports", export_buckets="exports", max_wait="0.01", **settings)
        api.artifacts.put("in.jsonl", b"{}\n", "application/jsonl", bucket="imports")
        card = make_card().model_copy(update={"aliases": ("grabcut/1",)})
        api.services.models.publish("w", [card], 60)
        return api

    return make_limited


def members(answer: TestResponse, name: str) -> dict[str, dict[str, int]]:
    """A header that is a list of strings with parameters (RFC 9651)."""
    parsed: Any = http_sf.parse(answer.headers[name].encode(), tltype="list")
    return {item: dict(parameters) for item, parameters in parsed}


def submit(api: Api, **more: Any) -> TestResponse:
    return api.client.post("/v1/jobs", data=PNG, content_type="image/png", **more)


@pytest.mark.parametrize("call", CALLS)
def test_every_protocol_is_limited_before_it_stores(limited: MakeApi, call: str) -> None:
    api = limited(submit_rate="0.001", submit_burst="1")
    path, sent = CALLS[call]
    first = api.client.post(path, **sent)
    assert first.status_code in (200, 202, 408, 504), first.text
    assert members(first, "RateLimit")["submissions"]["r"] == 0
    kept = list(api.artifacts.keys(""))
    refused = api.client.post(path, **sent)
    assert refused.status_code == 429, refused.text
    assert 0 < int(refused.headers["Retry-After"]) <= 1000
    assert members(refused, "RateLimit-Policy") == {"submissions": {"q": 1, "w": 1000}}
    assert members(refused, "RateLimit")["submissions"]["r"] == 0
    assert "submissions a second" in refused.text
    assert list(api.artifacts.keys("")) == kept


@pytest.mark.parametrize("call", set(CALLS) - {"Vertex AI's batches"})
def test_a_tenant_that_waits_for_too_much_is_refused_before_it_stores(limited: MakeApi, call: str) -> None:
    api = limited(max_queued_per_tenant="1")
    first = submit(api)
    assert members(first, "RateLimit-Policy") == {"queued": {"q": 1}}
    assert members(first, "RateLimit") == {"queued": {"r": 0}}
    kept = list(api.artifacts.keys(""))
    path, sent = CALLS[call]
    refused = api.client.post(path, **sent)
    assert (refused.status_code, "1 of your jobs wait" in refused.text) == (429, True), refused.text
    assert int(refused.headers["Retry-After"]) > 0
    assert list(api.artifacts.keys("")) == kept


def test_a_batch_may_come_while_the_queue_is_full(limited: MakeApi) -> None:
    api = limited(max_queued_per_tenant="1")
    submit(api)
    path, sent = CALLS["Vertex AI's batches"]
    assert api.client.post(path, **sent).status_code == 200


def test_tenants_have_limits_of_their_own(limited: MakeApi) -> None:
    api = limited(
        submit_rate="0.001", submit_burst="1", tenant_limits='{"lab": {"submitBurst": 2, "maxQueued": 5}}'
    )
    lab, other = make(api, *Scope, tenant="lab"), make(api, *Scope, tenant="other")
    assert [submit(api, headers=lab).status_code for _ in range(3)] == [202, 202, 429]
    assert [submit(api, headers=other).status_code for _ in range(2)] == [202, 429]
    refused = submit(api, headers=lab)
    assert told(refused)["code"] == "rate_limited"
    assert members(refused, "RateLimit")["queued"] == {"r": 3}


def test_the_instances_of_a_call_count_one_by_one(limited: MakeApi) -> None:
    api = limited(submit_rate="0.001", submit_burst="3")
    path, _ = CALLS["Vertex AI"]
    two = {"instances": [{"content": IMAGE}] * 2}
    assert members(api.client.post(path, json=two), "RateLimit")["submissions"]["r"] == 1
    assert api.client.post(path, json=two).status_code == 429
    assert submit(api).status_code == 202


def test_what_makes_no_job_does_not_count(limited: MakeApi) -> None:
    api = limited(submit_rate="0.001", submit_burst="1")
    for _ in range(3):
        assert submit(api, headers={"Idempotency-Key": "k"}).status_code == 202
    [listed] = told(api.client.get("/v1/jobs"))["jobs"]
    api.finish(listed["id"])
    assert submit(api, headers={"Prefer": "wait=1"}).status_code == 200  # the earlier result
    assert "RateLimit" not in api.client.get("/v1/jobs").headers
    assert submit(api, query_string={"model": "none"}).status_code == 404


def test_nothing_is_told_where_there_are_no_limits(api: Api) -> None:
    assert not {"RateLimit", "RateLimit-Policy"} & set(submit(api).headers.keys())
