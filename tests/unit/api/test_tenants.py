"""Tenants over the in-memory doubles: what is one's is not there for another, on any route."""

import base64
import re
from typing import Any

import pytest
from werkzeug.test import TestResponse

from maskline.adapters.memory_webhooks import MemoryOutbox
from maskline.keys import Scope
from tests.factories import make_card
from tests.unit.api.conftest import PNG, Api, MakeApi, told
from tests.unit.api.test_keys import make, routes
from tests.unit.api.test_vertex_batches import create as create_batch

OF_A_TENANT = {
    "job_id": "job",
    "job": "batch",
    "batch_id": "batch",
    "webhook_id": "webhook",
    "letter_id": "letter",
}
"""Parts of routes that name what is one tenant's: to what they name."""
OF_NOBODY = {
    "call",  # a call that is refused
    "dataset_id",  # these name models, which are everybody's
    "endpoint",
    "model",
    "model_id",
    "publisher",
    "version_id",
    "location",  # Google's, and taken as they come
    "project",
    "name",  # an operation, which has ended; nothing is kept of it
    "key",  # an artifact, by a signed URL
    "key_id",  # an API key, for administrators of all tenants
    "path",  # a file of the documentation
    "filename",
    "number",  # a part or a pack of a batch
    "export_format",
}


@pytest.fixture
def api(make_api: MakeApi) -> Api:
    made = make_api(import_buckets="imports", export_buckets="exports", max_wait="0.01")
    made.artifacts.put("in.jsonl", b"{}\n", "application/jsonl", bucket="imports")
    card = make_card().model_copy(update={"aliases": ("sam/vit_h",)})
    made.services.models.publish("w", [card], 60)
    return made


@pytest.fixture
def stranger(api: Api) -> dict[str, str]:
    """Headers of another tenant, that may do everything."""
    return make(api, *Scope, tenant="stranger")


def bury_an_event(api: Api) -> str:
    """Id of a dead letter."""
    outbox = api.services.outbox
    assert isinstance(outbox, MemoryOutbox)
    outbox.emit("job.failed", tenant="default", subject="0" * 32, version=1, to_own=True)
    [delivery] = outbox.due(1, 60)
    outbox.bury(delivery)
    return delivery.id


def test_no_route_gives_another_tenant_what_is_not_its_own(api: Api, stranger: dict[str, str]) -> None:
    webhook = api.client.post("/v1/webhooks", json={"url": "https://example.com"})
    ids = {
        "job": api.finish(api.submit()).id,
        "batch": create_batch(api),
        "webhook": told(webhook)["id"],
        "letter": bury_an_event(api),
    }
    seen = set()
    for rule, method in routes(api):
        names = set(re.findall(r"<(?:\w+:)?(\w+)>", rule))
        assert names <= OF_A_TENANT.keys() | OF_NOBODY, f"{rule}: whose is what it names?"
        if not names & OF_A_TENANT.keys():
            continue
        path = re.sub(r"<(?:\w+:)?(\w+)>", lambda match: ids.get(OF_A_TENANT.get(match[1], ""), "1"), rule)
        body: dict[str, Any] | None = {} if method == "PATCH" else None
        answer = api.client.open(path, method=method, headers=stranger, json=body)
        assert answer.status_code == 404, (method, path, answer.text)
        seen.add(rule)
        if method == "HEAD":
            continue
        what = told(answer)
        code = what["error"]["status"] if "error" in what else what["code"]
        of_jobs = "NOT_FOUND" if "batchPredictionJobs" in rule else "job_not_found"
        others = {
            "batch_id": "batch_not_found",
            "webhook_id": "webhook_not_found",
            "letter_id": "dead_letter_not_found",
        }
        assert code == next((others[one] for one in names & others.keys()), of_jobs), (
            method,
            path,
        )
    assert len(seen) >= 30
    assert api.client.get(f"/v1/jobs/{ids['job']}").status_code == 200
    assert [batch.id for batch in api.services.batches.active(9)] == [ids["batch"]]
    assert not api.services.batches.active(9)[0].is_cancelling


def test_listings_are_of_a_tenant(api: Api, stranger: dict[str, str]) -> None:
    api.submit()
    create_batch(api)
    batches = "/v1/projects/p/locations/us-central1/batchPredictionJobs"
    assert told(api.client.get("/v1/jobs", headers=stranger))["jobs"] == []
    assert told(api.client.get(batches, headers=stranger))["batchPredictionJobs"] == []
    assert len(told(api.client.get("/v1/jobs"))["jobs"]) == 1
    assert len(told(api.client.get(batches))["batchPredictionJobs"]) == 1


def submit(api: Api, headers: dict[str, str], **more: str) -> TestResponse:
    return api.client.post("/v1/jobs", data=PNG, content_type="image/png", headers=headers | more)


def test_an_idempotency_key_is_a_tenant_s(api: Api, stranger: dict[str, str]) -> None:
    mine = make(api, *Scope)
    first = told(submit(api, mine, **{"Idempotency-Key": "k"}))["id"]
    assert told(submit(api, stranger, **{"Idempotency-Key": "k"}))["id"] != first
    assert told(submit(api, mine, **{"Idempotency-Key": "k"}))["id"] == first


def test_a_result_is_found_again_by_its_tenant_alone(api: Api, stranger: dict[str, str]) -> None:
    mine = make(api, *Scope)
    done = api.finish(told(submit(api, mine))["id"]).id
    assert told(submit(api, mine, Prefer="wait=1"))["id"] == done
    other = submit(api, stranger, Prefer="wait=0.01")
    assert (other.status_code, told(other)["id"] == done) == (202, False)


def test_an_image_is_known_by_its_name_to_its_tenant_alone(api: Api, stranger: dict[str, str]) -> None:
    image = {"type": "base64", "value": base64.b64encode(PNG).decode()}
    points = {"point_coords": [[1, 1]], "point_labels": [1]}

    def cut(headers: dict[str, str], **body: Any) -> TestResponse:
        return api.client.post("/sam/segment_image", json=points | body, headers=headers)

    mine = make(api, *Scope)
    assert cut(mine, image_id="mug", image=image).status_code == 408  # accepted; no worker runs it
    assert cut(mine, image_id="mug").status_code == 408
    refused = cut(stranger, image_id="mug")
    assert refused.status_code == 422
    assert "there is no image" in refused.text


@pytest.mark.parametrize("key", ["results/x/1/category.png", "keys/x.json"])
def test_the_bucket_of_all_tenants_is_closed_for_import(api: Api, stranger: dict[str, str], key: str) -> None:
    answer = api.client.post("/v1/jobs", json={"image": {"uri": f"s3://maskline/{key}"}}, headers=stranger)
    assert (answer.status_code, "maskline" in answer.text) == (422, True)
