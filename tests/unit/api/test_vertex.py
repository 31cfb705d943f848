"""Vertex AI's protocol over the doubles: what is asked for, what is answered, and how faults are told."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from maskline.jobs import Failure, JobState, Outcome
from maskline.requests import Output, Subtask
from maskline.results import AnnotationSpec, Endpoint
from tests.factories import make_card
from tests.unit.api.conftest import PNG, Api, MakeApi, told

LOCATION = "/v1/projects/p/locations/us-central1"
IMAGE = base64.b64encode(PNG).decode()
MASK = base64.b64encode(b"PNG").decode()
INSTANCE = {"content": IMAGE, "mimeType": "image/png"}
SPECS = (
    AnnotationSpec(id=0, display_name="background", color="#000000"),
    AnnotationSpec(id=1, display_name="road", color="#ff0080"),
)
STREET = Endpoint(
    id="1234567890",
    display_name="Streets",
    subtask=Subtask.INSTANCE,
    parameters={"confidenceThreshold": 0.25},
)


@pytest.fixture
def api(make_api: MakeApi) -> Api:
    made = make_api(max_wait="5")
    card = make_card("our/street.1").model_copy(
        update={"annotation_specs": SPECS, "endpoints": (STREET,), "aliases": ("streets",)}
    )
    made.services.models.publish("w", [make_card(), card], 60)
    return made


@contextmanager
def worker(api: Api, failure: Failure | None = None) -> Iterator[None]:
    """Ends every job that comes, in success or with this failure."""
    stopping = threading.Event()

    def work() -> None:
        while not stopping.wait(0.01):
            for job in api.jobs.page("default", state=JobState.QUEUED, model=None, size=9, token=None).jobs:
                if failure is None:
                    api.finish(job.id)
                elif claimed := api.jobs.claim(job.kind, "w", 60):
                    api.jobs.finish(claimed.id, claimed.attempt, Outcome(failure=failure))

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()


def call(api: Api, body: Any, path: str = "endpoints/grabcut:predict") -> Any:
    return api.client.post(f"{LOCATION}/{path}?%24alt=json%3Benum-encoding%3Dint", json=body)


def violations(answer: Any) -> dict[str, str]:
    """Field to description; the body must be a whole ``google.rpc.Status``."""
    error = told(answer)["error"]
    assert error["code"] == answer.status_code
    [bad] = [detail for detail in error["details"] if detail["@type"].endswith("rpc.BadRequest")]
    return {one["field"]: one["description"] for one in bad["fieldViolations"]}


def test_each_instance_becomes_a_job_and_a_prediction(api: Api) -> None:
    with worker(api):
        answer = call(api, {"instances": [INSTANCE, {"content": IMAGE}]})
    assert answer.status_code == 200
    body = told(answer)
    assert body["predictions"] == [{"categoryMask": MASK, "confidenceMask": MASK}] * 2
    assert body["model"] == "projects/p/locations/us-central1/models/grabcut"
    assert (body["deployedModelId"], body["modelDisplayName"], body["modelVersionId"]) == (
        "grabcut",
        "grabcut",
        "1",
    )
    jobs = [api.jobs.get("default", job_id) for job_id in body["metadata"]["jobs"]]
    assert [job.request.parameters for job in jobs] == [{"confidenceThreshold": 0.5}] * 2
    assert jobs[0].request.outputs == (Output.CATEGORY_MASK, Output.CONFIDENCE_MASK)
    background = {"id": "0", "displayName": "background", "color": {}}
    assert body["metadata"]["annotationSpecColors"] == [[background]] * 2


@pytest.mark.parametrize(
    ("path", "parameters", "expected", "subtask"),
    [
        ("endpoints/1234567890", None, 0.25, "instance"),
        ("endpoints/1234567890", {"confidenceThreshold": 0.75}, 0.75, "instance"),
        ("endpoints/our--street-1", {}, 0.5, "semantic"),
        ("endpoints/streets", None, 0.5, "semantic"),
        ("publishers/our/models/street.1", None, 0.5, "semantic"),
        ("publishers/google/models/our--street-1@default", None, 0.5, "semantic"),
        ("publishers/google/models/1234567890", None, 0.25, "instance"),
    ],
)
def test_an_endpoint_is_a_name_with_defaults(
    api: Api, path: str, parameters: Any, expected: float, subtask: str
) -> None:
    with worker(api):
        answer = call(api, {"instances": [INSTANCE], "parameters": parameters}, f"{path}:predict")
    body = told(answer)
    assert answer.status_code == 200, body
    [job_id] = body["metadata"]["jobs"]
    request = api.jobs.get("default", job_id).request
    assert (request.model, request.subtask) == ("our/street.1", subtask)
    assert request.parameters == {"confidenceThreshold": expected}
    assert "annotationSpecColors" not in body["metadata"]


def test_raw_prediction_in_both_forms(api: Api) -> None:
    body = {"instances": [INSTANCE]}
    wrapped = {
        "httpBody": {
            "contentType": "application/json",
            "data": base64.b64encode(json.dumps(body).encode()).decode(),
        }
    }
    with worker(api):
        plain = call(api, body, "endpoints/grabcut:rawPredict")
        answer = call(api, wrapped, "publishers/google/models/grabcut:rawPredict")
    assert told(plain)["predictions"] == [{"categoryMask": MASK, "confidenceMask": MASK}]
    for one in (plain, answer):
        assert one.headers["X-Vertex-AI-Deployed-Model-Id"] == "grabcut"
        assert one.headers["X-Vertex-AI-Model"] == "projects/p/locations/us-central1/models/grabcut"
        assert one.headers["X-Vertex-AI-Model-Version-Id"] == "1"
    assert told(answer)["contentType"] == "application/json"
    inner = json.loads(base64.b64decode(told(answer)["data"]))
    assert inner["predictions"] == told(plain)["predictions"]
    for data in ("?", "é"):
        bad = call(api, {"httpBody": {"data": data}}, "endpoints/grabcut:rawPredict")
        assert bad.status_code == 400
        assert "not base64" in violations(bad)["httpBody.data"]


@pytest.mark.parametrize("project", ["a%0Ab", "%E2%82%AC", "a%0D%0Ax"])
def test_a_name_that_no_header_can_hold_is_quoted(api: Api, project: str) -> None:
    path = f"/v1/projects/{project}/locations/x/endpoints/grabcut:rawPredict"
    with worker(api):
        answer = api.client.post(path, json={"instances": [INSTANCE]})
    assert answer.status_code == 200
    assert answer.headers["X-Vertex-AI-Model"] == f"projects/{project}/locations/x/models/grabcut"


@pytest.mark.parametrize(
    ("body", "faults"),
    [
        ({}, {"instances": "required"}),
        ({"instances": []}, {"instances": "at least 1"}),
        ({"instances": [INSTANCE] * 65}, {"instances": "at most 64"}),
        ({"instances": [{"mimeType": "image/png"}]}, {"instances[0].content": "required"}),
        ({"instances": [INSTANCE, {"content": "%"}]}, {"instances[1].content": "not base64"}),
        ({"instances": [{"content": "é"}]}, {"instances[0].content": "not base64"}),
        ({"instances": [{"content": "Tm8="}]}, {"instances[0].content": "no image"}),
        ({"instances": [{"content": ""}]}, {"instances[0].content": "is empty"}),
        ({"instances": [{"content": IMAGE, "x": 1}]}, {"instances[0].x": "no such field"}),
        (
            {"instances": [INSTANCE], "parameters": {"confidenceThreshold": 2, "x": 1}},
            {"parameters.confidenceThreshold": "maximum", "parameters.x": "no such parameter"},
        ),
        ({"instances": [INSTANCE], "parameters": [1]}, {"parameters": "object"}),
        (
            {"instances": [{**INSTANCE, "prompts": [{"label": "a", "box": [0, 0, 999, 9]}]}]},
            {"instances[0].prompts[0].box": "outside the image"},
        ),
    ],
)
def test_what_is_wrong_is_told_by_its_field(api: Api, body: Any, faults: dict[str, str]) -> None:
    answer = call(api, body)
    assert answer.status_code == 400
    assert told(answer)["error"]["status"] == "INVALID_ARGUMENT"
    found = violations(answer)
    assert found.keys() == faults.keys()
    for field, word in faults.items():
        assert word in found[field]
    assert not api.jobs.page("default", state=None, model=None, size=9, token=None).jobs
    assert not list(api.artifacts.keys(""))


@pytest.mark.parametrize(
    ("path", "status", "name"),
    [
        ("endpoints/none:predict", 404, "NOT_FOUND"),
        ("publishers/google/models/none:predict", 404, "NOT_FOUND"),
        ("publishers/google/models/grabcut@7:predict", 404, "NOT_FOUND"),
        ("nothing", 404, "NOT_FOUND"),
        ("models", 405, "UNIMPLEMENTED"),
    ],
)
def test_what_is_not_there(api: Api, path: str, status: int, name: str) -> None:
    answer = call(api, {"instances": [INSTANCE]}, path)
    assert answer.status_code == status
    assert told(answer)["error"]["status"] == name


def test_keys_and_bodies(make_api: MakeApi) -> None:
    api = make_api(max_image_bytes="1000")
    path = f"{LOCATION}/endpoints/grabcut"
    key = api.client.environ_base.pop("HTTP_AUTHORIZATION").removeprefix("Bearer ")
    refused = api.client.get(path)
    assert (refused.status_code, told(refused)["error"]["status"]) == (401, "UNAUTHENTICATED")
    assert api.client.get(path, headers={"X-Goog-Api-Key": "mk_wrong"}).status_code == 401
    headers = {"X-Goog-Api-Key": key}
    assert api.client.get(path, headers=headers).status_code == 200
    large = api.client.post(f"{path}:predict", data=b" " * 2_000_000, headers=headers)
    assert (large.status_code, told(large)["error"]["status"]) == (400, "INVALID_ARGUMENT")
    assert "larger than" in told(large)["error"]["message"]
    malformed = api.client.post(f"{path}:predict", data=b"{", headers=headers)
    assert (malformed.status_code, told(malformed)["error"]["status"]) == (400, "INVALID_ARGUMENT")
    [info] = told(malformed)["error"]["details"]
    assert info["reason"] == "MALFORMED_REQUEST"


@pytest.mark.parametrize(
    ("code", "status", "name"),
    [
        ("image_unreadable", 400, "INVALID_ARGUMENT"),
        ("invalid_request", 400, "INVALID_ARGUMENT"),
        ("prediction_failed", 500, "INTERNAL"),
        ("out_of_memory", 500, "INTERNAL"),
    ],
)
def test_a_failed_job_is_an_error(api: Api, code: str, status: int, name: str) -> None:
    with worker(api, Failure(code=code, message="the reason")):
        answer = call(api, {"instances": [INSTANCE]})
    error = told(answer)["error"]
    assert (answer.status_code, error["status"]) == (status, name)
    assert "the reason" in error["message"]


def test_a_wait_that_is_over_names_the_job(make_api: MakeApi) -> None:
    api = make_api(max_wait="0.1")
    answer = call(api, {"instances": [INSTANCE]})
    error = told(answer)["error"]
    assert (answer.status_code, error["status"]) == (504, "DEADLINE_EXCEEDED")
    [job] = api.jobs.page("default", state=JobState.QUEUED, model=None, size=9, token=None).jobs
    assert job.id in error["message"]


def test_a_full_queue_takes_all_instances_or_none(make_api: MakeApi) -> None:
    api = make_api(max_queued="1", max_wait="0.1")
    answer = call(api, {"instances": [INSTANCE, INSTANCE]})
    assert (answer.status_code, told(answer)["error"]["status"]) == (429, "RESOURCE_EXHAUSTED")
    [job] = api.jobs.page("default", state=None, model=None, size=9, token=None).jobs
    assert job.state is JobState.CANCELLED


def test_an_endpoint_tells_its_model(api: Api) -> None:
    body = told(api.client.get(f"{LOCATION}/endpoints/1234567890"))
    location = "projects/p/locations/us-central1"
    assert body["name"] == f"{location}/endpoints/1234567890"
    assert body["displayName"] == "Streets"
    [deployed] = body["deployedModels"]
    assert deployed["model"] == f"{location}/models/our--street-1"
    assert body["trafficSplit"] == {deployed["id"]: 100}
    assert body["dedicatedEndpointEnabled"] is False
    assert body["createTime"].endswith("Z")


def test_a_model_tells_its_colors(api: Api) -> None:
    body = told(api.client.get(f"{LOCATION}/models/our--street-1%40default"))
    assert body["name"] == "projects/p/locations/us-central1/models/our--street-1"
    assert body["metadata"]["model"] == "our/street.1"
    assert body["metadata"]["annotationSpecColors"] == [
        {"id": "0", "displayName": "background", "color": {}},
        {"id": "1", "displayName": "road", "color": {"red": 1.0, "blue": 0.501961}},
    ]
    assert {one["endpoint"].rpartition("/")[2] for one in body["deployedModels"]} == {
        "our--street-1",
        "1234567890",
    }
    assert api.client.get(f"{LOCATION}/models/our--street-1@2").status_code == 404


def names(api: Api, kind: str, query: dict[str, Any]) -> tuple[list[str], str | None]:
    body = told(api.client.get(f"{LOCATION}/{kind}", query_string=query))
    return [one["name"].rpartition("/")[2] for one in body[kind]], body.get("nextPageToken")


def test_lists_have_pages_and_filters(api: Api) -> None:
    every = ["1234567890", "grabcut", "our--street-1"]
    assert names(api, "endpoints", {"$alt": "json;enum-encoding=int"}) == (every, None)
    first, token = names(api, "endpoints", {"pageSize": 2})
    assert first == every[:2]
    assert names(api, "endpoints", {"pageSize": 2, "pageToken": token}) == (every[2:], None)
    assert names(api, "endpoints", {"filter": 'display_name="Streets"'})[0] == ["1234567890"]
    assert names(api, "endpoints", {"filter": 'displayName!="Streets" AND endpoint=grabcut'})[0] == [
        "grabcut"
    ]
    assert names(api, "models", {"filter": 'model="our--street-1"'})[0] == ["our--street-1"]
    assert names(api, "models", {})[0] == ["grabcut", "our--street-1"]
    for text, found in (
        ('display_name="a AND b=c"', []),
        ('display_name!="a AND model=b" AND model="grabcut"', ["grabcut"]),
        (r' model = "grabcut"  AND  display_name != "\" AND model=x" ', ["grabcut"]),
    ):
        assert names(api, "models", {"filter": text})[0] == found
    for bad, field in (
        ({"filter": "labels.x:*"}, "filter"),
        ({"filter": "model=a b"}, "filter"),
        ({"filter": "model=a AND"}, "filter"),
        ({"filter": 'model="a" model="b"'}, "filter"),
        ({"pageSize": "x"}, "pageSize"),
    ):
        answer = api.client.get(f"{LOCATION}/models", query_string=bad)
        assert answer.status_code == 400
        assert violations(answer).keys() == {field}


def test_an_id_comes_before_another_model_s_alias(make_api: MakeApi) -> None:
    api = make_api()
    other = make_card("org/net").model_copy(update={"aliases": ("net",)})
    api.services.models.publish("w", [make_card("net"), other], 60)
    assert told(api.client.get(f"{LOCATION}/models/net"))["metadata"]["model"] == "net"
    assert told(api.client.get("/v1/models/net"))["id"] == "net"


def test_the_beta_version_is_the_same(api: Api) -> None:
    beta = LOCATION.replace("/v1/", "/v1beta1/")
    assert told(api.client.get(f"{beta}/models/grabcut")) == told(
        api.client.get(f"{LOCATION}/models/grabcut")
    )
