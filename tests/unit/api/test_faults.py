"""Every fault of a request is told at once, and only once."""

import json
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.body import salvage
from maskline.errors import InvalidRequest
from maskline.requests import SegmentationRequest
from tests.unit.api.conftest import PNG, Api, told

GOOD = {"label": "a", "box": [0, 0, 9, 9]}
OUTSIDE = {"label": "a", "box": [0, 0, 900, 9]}
WRONG = {"label": "", "box": [0, 0, 9, 9]}

prompts = st.lists(st.sampled_from([GOOD, OUTSIDE, WRONG, 7, {"label": "a", "points": "x"}]), max_size=6)


def pointers(answer: Any) -> list[str]:
    assert answer.status_code == 422, answer.text
    return [fault.get("pointer", fault.get("parameter")) for fault in told(answer)["errors"]]


def test_faults_of_form_and_of_sense_are_told_together(api: Api) -> None:
    request = {
        "prompts": [GOOD, OUTSIDE, WRONG, OUTSIDE],
        "parameters": {"confidenceThreshold": 2},
        "expiresIn": 1,
        "metadata": {"a": "b" * 5000},
        "nonsense": True,
    }
    answer = api.client.post("/v1/jobs", data={"image": (BytesIO(PNG), "a"), "request": json.dumps(request)})
    assert sorted(pointers(answer)) == [
        "/expiresIn",
        "/metadata",
        "/nonsense",
        "/parameters/confidenceThreshold",
        "/prompts/1/box",
        "/prompts/2/label",
        "/prompts/3/box",
    ]
    assert list(api.artifacts.keys("")) == []


def test_a_list_without_its_faulty_items_is_not_told_to_be_short(api: Api) -> None:
    request = {"outputs": ["mask"], "webhook": {"url": "https://example.com", "events": ["job.done"]}}
    answer = api.client.post("/v1/jobs", data={"image": (BytesIO(PNG), "a"), "request": json.dumps(request)})
    assert sorted(pointers(answer)) == ["/outputs/0", "/webhook/events/0"]
    empty = api.client.post("/v1/jobs", data={"image": (BytesIO(PNG), "a"), "request": '{"outputs": []}'})
    assert pointers(empty) == ["/outputs"]


@pytest.mark.parametrize("name", ["sam_vit_b", "sam/vit_b"])
def test_a_shipped_model_that_nobody_offers_is_told_from_an_unknown_one(api: Api, name: str) -> None:
    answer = api.client.post("/v1/jobs", query_string={"model": name}, data=PNG, content_type="image/png")
    assert answer.status_code == 404
    assert "no worker offers the model" in told(answer)["detail"]
    assert "maskline models show sam_vit_b" in told(answer)["detail"]


def test_a_fault_in_a_prompt_hides_no_other(api: Api) -> None:
    request = {
        "prompts": [
            {"label": "", "points": [[1, 1]], "pointLabels": [1, 0]},
            {"label": "", "points": []},
            {"label": "", "points": [[1, 1]], "pointLabels": [0]},
            {"label": "", "box": [9, 9, 1, 1], "pointLabels": [1]},
        ]
    }
    answer = api.client.post("/v1/jobs", data={"image": (BytesIO(PNG), "a"), "request": json.dumps(request)})
    assert pointers(answer) == [
        *("/prompts/0/label", "/prompts/0/pointLabels"),
        *("/prompts/1/label", "/prompts/1/points"),
        *("/prompts/2/label", "/prompts/2/pointLabels"),
        *("/prompts/3/label", "/prompts/3/box", "/prompts/3/pointLabels"),
    ]


def test_an_unknown_parameter_is_answered_with_those_that_there_are(api: Api) -> None:
    request = {"parameters": {"foo": 1, "a/b": 2, "confidenceThreshold": 2}}
    answer = api.client.post("/v1/jobs", data={"image": (BytesIO(PNG), "a"), "request": json.dumps(request)})
    assert sorted(pointers(answer)) == [
        "/parameters/a~1b",
        "/parameters/confidenceThreshold",
        "/parameters/foo",
    ]
    unknown = "grabcut has no such parameter; it has confidenceThreshold"
    assert [fault["detail"] for fault in told(answer)["errors"]].count(unknown) == 2


def test_faults_speak_of_json_and_not_of_python(api: Api) -> None:
    request = {"prompts": [{"label": "a", "box": [1, 2, 3]}], "parameters": {"confidenceThreshold": None}}
    answer = api.client.post("/v1/jobs", data={"image": (BytesIO(PNG), "a"), "request": json.dumps(request)})
    details = {fault["pointer"]: fault["detail"] for fault in told(answer)["errors"]}
    assert details == {
        "/prompts/0/box/3": "the list is too short",
        "/parameters/confidenceThreshold": "null is not of type 'number'",
    }


def test_the_query_of_an_image_is_told_of_in_the_same_way(api: Api) -> None:
    query = {"prompts": json.dumps([OUTSIDE]), "parameters": "{", "priority": "high", "metadata": "[1]"}
    answer = api.client.post("/v1/jobs", query_string=query, data=PNG, content_type="image/png")
    assert sorted(pointers(answer)) == ["/prompts/0/box", "metadata", "parameters", "priority"]


def nested(levels: int) -> str:
    return '{"a": ' + "[" * (levels - 1) + "1" + "]" * (levels - 1) + "}"


@pytest.mark.parametrize("field", ["metadata", "parameters"])
@pytest.mark.parametrize(
    "text",
    [nested(33), nested(199), '{"a": 1e400}', '{"a": [-1e400]}'],
    ids=["33 levels", "199 levels", "infinite", "in a list"],
)
def test_what_no_document_could_hold_is_refused(api: Api, field: str, text: str) -> None:
    answer = api.client.post("/v1/jobs", query_string={field: text}, data=PNG, content_type="image/png")
    assert pointers(answer) == [field]
    assert "32 arrays and objects" in answer.text or "too large" in answer.text
    body = f'{{"image": {{"url": "https://example.com/a.png"}}, "{field}": {text}}}'
    answer = api.client.post("/v1/jobs", data=body, content_type="application/json")
    assert answer.status_code == (422 if "199" not in text else 400)
    assert told(api.client.get("/v1/jobs"))["jobs"] == []


def test_a_job_with_deep_metadata_is_shown_and_listed(api: Api) -> None:
    query = {"metadata": nested(32)}
    made = api.client.post("/v1/jobs", query_string=query, data=PNG, content_type="image/png")
    assert made.status_code == 202, made.text
    assert told(api.client.get(f"/v1/jobs/{told(made)['id']}"))["metadata"] == json.loads(nested(32))
    assert len(told(api.client.get("/v1/jobs"))["jobs"]) == 1


@given(prompts=prompts, expires_in=st.sampled_from([60, 1, "x"]))
def test_what_is_right_is_kept(prompts: list[Any], expires_in: Any) -> None:
    kept, faults = salvage({"prompts": prompts, "expiresIn": expires_in}, SegmentationRequest)
    assert len(kept.prompts) == len(prompts)
    assert kept.expires_in == (60 if expires_in == 60 else None)
    told_of = {fault.pointer.split("/")[2] for fault in faults if fault.pointer.startswith("/prompts")}
    wrong = {str(i) for i, prompt in enumerate(prompts) if prompt not in (GOOD, OUTSIDE)}
    assert told_of == wrong
    assert all(kept.prompts[i].box for i in range(len(prompts)) if str(i) not in wrong)


@pytest.mark.parametrize("value", [1, "x", None, []])
def test_what_is_no_object_is_refused(value: Any) -> None:
    with pytest.raises(InvalidRequest):
        salvage(value, SegmentationRequest)
