"""The Roboflow protocol over the in-memory doubles: what becomes of each field, and what is refused."""

import base64
import hashlib
import json
import re
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image

from api.protocols.roboflow.fields import InferenceRequest, Keyed
from api.protocols.roboflow.grayscale import to_grayscale
from api.protocols.roboflow.npy import nested_json
from api.protocols.roboflow.sam import (
    Sam2SegmentationRequest,
    SamEmbeddingRequest,
    SamSegmentationRequest,
    _sam2_prediction,
)
from maskline.jobs import Failure, Job, Outcome
from maskline.requests import DetectionOptions, Output, PictureOptions, Subtask
from maskline.results import ModelCard
from maskline.run_lengths import RunLengthMask
from tests.factories import encoded, make_card, picture
from tests.unit.api.conftest import ADMIN_KEY, PNG, Api, MakeApi, told

BODY = base64.b64encode(PNG)
OTHER = base64.b64encode(encoded(picture(48, 64), "PNG"))
THRESHOLDS: Any = {"properties": {"confidenceThreshold": {}, "threshold": {}}}


def semantic_card() -> ModelCard:
    return make_card("mine/semantic").model_copy(update={"subtasks": (Subtask.SEMANTIC,)})


def panoptic_card() -> ModelCard:
    update = {"subtasks": (Subtask.PANOPTIC, Subtask.SEMANTIC), "parameters_schema": THRESHOLDS}
    return make_card("mine/panoptic").model_copy(update=update)


@pytest.fixture
def hasty(make_api: MakeApi) -> Api:
    """A service that waits for no job; its call's job can be looked at."""
    api = make_api(max_wait="0.01", max_image_bytes="200000")
    aliased = make_card().model_copy(update={"aliases": ("grabcut/1",)})
    api.services.models.publish("w", [aliased, semantic_card(), panoptic_card()], 60)
    return api


def job_of(api: Api, answer: Any) -> Job:
    assert answer.status_code == 408, answer.text
    [listed] = api.jobs.page("default", state=None, model=None, size=9, token=None).jobs
    assert listed.id in told(answer)["message"]
    return api.jobs.get("default", listed.id)


def sent(api: Api, query: str = "", model: str = "grabcut/1") -> Job:
    return job_of(api, api.client.post(f"/{model}?{query}", data=BODY))


@contextmanager
def at_most_allocated(most_bytes: int) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < most_bytes
    finally:
        tracemalloc.stop()


def test_defaults_are_roboflow_s(hasty: Api) -> None:
    request = sent(hasty).request
    assert (request.model, request.subtask, request.auto_orient) == ("grabcut", Subtask.INSTANCE, True)
    assert request.detections == DetectionOptions(min_score=0.4, max_overlap=0.3, most=300)
    assert request.outputs == (Output.CATEGORY_MASK, Output.CONFIDENCE_MASK, Output.DETECTIONS)
    assert request.parameters == {}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("confidence=40", {"min_score": 0.4}),
        ("confidence=0.001", {"min_score": 0.01}),
        ("confidence=best", {"min_score": 0.4}),
        ("overlap=55", {"max_overlap": 0.55}),
        ("max_detections=7", {"most": 7}),
        ("mask_decode_mode=fast", {"outline_detail": 0}),
        ("mask_decode_mode=tradeoff", {"outline_detail": 0}),
        ("mask_decode_mode=tradeoff&tradeoff_factor=0.3", {"outline_detail": 0.3}),
        ("mask_decode_mode=accurate&tradeoff_factor=0.3", {"outline_detail": 1}),
    ],
)
def test_what_chooses_the_predictions(hasty: Api, query: str, expected: dict[str, float]) -> None:
    detections = sent(hasty, query).request.detections
    assert detections is not None
    assert {name: getattr(detections, name) for name in expected} == expected


def test_the_picture_and_the_rest(hasty: Api) -> None:
    request = sent(
        hasty,
        "format=image&labels=True&stroke=4&disable_preproc_auto_orient=True&source=me&source_info=here"
        "&disable_preproc_contrast=true&disable_preproc_grayscale=1&disable_preproc_static_crop=False"
        "&disable_active_learning=False&active_learning_target_dataset=d&keypoint_confidence=0.2"
        "&image_type=base64&countinference=False&nobody_knows=1",
    ).request
    assert request.picture == PictureOptions(labels=True, stroke=4)
    assert Output.PICTURE in request.outputs
    assert request.auto_orient is False
    assert request.metadata == {"source": "me", "sourceInfo": "here"}


def test_models_are_asked_for_what_they_do(hasty: Api) -> None:
    request = sent(hasty, "confidence=0.2", "mine/panoptic").request
    assert (request.subtask, request.parameters) == (Subtask.PANOPTIC, {"threshold": 0.2})


def test_classes_of_pixels_have_a_confidence_each(hasty: Api) -> None:
    request = sent(hasty, "confidence=20&format=image_and_json", "mine/semantic").request
    assert request.subtask is Subtask.SEMANTIC
    assert request.parameters == {"confidenceThreshold": 0.2}
    assert request.outputs == (Output.CATEGORY_MASK, Output.CONFIDENCE_MASK, Output.PICTURE)


@pytest.mark.parametrize("method", ["POST", "GET"])
def test_an_image_by_its_url(hasty: Api, method: str) -> None:
    answer = hasty.client.open("/grabcut/1?image=http://example.com/a.jpg", method=method)
    assert job_of(hasty, answer).image.url == "http://example.com/a.jpg"


@pytest.mark.parametrize(
    ("query", "parameter", "right"),
    [
        ("confidence=200", "confidence", "a percentage up to 100"),
        ("confidence=-1", "confidence", "from 0 to 1"),
        ("confidence=nan", "confidence", "from 0 to 1"),
        ("confidence=much", "confidence", "words best and default"),
        ("overlap=x", "overlap", "from 0 to 1"),
        ("format=xml", "format", "'json', 'image' or 'image_and_json'"),
        ("image_type=numpy", "image_type", "pickle"),
        ("image=ftp://example.com", "image", "http or https"),
        ("mask_decode_mode=best", "mask_decode_mode", "'accurate', 'fast' or 'tradeoff'"),
        ("tradeoff_factor=2", "tradeoff_factor", "less than or equal to 1"),
        ("max_detections=0", "max_detections", "greater than or equal to 1"),
        ("stroke=0", "stroke", "greater than or equal to 1"),
        ("labels=perhaps", "labels", "valid boolean"),
    ],
)
def test_what_is_out_of_range(hasty: Api, query: str, parameter: str, right: str) -> None:
    answer = hasty.client.post(f"/grabcut/1?{query}", data=BODY)
    assert answer.status_code == 422, answer.text
    [fault] = told(answer)["detail"]
    assert fault["loc"] == ["query", parameter]
    assert right in fault["msg"]
    assert right in told(answer)["message"]


@pytest.mark.parametrize(
    ("body", "content_type", "status", "words"),
    [
        (b"", "application/json", 400, "there is no image"),
        (b" \n", "", 400, "there is no image"),
        (b"not base64!", "text/plain", 400, "not base64"),
        (PNG, "image/png", 400, "not base64"),
        (b"--x--", "multipart/form-data; boundary=x", 400, "needs a file part named 'file'; it has: none"),
        (base64.b64encode(b"hello"), "", 422, "no image that can be read"),
        (b"A" * 400_000, "", 413, "the image has 300000 bytes; at most 200000 are taken"),
        (b"A" * 1_400_000, "", 413, "larger than"),
    ],
)
def test_bad_images(hasty: Api, body: bytes, content_type: str, status: int, words: str) -> None:
    answer = hasty.client.post("/grabcut/1", data=body, content_type=content_type)
    assert (answer.status_code, answer.mimetype) == (status, "application/json")
    assert words in told(answer)["message"]
    assert hasty.jobs.queue_depth() == 0


def test_a_large_body_of_escapes_costs_no_more_than_its_size(hasty: Api) -> None:
    body = b"%41" * 400_000
    with at_most_allocated(8 * len(body)):
        answer = hasty.client.post("/grabcut/1", data=body)
    assert (answer.status_code, "not base64" in told(answer)["message"]) == (400, True)


@pytest.mark.parametrize("before", ["", "data:image/png;base64,"])
@pytest.mark.parametrize("written", [str.upper, str.lower])
def test_a_large_image_percent_encoded(hasty: Api, before: str, written: Callable[[str], str]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, 250, 3), np.uint8)
    image = encoded(noise, "PNG")
    text = base64.encodebytes(image).decode()
    body = re.sub("%..", lambda escape: written(escape[0]), quote(before + text, safe=""))
    job = job_of(hasty, hasty.client.post("/grabcut/1", data=body))
    assert job.image.sha256 == hashlib.sha256(image).hexdigest()


def test_an_image_as_a_json_string(hasty: Api) -> None:
    job = job_of(hasty, hasty.client.post("/grabcut/1", json=BODY.decode()))
    assert job.image.sha256 == hashlib.sha256(PNG).hexdigest()
    assert hasty.client.post("/grabcut/1", json="").status_code == 400


def test_a_get_needs_a_url(hasty: Api) -> None:
    answer = hasty.client.get("/grabcut/1")
    assert (answer.status_code, "'image'" in told(answer)["message"]) == (400, True)


def test_version_0_is_a_stub(hasty: Api) -> None:
    answer = hasty.client.post("/grabcut/0", data=BODY)
    assert told(answer) == {"is_stub": True, "model_id": "grabcut/0", "task_type": "instance-segmentation"}
    assert told(hasty.client.get("/mine/0"))["is_stub"] is True
    assert hasty.client.post("/none/0").status_code == 404


@pytest.mark.parametrize("place", ["query", "bearer", "header"])
def test_where_the_key_may_be(hasty: Api, place: str) -> None:
    query = f"?api_key={ADMIN_KEY}" if place == "query" else ""
    headers = {"Authorization": ""}
    if place == "bearer":
        headers = {"Authorization": f"bearer {ADMIN_KEY}"}
    if place == "header":
        headers |= {"X-API-Key": ADMIN_KEY}
    job_of(hasty, hasty.client.post(f"/grabcut/1{query}", data=BODY, headers=headers))


@pytest.mark.parametrize(
    "path", ["/grabcut/1", "/grabcut/1?api_key=wrong", "/infox/1", "/docsx/1", "/healthzz/1"]
)
def test_without_a_good_key_nothing_is_said(hasty: Api, path: str) -> None:
    answer = hasty.client.post(path, data=BODY, headers={"Authorization": ""})
    assert answer.status_code == 401
    assert set(told(answer)) == {"message"}


def test_keys_in_the_query_are_this_protocol_s_alone(hasty: Api) -> None:
    answer = hasty.client.get(f"/v1/jobs?api_key={ADMIN_KEY}", headers={"Authorization": ""})
    assert answer.status_code == 401


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1/models", 405),
        ("POST", "/v1/nothing", 404),
        ("GET", "/v1/nothing", 404),
        ("DELETE", "/v1/nothing", 404),
        ("POST", "/healthz/1", 404),
        ("POST", "/readyz/1", 404),
        ("POST", "/docs/1", 405),
    ],
)
def test_the_routes_of_others_are_theirs(hasty: Api, method: str, path: str, status: int) -> None:
    answer = hasty.client.open(path, method=method)
    assert (answer.status_code, answer.mimetype) == (status, "application/problem+json"), answer.text


def test_a_model_of_hugging_face_is_not_a_dataset(hasty: Api) -> None:
    assert set(told(hasty.client.post("/models/none"))) == {"error"}


def test_errors_of_routing_are_in_roboflow_s_form(hasty: Api) -> None:
    answer = hasty.client.delete("/grabcut/1")
    assert (answer.status_code, set(told(answer))) == (405, {"message"})
    assert told(hasty.client.post("/none/7", data=BODY)) == {
        "message": "there is no model 'none/7'; there are: grabcut, mine/panoptic, mine/semantic"
    }


def asked(**fields: Any) -> dict[str, Any]:
    return {"model_id": "grabcut/1", "image": {"type": "base64", "value": BODY.decode()}} | fields


def test_the_fields_of_v1(hasty: Api) -> None:
    body = asked(
        confidence=0.6,
        iou_threshold=0.5,
        max_detections=9,
        max_candidates=10,
        class_agnostic_nms=True,
        class_filter=["cup"],
        fix_batch_size=True,
        mask_decode_mode="tradeoff",
        tradeoff_factor=0.5,
        visualize_predictions=True,
        visualization_labels=True,
        visualization_stroke_width=5,
        disable_preproc_auto_orient=True,
        nobody_knows=1,
    )
    request = job_of(hasty, hasty.client.post("/infer/instance_segmentation", json=body)).request
    assert request.detections == DetectionOptions(
        min_score=0.6, max_overlap=0.5, most=9, across_categories=True, labels=("cup",), outline_detail=0.5
    )
    assert request.picture == PictureOptions(labels=True, stroke=5)
    assert not request.auto_orient


def test_null_is_as_left_out(hasty: Api) -> None:
    names = InferenceRequest.model_fields.keys() - {"model_id", "image"}
    request = job_of(
        hasty, hasty.client.post("/infer/instance_segmentation", json=asked(**dict.fromkeys(names)))
    ).request
    assert request.detections == DetectionOptions(min_score=0.4, max_overlap=0.3, most=300)


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/sam/embed_image", SamEmbeddingRequest),
        ("/sam/segment_image", SamSegmentationRequest),
        ("/sam2/segment_image", Sam2SegmentationRequest),
    ],
)
def test_null_is_as_left_out_of_sam_too(hasty: Api, path: str, model: type[Keyed]) -> None:
    nulls = dict.fromkeys(model.model_fields)
    points = {"point_coords": [[5, 6]], "point_labels": [1]} if path == "/sam/segment_image" else {}
    answer = hasty.client.post(path, json=nulls | points | {"image": {"value": BODY.decode()}})
    assert (answer.status_code, "the model 'sam" in told(answer)["message"]) == (404, True)


def test_where_a_request_comes_from_fits_into_the_metadata(hasty: Api) -> None:
    origin = "\N{GRINNING FACE}" * 160
    answer = hasty.client.post("/infer/object_detection", json=asked(source=origin, source_info=origin))
    assert job_of(hasty, answer).request.metadata == {"source": origin, "sourceInfo": origin}


def test_the_key_in_the_body(hasty: Api) -> None:
    answer = hasty.client.post(
        "/infer/instance_segmentation", json=asked(api_key=ADMIN_KEY), headers={"Authorization": ""}
    )
    job_of(hasty, answer)
    for key in ("wrong", 7, None):
        answer = hasty.client.post(
            "/infer/instance_segmentation", json=asked(api_key=key), headers={"Authorization": ""}
        )
        assert (answer.status_code, set(told(answer))) == (401, {"message"})


def test_a_body_without_a_key_is_not_parsed(hasty: Api) -> None:
    body = b'{"a": [' + b"[]," * 400_000 + b"[]]}"
    with at_most_allocated(8 * len(body)):
        answer = hasty.client.post("/infer/object_detection", data=body, headers={"Authorization": ""})
    assert answer.status_code == 401


@pytest.mark.parametrize("key", [ADMIN_KEY, ""])
def test_bodies_without_an_image_are_short(hasty: Api, key: str) -> None:
    body = {"api_key": key, "model_id": "grabcut/1", "nobody_knows": "x" * (1 << 16)}
    answer = hasty.client.post("/model/add", json=body, headers={"Authorization": ""})
    assert (answer.status_code, "larger than the 65536 bytes" in told(answer)["message"]) == (413, True)
    del body["nobody_knows"]
    answer = hasty.client.post("/model/add", json=body, headers={"Authorization": ""})
    assert answer.status_code == (200 if key else 401)


def test_an_image_of_v1_by_its_url(hasty: Api) -> None:
    body = asked(image={"type": "url", "value": "https://example.com/a.jpg"})
    answer = hasty.client.post("/infer/object_detection", json=body)
    assert job_of(hasty, answer).image.url == "https://example.com/a.jpg"


@pytest.mark.parametrize(
    ("fields", "place", "words"),
    [
        ({"model_id": ""}, ["model_id"], "at least 1 character"),
        ({"model_id": None}, ["model_id"], "required"),
        ({"image": None}, ["image"], "required"),
        ({"image": []}, ["image"], "at least 1 item"),
        ({"image": [{"value": ""}] * 65}, ["image"], "at most 64 items"),
        ({"class_filter": ["cup"] * 1025}, ["class_filter"], "at most 1024 items"),
        ({"source": "x" * 161}, ["source"], "at most 160 characters"),
        ({"image": {"type": "numpy", "value": "x"}}, ["image", "type"], "pickle"),
        ({"image": [{"value": 7}]}, ["image", "0", "value"], "string"),
        ({"confidence": 2000}, ["confidence"], "from 0 to 1"),
        ({"confidence": 10**400}, ["confidence"], "from 0 to 1"),
        ({"confidence": ["best"]}, ["confidence"], "from 0 to 1"),
        ({"tradeoff_factor": "nan"}, ["tradeoff_factor"], "or equal to"),
        ({"iou_threshold": -1}, ["iou_threshold"], "greater than or equal to 0"),
        ({"class_filter": [""]}, ["class_filter", "0"], "at least 1 character"),
        ({"visualization_stroke_width": 1000}, ["visualization_stroke_width"], "less than or equal to 100"),
        ({"response_mask_format": "png"}, ["response_mask_format"], "'polygon' or 'rle'"),
        ({"model_id": "mine/semantic"}, ["model_id"], "mine/semantic does not do instance-segmentation; it"),
    ],
)
def test_faults_of_v1(hasty: Api, fields: dict[str, Any], place: list[str], words: str) -> None:
    answer = hasty.client.post("/infer/instance_segmentation", json=asked(**fields))
    assert answer.status_code == 422, answer.text
    [fault] = told(answer)["detail"]
    assert fault["loc"] == ["body", *place]
    assert words in fault["msg"]


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"{", 400, "not JSON"),
        (b"", 422, "required"),
        (b"[]", 422, "give a JSON object"),
        (b'{"model_id": "none", "image": {"value": ""}}', 404, "there is no model 'none'"),
        (b'{"model_id": "grabcut", "image": {"value": "!"}}', 400, "not base64"),
        (b'{"model_id": "grabcut", "image": {"type": "url", "value": "x"}}', 400, "http or https"),
        (b'{"model_id": "grabcut", "image": {"value": ""}}', 422, "the image is empty"),
        (b"A" * 1_400_000, 413, "larger than"),
    ],
)
def test_bad_bodies_of_v1(hasty: Api, body: bytes, status: int, words: str) -> None:
    answer = hasty.client.post("/infer/instance_segmentation", data=body)
    assert (answer.status_code, words in told(answer)["message"]) == (status, True), answer.text
    without_key = hasty.client.post("/infer/instance_segmentation", data=body, headers={"Authorization": ""})
    assert without_key.status_code == (413 if status == 413 else 401)


@pytest.mark.parametrize("path", ["/infer/classification", "/clip/embed_text", "/sam3/concept_segment"])
def test_other_kinds_of_models_are_refused_with_what_there_is(hasty: Api, path: str) -> None:
    answer = hasty.client.post(path, json={})
    assert answer.status_code == 400
    assert "/infer/instance_segmentation" in told(answer)["message"]


def test_the_registry(hasty: Api) -> None:
    listed = {
        one["model_id"]: one["task_type"] for one in told(hasty.client.get("/model/registry"))["models"]
    }
    assert listed == {
        "grabcut": "instance-segmentation",
        "grabcut/1": "instance-segmentation",
        "mine/panoptic": "instance-segmentation",
        "mine/semantic": "semantic-segmentation",
    }
    assert hasty.client.post("/model/add", json={"model_id": "none"}).status_code == 404
    assert hasty.client.post("/model/remove", json={}).status_code == 422
    assert hasty.client.get("/model/registry?api_key=None", headers={"Authorization": ""}).status_code == 401
    assert hasty.client.get("/info", headers={"Authorization": ""}).status_code == 200


def test_arrays_without_numpy() -> None:
    array = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    out = BytesIO()
    np.save(out, array)
    read = json.loads("".join(nested_json(out.getvalue())))
    assert np.array_equal(np.array(read, np.float32), array)
    out = BytesIO()
    np.save(out, array.astype(np.float64))
    with pytest.raises(ValueError, match="<f8"):
        list(nested_json(out.getvalue()))


def test_points_and_boxes_of_sam(hasty: Api) -> None:
    hasty.services.models.publish("v", [make_card("s").model_copy(update={"aliases": ("sam/vit_h",)})], 60)
    body = {
        "image": {"value": BODY.decode()},
        "point_coords": [[5, 6], [7, 8], [1, 2], [30, 40], [9, 9], [0, 0]],
        "point_labels": [1, 0, 2, 3, -1, -1],
    }
    [prompt] = job_of(hasty, hasty.client.post("/sam/segment_image", json=body)).request.prompts
    assert prompt.box == (1, 2, 30, 40)
    assert prompt.labelled_points == ((5, 6, 1), (7, 8, 0), (9, 9, 0))


@pytest.mark.parametrize("label", [1.5, 4, -2, "nan", 10**400, None])
def test_labels_that_sam_s_points_do_not_have(hasty: Api, label: Any) -> None:
    hasty.services.models.publish("v", [make_card("s").model_copy(update={"aliases": ("sam/vit_h",)})], 60)
    body = {"image": {"value": BODY.decode()}, "point_coords": [[5, 6]], "point_labels": [label]}
    answer = hasty.client.post("/sam/segment_image", json=body)
    assert answer.status_code == 422, answer.text
    [fault] = told(answer)["detail"]
    assert fault["loc"] == ["body", "point_labels", "0"]


def test_an_image_is_known_by_its_id(hasty: Api) -> None:
    hasty.services.models.publish("v", [make_card("s").model_copy(update={"aliases": ("sam/vit_h",)})], 60)
    points = {"image_id": "mine", "point_coords": [[5, 6]], "point_labels": [1]}
    first = job_of(
        hasty, hasty.client.post("/sam/segment_image", json=points | {"image": {"value": BODY.decode()}})
    )
    assert hasty.client.post("/sam/segment_image", json=points).status_code == 408
    jobs = hasty.jobs.page("default", state=None, model=None, size=9, token=None).jobs
    assert [job.image.sha256 for job in jobs] == [first.image.sha256] * 2
    for job in jobs:
        hasty.jobs.delete("default", job.id)
    assert hasty.client.post("/sam/segment_image", json=points).status_code == 422
    again = hasty.client.post("/sam/segment_image", json=points | {"image": {"value": BODY.decode()}})
    job_of(hasty, again)


@pytest.fixture
def sam(hasty: Api) -> Api:
    """The service with a model for SAM's routes, and one that takes no prompts."""
    named = make_card("s").model_copy(update={"aliases": ("sam/vit_h", "sam2/hiera_large")})
    without = {"aliases": ("sam/none", "sam2/none"), "prompt_kinds": ()}
    hasty.services.models.publish("v", [named, make_card("n").model_copy(update=without)], 60)
    return hasty


FAR = {"x": 9999, "y": 1, "positive": True}


@pytest.mark.parametrize(
    ("path", "fields", "place"),
    [
        (
            "sam/segment_image",
            {
                "point_coords": [[0, 0], [5, 6], [1, 2], [30, 40], [9999, 1]],
                "point_labels": [-1, 1, 2, 3, 1],
            },
            ["point_coords", "4"],
        ),
        (
            "sam/segment_image",
            {"point_coords": [[1, 2], [9999, 40]], "point_labels": [2, 3]},
            ["point_coords"],
        ),
        (
            "sam/segment_image",
            {"point_coords": [[1, 2]], "point_labels": [1], "sam_version_id": "none"},
            ["sam_version_id"],
        ),
        ("sam/embed_image", {}, ["sam_version_id"]),
        (
            "sam2/segment_image",
            {"prompts": {"prompts": [{"points": [FAR]}]}},
            ["prompts", "prompts", "0", "points", "0"],
        ),
        (
            "sam2/segment_image",
            {"prompts": {"prompts": [{"points": [FAR]}]}, "sam2_version_id": "none"},
            ["prompts", "prompts"],
        ),
    ],
)
def test_faults_are_told_where_the_client_wrote(
    sam: Api, path: str, fields: dict[str, Any], place: list[str]
) -> None:
    answer = sam.client.post(f"/{path}", json=fields | {"image": {"value": BODY.decode()}})
    assert answer.status_code == 422, answer.text
    assert ["body", *place] in [fault["loc"] for fault in told(answer)["detail"]]
    assert {fault["loc"][1] for fault in told(answer)["detail"]} == {place[0]}


def test_a_model_that_needs_prompts_is_the_wrong_one(hasty: Api) -> None:
    needs = make_card("p").model_copy(update={"automatic": False, "aliases": ("p/1",)})
    hasty.services.models.publish("v", [needs], 60)
    for answer in (
        hasty.client.post("/p/1", data=BODY),
        hasty.client.post("/infer/instance_segmentation", json=asked(model_id="p")),
    ):
        assert [fault["loc"] for fault in told(answer)["detail"]] == [["body", "model_id"]]


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (4, 4), (64, 96), (1 << 15, 1 << 15)])
def test_an_empty_mask_is_one_of_coco_s(size: tuple[int, int]) -> None:
    mask = _sam2_prediction(None, "rle", size).masks
    assert isinstance(mask, RunLengthMask)
    assert (mask.size, mask.run_lengths()) == (size, [size[0] * size[1]])


@pytest.mark.parametrize("end", ["deleted", "failed"])
def test_a_name_whose_job_is_gone_can_be_given_again(hasty: Api, end: str) -> None:
    hasty.services.models.publish("v", [make_card("s").model_copy(update={"aliases": ("sam/vit_h",)})], 60)
    points = {"image_id": "mine", "point_coords": [[5, 6]], "point_labels": [1]}
    with_image = points | {"image": {"value": BODY.decode()}}
    first = job_of(hasty, hasty.client.post("/sam/segment_image", json=with_image))
    if end == "deleted":
        hasty.jobs.delete("default", first.id)
    else:
        claimed = hasty.jobs.claim(first.kind, "w", 60)
        assert claimed is not None
        hasty.jobs.finish(
            first.id, claimed.attempt, Outcome(failure=Failure(code="image_unreadable", message="no"))
        )
    answer = hasty.client.post("/sam/segment_image", json=points)
    assert (answer.status_code, "neither failed nor was deleted" in told(answer)["message"]) == (422, True)
    assert hasty.client.post("/sam/segment_image", json=with_image).status_code == 408
    assert hasty.client.post("/sam/segment_image", json=points).status_code == 408


@pytest.mark.parametrize(
    "other", [{"value": OTHER.decode()}, {"type": "url", "value": "http://example.com/"}]
)
def test_a_name_stands_for_the_image_that_was_sent_last(hasty: Api, other: dict[str, str]) -> None:
    hasty.services.models.publish("v", [make_card("s").model_copy(update={"aliases": ("sam/vit_h",)})], 60)
    points = {"image_id": "mine", "point_coords": [[5, 6]], "point_labels": [1]}
    for body in (points | {"image": {"value": BODY.decode()}}, points | {"image": other}, points):
        assert hasty.client.post("/sam/segment_image", json=body).status_code == 408
    *again, first = hasty.jobs.page("default", state=None, model=None, size=9, token=None).jobs
    assert len({(job.image.sha256, job.image.url) for job in again}) == 1
    assert again[0].image.sha256 != first.image.sha256


def test_names_of_images_are_no_idempotency_keys(hasty: Api) -> None:
    hasty.services.models.publish("v", [make_card("s").model_copy(update={"aliases": ("sam/vit_h",)})], 60)
    headers = {"Idempotency-Key": "sam image two"}
    send = {"data": PNG, "content_type": "image/png", "headers": headers}
    native = told(hasty.client.post("/v1/jobs", **send))["id"]
    points = {"image_id": "two", "point_coords": [[5, 6]], "point_labels": [1]}
    with_image = points | {"image": {"value": BODY.decode()}}
    assert hasty.client.post("/sam/segment_image", json=points).status_code == 422
    assert hasty.client.post("/sam/segment_image", json=with_image).status_code == 408
    assert told(hasty.client.post("/v1/jobs", **send))["id"] == native


def test_first_calls_at_once_with_one_id_get_results_of_their_own(
    hasty: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasty.services.models.publish("v", [make_card("s").model_copy(update={"aliases": ("sam/vit_h",)})], 60)
    monkeypatch.setattr(hasty.jobs, "recall", lambda tenant, idempotency: None)
    for x in (5, 6):
        body = {"image_id": "mine", "point_coords": [[x, 6]], "point_labels": [1]}
        hasty.client.post("/sam/segment_image", json=body | {"image": {"value": BODY.decode()}})
    jobs = hasty.jobs.page("default", state=None, model=None, size=9, token=None).jobs
    assert {job.request.prompts[0].points for job in jobs} == {((5, 6),), ((6, 6),)}


def test_an_image_whose_bytes_are_gone_must_be_sent_again(hasty: Api) -> None:
    hasty.services.models.publish("v", [make_card("s").model_copy(update={"aliases": ("sam/vit_h",)})], 60)
    points = {"image_id": "mine", "point_coords": [[5, 6]], "point_labels": [1]}
    sent_again = points | {"image": {"value": BODY.decode()}}
    first = job_of(hasty, hasty.client.post("/sam/segment_image", json=sent_again))
    assert first.image.key is not None
    hasty.services.artifacts.delete([first.image.key])
    assert hasty.client.post("/sam/segment_image", json=points).status_code == 422
    assert hasty.client.post("/sam/segment_image", json=sent_again).status_code == 408


def test_one_bad_image_of_several_and_none_is_accepted(hasty: Api) -> None:
    hasty.services.models.publish(
        "v", [make_card("s").model_copy(update={"aliases": ("sam2/hiera_large",)})], 60
    )
    images = [{"value": BODY.decode()}, {"value": base64.b64encode(b"no image").decode()}]
    for path, fields in (("/infer/instance_segmentation", asked()), ("/sam2/segment_image", {})):
        answer = hasty.client.post(path, json=fields | {"image": images})
        assert answer.status_code == 422, answer.text
    assert hasty.jobs.queue_depth() == 0


def test_a_palette_is_taken_away_and_nothing_else() -> None:
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    image = Image.frombytes("P", (16, 16), values.tobytes())
    image.putpalette([value for i in range(256) for value in (i, 0, 255 - i)])
    out = BytesIO()
    image.save(out, "PNG")
    gray = Image.open(BytesIO(to_grayscale(out.getvalue())))
    assert gray.mode == "L"
    assert np.array_equal(np.asarray(gray), values)
    assert to_grayscale(to_grayscale(out.getvalue())) == to_grayscale(out.getvalue())
