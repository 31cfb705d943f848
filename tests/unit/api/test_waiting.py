"""Calls of the clients' protocols when as many wait already as may."""

import base64
from typing import Any

import pytest

from tests.factories import make_card
from tests.unit.api.conftest import PNG, Api, MakeApi

BASE64 = base64.b64encode(PNG).decode()
CALLS: dict[str, dict[str, Any]] = {
    "/models/grabcut": {"data": PNG},
    "/v1/projects/p/locations/l/endpoints/grabcut:predict": {"json": {"instances": [{"content": BASE64}]}},
    "/grabcut/1": {"data": BASE64},
    "/infer/instance_segmentation": {
        "json": {"model_id": "grabcut/1", "image": {"type": "base64", "value": BASE64}}
    },
}


def house(make_api: MakeApi) -> Api:
    """With one seat, and nobody who works."""
    api = make_api(max_waiters="1", max_wait="0.05")
    api.services.models.publish("w", [make_card().model_copy(update={"aliases": ("grabcut/1",)})], 60)
    return api


def jobs_of(api: Api) -> list[Any]:
    listed: list[Any] = api.client.get("/v1/jobs").json["jobs"]  # type: ignore[index]
    return listed


@pytest.mark.parametrize("path", CALLS)
def test_a_call_without_a_seat_is_refused_before_its_job(make_api: MakeApi, path: str) -> None:
    api = house(make_api)
    with api.services.waiters.seat():
        answer = api.client.post(path, **CALLS[path])
    assert answer.status_code == 429, answer.text
    assert answer.headers["Retry-After"]
    assert "too many calls wait already" in answer.text
    assert jobs_of(api) == []


@pytest.mark.parametrize("path", CALLS)
def test_a_call_gives_its_seat_back(make_api: MakeApi, path: str) -> None:
    api = house(make_api)
    for _ in range(2):
        answer = api.client.post(path, **CALLS[path])
        assert answer.status_code in {408, 504}, answer.text  # the wait ends
    assert len(jobs_of(api)) == 2
