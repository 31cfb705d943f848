"""The Hugging Face protocol over the in-memory doubles: what is hard to bring about with real workers."""

import base64
from io import BytesIO
from typing import Any

import pytest
from werkzeug.test import TestResponse

from maskline.artifacts import Artifact, result_key
from maskline.jobs import Job, JobState
from maskline.requests import Output, Subtask
from maskline.results import ModelCard, SegmentPicture, SegmentPictureList
from tests.factories import make_card
from tests.unit.api.conftest import ADMIN_KEY, PNG, Api, MakeApi, told

PICTURES = SegmentPictureList(
    width=96,
    height=64,
    segments=(
        SegmentPicture(label="cat", category_id=1, score=0.75, mask="UE5H"),
        SegmentPicture(label="sky", category_id=2, score=0.5, mask="UE5H"),
    ),
)
PARAMETERS = (
    *("confidenceThreshold", "threshold", "maskThreshold", "overlapMaskAreaThreshold"),
    *("fuseStuff", "overlapping"),
)


def learned(*subtasks: Subtask) -> ModelCard:
    """The card of a model that has the pipeline's parameters."""
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {name: {} for name in PARAMETERS},
        "additionalProperties": False,
    }
    return make_card("org/net").model_copy(
        update={"subtasks": subtasks, "prompt_kinds": (), "parameters_schema": schema, "aliases": ("net",)}
    )


@pytest.fixture
def busy(api: Api, monkeypatch: pytest.MonkeyPatch) -> Api:
    """The API with a worker that ends each job as soon as it is created."""
    create = api.jobs.create

    def create_and_finish(job: Job, *rest: Any) -> Job:
        created = create(job, *rest)
        api.artifacts.put(
            result_key(created.id, 1, Artifact.SEGMENT_MASKS), PICTURES.to_json().encode(), "application/json"
        )
        api.finish(created.id)
        return created

    monkeypatch.setattr(api.jobs, "create", create_and_finish)
    api.services.models.publish("v", [learned(Subtask.SEMANTIC, Subtask.INSTANCE, Subtask.PANOPTIC)], 60)
    return api


def call(api: Api, path: str = "/models/grabcut", **options: Any) -> TestResponse:
    return api.client.post(path, **({"data": PNG} | options))


def with_parameters(**parameters: Any) -> dict[str, Any]:
    return {"data": None, "json": {"inputs": base64.b64encode(PNG).decode(), "parameters": parameters}}


def newest(api: Api) -> Job:
    return api.jobs.page("default", state=None, model=None, size=1, token=None).jobs[0]


def ids(api: Api) -> set[str]:
    return {job.id for job in api.jobs.page("default", state=None, model=None, size=100, token=None).jobs}


def count(api: Api) -> int:
    return len(ids(api))


def test_segments_are_told_as_the_clients_read_them(busy: Api) -> None:
    answer = call(busy)
    assert (answer.status_code, answer.mimetype) == (200, "application/json")
    assert told(answer) == [
        {"label": "cat", "mask": "UE5H", "score": 0.75},
        {"label": "sky", "mask": "UE5H", "score": 0.5},
    ]
    assert {Output.CATEGORY_MASK, Output.SEGMENTS, Output.SEGMENT_MASKS} < set(newest(busy).request.outputs)
    assert told(call(busy, **with_parameters(subtask="semantic"))) == [
        {"label": "cat", "mask": "UE5H"},
        {"label": "sky", "mask": "UE5H"},
    ]
    assert [one["label"] for one in told(call(busy, **with_parameters(threshold=0.75)))] == ["cat"]


@pytest.mark.parametrize("model", ["org/net", "net"])
def test_the_parameters_are_the_pipelines(busy: Api, model: str) -> None:
    assert call(busy, f"/models/{model}").status_code == 200
    request = newest(busy).request
    assert (request.model, request.subtask) == ("org/net", Subtask.PANOPTIC)
    assert request.parameters == {
        "threshold": 0.9,
        "maskThreshold": 0.5,
        "overlapMaskAreaThreshold": 0.5,
        "fuseStuff": False,
        "overlapping": False,
    }
    given = {"threshold": 0.0, "mask_threshold": 0.1, "overlap_mask_area_threshold": 1, "subtask": "instance"}
    answer = call(busy, f"/models/{model}", **with_parameters(**given))
    assert len(told(answer)) == 2  # the model itself leaves out what is below the threshold
    request = newest(busy).request
    assert request.subtask is Subtask.INSTANCE
    assert request.parameters == {
        "threshold": 0.0,
        "maskThreshold": 0.1,
        "overlapMaskAreaThreshold": 1.0,
        "fuseStuff": False,
        "overlapping": False,
    }


@pytest.mark.parametrize(
    ("subtasks", "chosen"),
    [
        ((Subtask.SEMANTIC, Subtask.INSTANCE), Subtask.INSTANCE),
        ((Subtask.SEMANTIC,), Subtask.SEMANTIC),
    ],
)
def test_the_subtask_is_chosen_as_by_the_pipeline(
    busy: Api, subtasks: tuple[Subtask, ...], chosen: Subtask
) -> None:
    busy.services.models.publish("v", [learned(*subtasks)], 60)
    assert call(busy, "/models/org/net").status_code == 200
    assert newest(busy).request.subtask is chosen


def test_equal_requests_share_a_result_while_it_is_there(busy: Api) -> None:
    path = "/models/org/net"
    assert call(busy, path).status_code == call(busy, path).status_code == 200
    assert count(busy) == 1
    for number, other in enumerate(
        (
            {"headers": {"X-Use-Cache": "False"}},
            {"headers": {"x-use-cache": "0"}},
            with_parameters(threshold=0.4),
            with_parameters(subtask="semantic"),
        ),
        2,
    ):
        assert call(busy, path, **other).status_code == 200
        assert count(busy) == number
    options = with_parameters(threshold=0.4)
    options["json"]["options"] = {"use_cache": False}
    assert call(busy, path, **options).status_code == 200
    assert count(busy) == 6
    card = learned(Subtask.SEMANTIC, Subtask.INSTANCE, Subtask.PANOPTIC)
    busy.services.models.publish("v", [card.model_copy(update={"revision": "2"})], 60)
    busy.services.cards._read_at = 0  # as after a moment
    known = ids(busy)
    assert call(busy, path).status_code == 200
    [made] = ids(busy) - known
    busy.artifacts.delete(list(busy.artifacts.keys(f"results/{made}/")))
    assert call(busy, path).status_code == 200
    assert count(busy) == 8


def test_the_native_api_shares_results_with_those_who_wait(busy: Api) -> None:
    def submit(**options: Any) -> TestResponse:
        headers = {"Prefer": "wait=5"} | options.pop("headers", {})
        answer = busy.client.post(
            "/v1/jobs", data=PNG, content_type="image/png", **({"headers": headers} | options)
        )
        assert answer.status_code in (200, 202), answer.text
        return answer

    first = told(submit())
    again = submit()
    assert (again.status_code, told(again)["id"]) == (200, first["id"])
    assert again.headers["Location"] == f"/v1/jobs/{first['id']}"
    for own in (
        {"headers": {"Prefer": ""}},
        {"query_string": {"useCache": "false"}},
        {"query_string": {"metadata": '{"a": 1}'}},
        {"query_string": {"expiresIn": "60"}},
        {"query_string": {"autoOrient": "false"}},
    ):
        assert told(submit(**own))["id"] != first["id"]
    keyed = [told(submit(headers={"Idempotency-Key": "k"}))["id"] for _ in range(2)]
    assert keyed[0] == keyed[1]
    other = busy.client.post(
        "/v1/jobs?priority=bulk", data=PNG, content_type="image/png", headers={"Idempotency-Key": "k"}
    )
    assert (other.status_code, told(other)["code"]) == (422, "idempotency_key_reused")


def test_a_model_without_a_worker_is_told_of_or_waited_for(make_api: MakeApi) -> None:
    api = make_api(max_wait="0.05")
    api.services.models.withdraw("w")
    for headers in ({}, {"x-wait-for-model": "0"}, {"X-Wait-For-Model": "False"}):
        answer = call(api, headers=headers)
        assert answer.status_code == 503
        assert "the model 'grabcut' is not ready" in told(answer)["error"]
        assert told(answer)["estimated_time"] > 0
    assert count(api) == 0
    for headers in ({"x-wait-for-model": "1"}, {"X-Wait-For-Model": "TRUE"}):
        answer = call(api, headers=headers)
        assert answer.status_code == 504
        job = newest(api)
        assert job.state is JobState.QUEUED
        assert job.id in told(answer)["error"]
    options = with_parameters()
    options["json"]["options"] = {"wait_for_model": True}
    assert call(api, **options).status_code == 504
    assert told(api.client.get("/models/grabcut"))["state"] == "Loadable"
    assert api.client.get("/models/grabcut/health").status_code == 503
    wrong = call(api, headers={"x-wait-for-model": "maybe"})
    assert (wrong.status_code, told(wrong)["error"]) == (
        400,
        "x-wait-for-model: 'maybe' is neither true nor false",
    )


def test_a_cached_result_needs_no_worker(busy: Api) -> None:
    assert call(busy).status_code == 200
    busy.services.models.publish("w", [], 60)
    assert call(busy).status_code == 200
    assert call(busy, headers={"x-use-cache": "false"}).status_code == 503


def test_the_front_page_takes_images_with_a_key_alone(busy: Api) -> None:
    assert call(busy, "/").status_code == 200
    assert newest(busy).request.model == "grabcut"
    refused = call(busy, "/", headers={"Authorization": ""})
    assert (refused.status_code, set(told(refused))) == (401, {"error"})
    assert busy.client.get("/", headers={"Authorization": ""}).status_code == 302


def test_the_key_may_come_as_the_description_has_it(busy: Api) -> None:
    assert call(busy, headers={"Authorization": f"Bearer: {ADMIN_KEY}"}).status_code == 200


def test_what_is_larger_than_an_image_may_be_is_refused(make_api: MakeApi) -> None:
    api = make_api(max_image_bytes="1000")
    image, text = bytes(1001), "A" * (1000 * 4 // 3 + (1 << 20) + 1)
    for options in ({"data": image}, {"data": None, "json": {"inputs": text}}):
        answer = call(api, **options)
        assert (answer.status_code, set(told(answer))) == (413, {"error"})
    assert count(api) == 0
    assert list(api.artifacts.keys("")) == []


def test_a_form_is_told_what_to_send_instead(api: Api) -> None:
    answer = api.client.post("/models/grabcut", data={"file": (BytesIO(PNG), "a.png")})
    assert answer.status_code == 415
    assert "send the image's bytes as the body" in answer.text
