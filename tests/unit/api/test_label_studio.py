"""The Label Studio protocol over the in-memory doubles: what is hard to bring about with real workers."""

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import numpy as np
import pytest
from label_studio_sdk.converter import brush
from pycocotools import mask as coco
from werkzeug.test import TestResponse

from api.protocols.label_studio.label_config import find_control
from maskline.artifacts import Artifact, result_key
from maskline.errors import InvalidRequest
from maskline.jobs import Failure, Job, Outcome
from maskline.keys import Scope
from maskline.requests import Output, Priority
from maskline.results import AnnotationSpec, Detection, DetectionList, Segment, SegmentList
from maskline.run_lengths import RunLengthMask
from tests.factories import make_card
from tests.unit.api.conftest import ADMIN_KEY, PNG, Api, MakeApi, told
from tests.unit.api.test_keys import make

LABELS = '<Label value="Cat"/><View><Label value="dog" alias="a dog"/></View>'
CONTROLS = {
    "brush": f'<BrushLabels name="tag" toName="picture">{LABELS}</BrushLabels>',
    "polygon": f'<PolygonLabels name="poly" toName="picture">{LABELS}</PolygonLabels>',
    "rectangle": f'<RectangleLabels name="box" toName="picture" smart="true">{LABELS}</RectangleLabels>',
}
DATA_URL = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"


def config(*controls: str) -> str:
    inner = "".join(CONTROLS[name] for name in controls)
    return f'<View><Image name="picture" value="$image"/>{inner}</View>'


def square(number: int, label: str, score: float) -> Segment:
    """The left 48 columns of 96 x 64 pixels."""
    mask = np.zeros((64, 96), np.uint8, order="F")
    mask[:, :48] = 1
    counts = coco.encode(mask)["counts"].decode()
    return Segment(
        id=number,
        label=label,
        category_id=number,
        score=score,
        bbox=(0, 0, 48, 64),
        area=64 * 48,
        segmentation=RunLengthMask(size=(64, 96), counts=counts),
    )


SEGMENTS = [square(1, "CAT", 0.75), square(2, "Dog", 0.25), square(3, "bird", 0.5)]


@pytest.fixture
def busy(api: Api, monkeypatch: pytest.MonkeyPatch) -> Api:
    """The API with a worker that ends each job as soon as it is created."""
    answer_all_jobs(api, monkeypatch)
    return api


def answer_all_jobs(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    create = api.jobs.create

    def create_and_finish(job: Job, *rest: Any) -> Job:
        created = create(job, *rest)
        detections = [
            Detection(**dict(one), polygons=(((0, 0), (47, 0), (47, 63), (0, 63)),)) for one in SEGMENTS
        ]
        api.finish(created.id, SegmentList(width=96, height=64, segments=tuple(SEGMENTS)))
        found = DetectionList(width=96, height=64, detections=tuple(detections)).to_json().encode()
        api.artifacts.put(result_key(created.id, 1, Artifact.DETECTIONS), found, "application/json")
        return created

    monkeypatch.setattr(api.jobs, "create", create_and_finish)


def task(number: int = 1, image: Any = DATA_URL) -> dict[str, Any]:
    return {"id": number, "data": {"image": image}, "annotations": [], "project": 1}


def predict(
    api: Api, *tasks: dict[str, Any], label_config: str = config("brush"), path: str = "", **context: Any
) -> TestResponse:
    body = {
        "tasks": tasks or [task()],
        "project": "1.1700000000",
        "label_config": label_config,
        "params": {"login": None, "password": None, "context": context or None},
    }
    return api.client.post(f"/label-studio{path}/predict", json=body)


def drawn(type_: str = "rectanglelabels", label: str = "Cat", **more: Any) -> dict[str, Any]:
    value = {"x": 25, "y": 50, "width": 50, "height": 25, "rotation": 0, type_: [label]}
    value.update(more.pop("value", {}))
    return {
        "original_width": 96,
        "original_height": 64,
        "image_rotation": 0,
        "value": value,
        "id": "r1",
        "from_name": "box",
        "to_name": "picture",
        "type": type_,
        "origin": "manual",
        **more,
    }


def newest(api: Api) -> Job:
    return api.jobs.page("default", state=None, model=None, size=1, token=None).jobs[0]


def count(api: Api) -> int:
    return len(api.jobs.page("default", state=None, model=None, size=100, token=None).jobs)


def test_masks_are_of_the_labels_that_the_configuration_has(busy: Api) -> None:
    answer = told(predict(busy))
    [prediction] = answer["results"]
    assert prediction["model_version"] == answer["model_version"] == "grabcut"
    assert prediction["score"] == pytest.approx(0.5)
    cat, dog = prediction["result"]
    assert (cat["value"]["brushlabels"], dog["value"]["brushlabels"]) == (["Cat"], ["a dog"])
    assert cat["id"] != dog["id"]
    assert {name: cat[name] for name in ("type", "from_name", "to_name", "score", "image_rotation")} == {
        "type": "brushlabels",
        "from_name": "tag",
        "to_name": "picture",
        "score": 0.75,
        "image_rotation": 0,
    }
    assert (cat["original_width"], cat["original_height"], cat["value"]["format"]) == (96, 64, "rle")
    alpha = brush.decode_rle(cat["value"]["rle"]).reshape(64, 96, 4)[..., 3]
    assert (alpha[:, :48] == 255).all()
    assert not alpha[:, 48:].any()
    assert newest(busy).request.outputs == (Output.SEGMENTS,)


def test_polygons_where_there_is_no_brush(busy: Api) -> None:
    [prediction] = told(predict(busy, label_config=config("rectangle", "polygon")))["results"]
    region = prediction["result"][0]
    assert (region["type"], region["from_name"]) == ("polygonlabels", "poly")
    assert region["value"]["polygonlabels"] == ["Cat"]
    assert region["value"]["points"][2] == pytest.approx([47.5 / 0.96, 63.5 / 0.64])


def test_boxes_where_there_is_nothing_else(busy: Api) -> None:
    [prediction] = told(predict(busy, label_config=config("rectangle")))["results"]
    value = prediction["result"][0]["value"]
    assert value == {"x": 0, "y": 0, "width": 50, "height": 100, "rotation": 0, "rectanglelabels": ["Cat"]}


def test_a_model_without_categories_gives_everything_the_only_label(busy: Api) -> None:
    only = config("brush").replace(LABELS, '<Label value="Thing"/>')
    [prediction] = told(predict(busy, label_config=only))["results"]
    assert [one["value"]["brushlabels"] for one in prediction["result"]] == [["Thing"]] * 3
    spec = AnnotationSpec(id=1, display_name="cat", color="#ffffff")
    card = make_card().model_copy(update={"annotation_specs": (spec,)})
    busy.services.models.publish("w", [card], 60)
    busy.services.cards.__dict__["_read_at"] = 0
    [prediction] = told(predict(busy, label_config=only))["results"]
    assert (prediction["result"], prediction["score"]) == ([], 0)


def test_what_was_drawn_becomes_prompts(busy: Api) -> None:
    point = drawn("keypointlabels", value={"x": 50, "y": 100.0000001}, is_positive=False)
    unnamed = drawn("keypoint", value={"keypoint": [], "labels": ["DOG"]})
    other = [unnamed, drawn(value={"x": 60, "width": 50})]
    answer = predict(busy, result=[drawn(), point])
    assert answer.status_code == 200, answer.text
    [prompt] = newest(busy).request.prompts
    assert (prompt.label, prompt.box) == ("Cat", (24, 32, 72, 48))
    assert prompt.labelled_points == ((48, 64, 0),)
    assert predict(busy, result=[drawn(), *other]).status_code == 200
    first, second, third = newest(busy).request.prompts
    assert second.box == pytest.approx((57.6, 32, 96, 48))
    assert (first.label, second.label, third.label) == ("Cat", "Cat", "a dog")
    assert third.labelled_points == ((24, 32, 1),)


@pytest.mark.parametrize(
    ("region", "words"),
    [
        (drawn("brushlabels"), "draw a rectangle"),
        (drawn(label="bird"), "none of 'tag', which has Cat, a dog"),
        (drawn(image_rotation=90), "rotated"),
        (drawn(value={"rotation": 3.5}), "rotated"),
        (drawn(value={"width": None}), "width and height"),
        (drawn(value={"width": 0}), "no area"),
        (drawn("keypointlabels", is_positive=False), "beside the object"),
        (drawn(original_width=0), "greater than"),
    ],
)
def test_what_can_t_be_a_prompt_is_told(busy: Api, region: dict[str, Any], words: str) -> None:
    answer = predict(busy, result=[region])
    assert (answer.status_code, count(busy)) == (422, 0)
    assert words in told(answer)["detail"]
    assert "/params/context/result" in told(answer)["detail"]


def test_a_model_without_prompts_says_so(busy: Api) -> None:
    busy.services.models.publish("v", [make_card("net").model_copy(update={"prompt_kinds": ()})], 60)
    answer = predict(busy, path="/net", result=[drawn()])
    assert answer.status_code == 422
    assert told(answer)["detail"].startswith("/params/context/result: net takes no prompts")


def test_a_drawing_is_of_one_task(busy: Api) -> None:
    answer = predict(busy, task(1), task(2), result=[drawn()])
    assert (answer.status_code, count(busy)) == (422, 0)


def test_a_task_that_fails_stops_no_other(busy: Api) -> None:
    tasks = [
        task(1, "data:image/png;base64,AAAA"),
        task(2),
        {"id": 3, "data": {}},
        task(4, "ftp://x/y.png"),
        task(5, "s3://private/y.png"),
        task(6, "/data/upload/1/x.png"),
        task(7, "data:,?"),
        task(8, ["x"]),
        task(9, "http://a b"),
    ]
    answer = predict(busy, *tasks)
    assert answer.status_code == 200
    broken, good, *rest = told(answer)["results"]
    assert broken["code"] == "image_unreadable" or "image" in broken["error"]
    assert [one["value"]["brushlabels"] for one in good["result"]] == [["Cat"], ["a dog"]]
    assert "result" not in broken
    words = ("no image", "data URL", "not open", "MASKLINE_LABEL_STUDIOS", "base64", "no image", "URL")
    for one, part in zip(rest, words, strict=True):
        assert part in one["error"]
    assert newest(busy).request.priority is Priority.BULK


def test_an_annotator_is_told_what_failed(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    create = api.jobs.create

    def create_and_fail(job: Job, *rest: Any) -> Job:
        created = create(job, *rest)
        claimed = api.jobs.claim(created.kind, "w", 60)
        assert claimed is not None
        failure = Failure(code="image_unreadable", message="cut off")
        assert api.jobs.finish(created.id, claimed.attempt, Outcome(failure=failure))
        return created

    monkeypatch.setattr(api.jobs, "create", create_and_fail)
    answer = predict(api, result=[drawn()])
    assert (answer.status_code, told(answer)) == (
        422,
        {"status": 422, "detail": "cut off", "code": "image_unreadable"},
    )
    [failed] = told(predict(api))["results"]
    assert failed == {"error": "cut off", "code": "image_unreadable"}


def test_tasks_that_there_is_no_time_for_are_for_the_next_call(make_api: MakeApi) -> None:
    api = make_api(max_wait="0.05")
    answer = predict(api, *(task(number) for number in range(40)))
    codes = {one["code"] for one in told(answer)["results"]}
    assert (answer.status_code, codes, len(told(answer)["results"])) == (200, {"wait_over"}, 40)
    assert count(api) == 32


def test_results_are_found_again(busy: Api) -> None:
    first = told(predict(busy))
    assert told(predict(busy)) == first
    assert count(busy) == 1


def test_addresses_that_workers_fetch(make_api: MakeApi) -> None:
    api = make_api(import_buckets="open", max_wait="0.01")
    api.artifacts.put("a/b.png", PNG, "image/png", bucket="open")
    for address in ("https://example.com/a.png", "s3://open/a/b.png", "gs://open/a/b.png"):
        assert told(predict(api, task(1, address)))["results"][0]["code"] == "wait_over"
        image = newest(api).image
        assert (image.url or image.uri) == address


class LabelStudioFiles(BaseHTTPRequestHandler):
    """Gives the image to those with the token."""

    seen: ClassVar[list[tuple[str, str | None]]] = []

    def do_GET(self) -> None:
        self.seen.append((self.path, self.headers["Authorization"]))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(PNG)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def studio() -> Iterator[str]:
    LabelStudioFiles.seen.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), LabelStudioFiles)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_files_of_label_studio_are_fetched_with_the_tenant_s_token(
    make_api: MakeApi, studio: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = make_api(label_studios=json.dumps({"default": {"url": studio, "token": "t0ken"}}))
    answer_all_jobs(api, monkeypatch)
    fetched = [
        "/data/upload/1/a.png",
        "/data/local-files/?d=a/b.png",
        f"{studio}/data/upload/1/a.png",
        "gs://theirs/a.png",
    ]
    for address in fetched:
        assert "result" in told(predict(api, task(7, address)))["results"][0], address
    uri = base64.b64encode(b"gs://theirs/a.png").decode()
    assert LabelStudioFiles.seen == [
        ("/data/upload/1/a.png", "Token t0ken"),
        ("/data/local-files/?d=a/b.png", "Token t0ken"),
        ("/data/upload/1/a.png", "Token t0ken"),
        (f"/tasks/7/presign/?fileuri={uri.replace('=', '%3D')}", "Token t0ken"),
    ]
    refused = ["/api/users", "/data/upload/../../api/users", "//evil.example/data/upload/x"]
    for address in refused:
        [failed] = told(predict(api, task(7, address)))["results"]
        assert failed["code"] == "invalid_request", address
    api.client.environ_base["HTTP_AUTHORIZATION"] = make(api, *Scope, tenant="other")["Authorization"]
    [failed] = told(predict(api, task(7, "/data/upload/1/a.png")))["results"]
    assert failed["code"] == "image_unreachable"
    assert len(LabelStudioFiles.seen) == len(fetched)


def test_the_token_is_kept_out_of_logs(make_api: MakeApi) -> None:
    setting = json.dumps({"default": {"url": "http://ls:8080", "token": "t0ken"}})
    settings = make_api(label_studios=setting).services.settings
    assert "t0ken" in settings.secrets()
    assert "t0ken" not in repr(settings)


@pytest.mark.parametrize("password", [ADMIN_KEY, "wrong", ""])
def test_the_password_is_the_key(api: Api, password: str) -> None:
    basic = base64.b64encode(f"anybody:{password}".encode()).decode()
    headers = {"Authorization": f"Basic {basic}"}
    is_right = password == ADMIN_KEY
    assert api.client.get("/label-studio/health", headers=headers).status_code == (200 if is_right else 401)
    assert api.client.get("/v1/models", headers=headers).status_code == 401


def test_health_is_that_of_the_model(api: Api) -> None:
    assert told(api.client.get("/label-studio/health")) == {"status": "UP", "model_class": "grabcut"}
    api.services.models.publish("v", [make_card("org/net")], 60)
    assert told(api.client.get("/label-studio/org/net/health"))["model_class"] == "org/net"
    api.services.models.withdraw("v")
    answer = api.client.get("/label-studio/org/net/health")
    assert (answer.status_code, told(answer)["code"]) == (503, "model_not_ready")
    answer = api.client.get("/label-studio/none/health")
    assert (answer.status_code, told(answer)["code"]) == (404, "model_not_found")


def set_up(api: Api, **more: Any) -> TestResponse:
    body = {
        "project": "1.1700000000",
        "schema": config("brush"),
        "hostname": "http://localhost:8080",
        "access_token": "abc",
        "extra_params": None,
    }
    return api.client.post("/label-studio/setup", json=body | more)


def test_set_up_tells_the_version_that_predictions_have(api: Api) -> None:
    api.services.models.publish("w", [make_card().model_copy(update={"revision": "abc"})], 60)
    assert told(set_up(api)) == {"model_version": "grabcut abc"}
    assert told(api.client.get("/label-studio/versions")) == {"versions": ["grabcut abc"]}


def test_set_up_refuses_what_predictions_would_not_heed(api: Api) -> None:
    answer = set_up(api, extra_params={"model": "sam_vit_b"})
    assert answer.status_code == 422
    assert "/label-studio/grabcut" in told(answer)["detail"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no labelling configuration"),
        ("<View>", "no labelling configuration"),
        ('<!DOCTYPE x [<!ENTITY a "b">]><View>&a;</View>', "no labelling configuration"),
        ("<View/>", "BrushLabels, PolygonLabels or RectangleLabels"),
        (config("brush").replace("<Image", "<Text"), "toName is an Image"),
        (config("brush").replace("$image", "http://x/y.png"), '"$image"'),
        (config("brush").replace(LABELS, ""), "no Label"),
        (config("brush") + " " * (1 << 20), "characters"),
        (config("brush").replace("Cat", "\x00"), "no labelling configuration"),
    ],
)
def test_configurations_that_nothing_can_be_made_of(api: Api, text: str, words: str) -> None:
    answer = set_up(api, schema=text)
    assert (answer.status_code, words in told(answer)["detail"]) == (422, True), answer.text
    assert told(predict(api, label_config=text))["detail"].startswith("/label_config: ")


def test_names_are_found_in_any_case_and_the_first_keeps_its_name() -> None:
    labels = '<label value="A" alias="b"/><Label value="B"/><Label value="Straße"/>'
    control = find_control(config("brush").replace(LABELS, labels), "")
    names = ("a", "b", "STRASSE", "c")
    assert [control.label_of(name) for name in names] == ["b", "b", "Straße", None]
    with pytest.raises(InvalidRequest):
        find_control("<View/>", "")


def test_events_need_no_key_and_change_nothing(api: Api) -> None:
    api.client.environ_base.pop("HTTP_AUTHORIZATION")
    made = api.client.post("/label-studio/webhook", json={"action": "ANNOTATION_CREATED", "task": {}})
    assert (made.status_code, told(made)) == (200, {})
    trains = api.client.post("/label-studio/grabcut/webhook", json={"action": "START_TRAINING"})
    assert (trains.status_code, "does not train" in told(trains)["detail"]) == (400, True)


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"tasks": 1}', b'{"tasks": [{"data": []}]}'])
def test_bodies_that_are_none(api: Api, body: bytes) -> None:
    for route in ("setup", "predict", "webhook"):
        answer = api.client.post(f"/label-studio/{route}", data=body)
        accepted = route == "webhook" and body.startswith(b'{"')
        assert answer.status_code in ((200,) if accepted else (400, 422)), (route, answer.text)
