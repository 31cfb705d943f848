"""``huggingface_hub`` against a running service, held against the pipeline of ``transformers``."""

import asyncio
import base64
import json
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import transformers
from huggingface_hub import AsyncInferenceClient, ImageSegmentationOutputElement, InferenceClient
from huggingface_hub.errors import BadRequestError, HfHubHTTPError, InferenceTimeoutError
from PIL import Image

from maskline.local import Stack
from maskline.run_lengths import RunLengthMask
from tests.factories import encoded, picture
from worker.masks import decode_rle

RGB = picture(96, 144)
PNG = encoded(RGB, "PNG")
EXIF = Image.Exif()
EXIF[0x0112] = 6  # the orientation: to be turned by a quarter
JPEG_ON_ITS_SIDE = encoded(RGB, "JPEG", exif=EXIF)
QUERY_MODELS = ("maskformer", "mask2former")


@pytest.fixture(scope="module")
def client(stack: Stack) -> InferenceClient:
    return InferenceClient(token=stack.api_key, timeout=120)


@pytest.fixture(scope="module")
def pipelines(weights: Path) -> dict[str, Any]:
    """The library's own pipeline over each of the models."""
    names = ("segformer", *QUERY_MODELS)
    library: Any = transformers
    return {name: library.pipeline("image-segmentation", model=str(weights / name)) for name in names}


def url_of(stack: Stack, model: str) -> str:
    return f"{stack.url}/models/{model}"


def assert_equal(
    ours: Sequence[ImageSegmentationOutputElement], theirs: Sequence[dict[str, Any]], *, has_scores: bool
) -> None:
    assert [one.label for one in ours] == [one["label"] for one in theirs]
    for one, other in zip(ours, theirs, strict=True):
        mask: Any = one.mask
        assert (mask.mode, mask.size) == ("L", other["mask"].size)
        assert np.array_equal(np.asarray(mask), np.asarray(other["mask"]))
        if has_scores:
            assert one.score == pytest.approx(other["score"], abs=2e-6)
        else:
            assert one.score is other["score"] is None


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"subtask": "panoptic", "threshold": 0.1, "mask_threshold": 0.02},
        {"subtask": "panoptic", "threshold": 0.1, "mask_threshold": 0.2, "overlap_mask_area_threshold": 0.0},
        {"subtask": "panoptic", "threshold": 0.1, "mask_threshold": 0.02, "overlap_mask_area_threshold": 0.0},
        {"threshold": 0.1, "mask_threshold": 0.02, "overlap_mask_area_threshold": 0.1},
        {"subtask": "instance", "threshold": 0.1},
        {"subtask": "instance", "threshold": 0.0},
        {"subtask": "semantic"},
        {"threshold": 1.0},
    ],
    ids=str,
)
@pytest.mark.parametrize("model", QUERY_MODELS)
def test_segments_are_those_of_the_pipeline(
    client: InferenceClient, stack: Stack, pipelines: dict[str, Any], model: str, parameters: dict[str, Any]
) -> None:
    theirs = pipelines[model](Image.fromarray(RGB), **parameters)
    ours = client.image_segmentation(PNG, model=url_of(stack, f"mine/{model}"), **parameters)
    assert_equal(ours, theirs, has_scores=parameters.get("subtask") != "semantic")
    if parameters.get("subtask"):
        assert theirs


def test_a_model_of_classes_gives_a_mask_for_each(
    client: InferenceClient, stack: Stack, pipelines: dict[str, Any], tmp_path: Path
) -> None:
    theirs = pipelines["segformer"](Image.fromarray(RGB))
    assert len(theirs) > 1
    (tmp_path / "a.png").write_bytes(PNG)
    for image in (PNG, str(tmp_path / "a.png"), tmp_path / "a.png"):
        ours = client.image_segmentation(image, model=url_of(stack, "mine/segformer"))
        assert_equal(ours, theirs, has_scores=False)
    together = sum(np.asarray(one.mask, np.int64) for one in ours)
    assert np.all(together == 255)  # no class is left out: the masks share out the image


def test_a_turned_photo_is_segmented_upright(
    client: InferenceClient, stack: Stack, pipelines: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "a.jpg").write_bytes(JPEG_ON_ITS_SIDE)
    theirs = pipelines["segformer"](str(tmp_path / "a.jpg"))
    assert theirs[0]["mask"].size == (96, 144)
    ours = client.image_segmentation(tmp_path / "a.jpg", model=url_of(stack, "mine/segformer"))
    assert_equal(ours, theirs, has_scores=False)


async def asynchronously(stack: Stack, url: str) -> list[ImageSegmentationOutputElement]:
    async with AsyncInferenceClient(api_key=stack.api_key) as client:
        return await client.image_segmentation(PNG, model=url)


@pytest.mark.filterwarnings("ignore:Use 'content:DeprecationWarning")  # the asynchronous client's own
def test_every_way_to_point_the_client_here(stack: Stack) -> None:
    url = url_of(stack, "segformer")  # an alias without a slash
    calls = [
        InferenceClient(model=url, token=stack.api_key).image_segmentation(PNG),
        InferenceClient(base_url=url, api_key=stack.api_key).image_segmentation(PNG),
        InferenceClient(provider="hf-inference", api_key=stack.api_key).image_segmentation(PNG, model=url),
        InferenceClient(api_key=stack.api_key).image_segmentation(
            PNG, model=f"{stack.url}/hf-inference/models/mine/segformer"
        ),
        asyncio.run(asynchronously(stack, url)),
    ]
    labels = {tuple(one.label for one in answer) for answer in calls}
    assert len(labels) == 1
    by_default = InferenceClient(base_url=stack.url, api_key=stack.api_key).image_segmentation(PNG)
    assert [one.label for one in by_default][:1] == ["segment-1"]  # GrabCut's


def test_the_masks_are_those_of_the_native_api(
    client: InferenceClient, stack: Stack, http: httpx.Client, coffee: bytes
) -> None:
    ours = client.image_segmentation(coffee, model=url_of(stack, "grabcut"))
    job = http.post(
        "/v1/jobs?subtask=instance",
        content=coffee,
        headers={"Content-Type": "image/png", "Prefer": "wait=60"},
    ).json()
    segments = http.get(f"/v1/jobs/{job['id']}/segments").json()["segments"]
    assert len(ours) == len(segments) > 0
    for one, segment in zip(ours, segments, strict=True):
        assert (one.label, one.score) == (segment["label"], segment["score"])
        mask = decode_rle(RunLengthMask.model_validate(segment["segmentation"]))
        assert np.array_equal(np.asarray(one.mask), mask * 255)


def test_a_threshold_leaves_out_what_is_less_sure(
    client: InferenceClient, stack: Stack, coffee: bytes
) -> None:
    url = url_of(stack, "grabcut")
    scores = [one.score or 0 for one in client.image_segmentation(coffee, model=url)]
    least = sorted(scores)[len(scores) // 2]
    kept = client.image_segmentation(coffee, model=url, threshold=least)
    assert [one.score for one in kept] == [score for score in scores if score >= least]
    assert client.image_segmentation(coffee, model=url, threshold=1.0) == []


def newest_job(http: httpx.Client) -> str:
    [job] = http.get("/v1/jobs?pageSize=1").json()["jobs"]
    return str(job["id"])


def test_the_snippets_of_the_description_work(stack: Stack, http: httpx.Client) -> None:
    """``requests.post(data=…)``, curl's ``--data-binary``, ``fetch``, and the header with its colon."""
    url, key = url_of(stack, "mine/segformer"), stack.api_key
    answers = [
        httpx.post(url, headers={"Authorization": f"{scheme} {key}", **headers}, content=PNG, timeout=60)
        for scheme, headers in (
            ("Bearer", {}),
            ("Bearer:", {}),
            ("bearer", {"Content-Type": "application/x-www-form-urlencoded"}),
            ("Bearer", {"Content-Type": "image/jpeg", "x-load-model": "0"}),
        )
    ]
    text = base64.encodebytes(PNG).decode()
    bodies: list[dict[str, Any]] = [
        {"inputs": text, "parameters": None, "options": {"use_cache": False, "wait_for_model": True}},
        {"inputs": f"data:image/png;base64,{text}", "parameters": {"subtask": None, "more": 1}, "more": 1},
    ]
    answers += [http.post(url, json=body) for body in bodies]
    answers.append(http.post(url, content=json.dumps(bodies[0])))  # without a content type
    assert {answer.status_code for answer in answers} == {200}, answers[-1].text
    assert {answer.headers["content-type"] for answer in answers} == {"application/json"}
    assert len({answer.text for answer in answers}) == 1
    assert all(set(element) == {"label", "mask"} for element in answers[0].json())
    mask = Image.open(BytesIO(base64.b64decode(answers[0].json()[0]["mask"], validate=True)))
    assert set(np.unique(np.asarray(mask))) == {0, 255}


def test_an_equal_request_is_answered_from_the_cache(stack: Stack, http: httpx.Client, disc: bytes) -> None:
    url = url_of(stack, "grabcut")

    def makes_a_job(body: bytes = disc, headers: dict[str, str] | None = None) -> bool:
        before = newest_job(http)
        assert http.post(url, content=body, headers=headers).status_code == 200
        return newest_job(http) != before

    assert makes_a_job()
    assert not makes_a_job()
    assert not makes_a_job(headers={"X-Use-Cache": "true"})
    assert makes_a_job(headers={"X-Use-Cache": "false"})
    assert makes_a_job(headers={"x-use-cache": "0"})
    assert makes_a_job(encoded(picture(80, 80), "PNG"))
    assert http.delete(f"/v1/jobs/{newest_job(http)}").status_code == 204
    assert makes_a_job(encoded(picture(80, 80), "PNG"))  # the result went with its job


@pytest.mark.parametrize(
    ("image", "parameters", "model", "status", "words"),
    [
        (b"", {}, "grabcut", 400, "image"),
        (b"no image", {}, "grabcut", 400, "image"),
        (PNG, {"threshold": 1.5}, "grabcut", 400, "/parameters/threshold"),
        (PNG, {"mask_threshold": -1}, "grabcut", 400, "/parameters/mask_threshold"),
        (PNG, {"subtask": "other"}, "grabcut", 400, "/parameters/subtask"),
        (PNG, {"subtask": "panoptic"}, "mine/segformer", 400, "does semantic"),
        (PNG[: len(PNG) // 2], {}, "grabcut", 400, "cut off"),
        (PNG, {}, "mine/unknown", 404, "there is no model 'mine/unknown'"),
        (bytes(3_000_001), {}, "grabcut", 413, "larger than"),
    ],
)
def test_what_is_wrong_is_told_in_the_clients_own_exception(
    client: InferenceClient, stack: Stack, image: bytes, parameters: Any, model: str, status: int, words: str
) -> None:
    with pytest.raises(HfHubHTTPError) as caught:
        client.image_segmentation(image, model=url_of(stack, model), **parameters)
    assert caught.value.response.status_code == status
    assert isinstance(caught.value, BadRequestError) == (status == 400)
    assert set(caught.value.response.json()) == {"error"}
    assert words in str(caught.value)


def test_a_wrong_key_is_told(stack: Stack) -> None:
    with pytest.raises(HfHubHTTPError, match="the API key is unknown") as caught:
        InferenceClient(token="mk_wrong").image_segmentation(PNG, model=url_of(stack, "grabcut"))
    assert caught.value.response.status_code == 401


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"inputs": "/+*"}, "/inputs: not base64"),
        ({"inputs": "http://169.254.169.254/a.png"}, "169.254.169.254"),
        ({"inputs": "http://nowhere.invalid/a.png"}, "nowhere.invalid"),
        ({"inputs": "http://a b"}, "/inputs: give an http or https URL"),
        ({"inputs": 7}, "/inputs"),
        ({}, "/inputs: this field is required"),
        ([], "JSON object"),
        ({"inputs": base64.b64encode(PNG).decode(), "parameters": []}, "/parameters"),
    ],
    ids=str,
)
def test_bodies_that_no_client_sends_are_refused_in_words(http: httpx.Client, body: Any, words: str) -> None:
    answer = http.post("/models/grabcut", json=body)
    assert answer.status_code == 400
    assert words in answer.json()["error"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/models/none", 404), ("PUT", "/models/grabcut", 405), ("GET", "/status/none", 404)],
)
def test_errors_of_every_layer_have_the_same_form(
    http: httpx.Client, method: str, path: str, status: int
) -> None:
    answer = http.request(method, path)
    assert (answer.status_code, set(answer.json())) == (status, {"error"})


def test_the_clients_own_timeout_leaves_the_job(stack: Stack, http: httpx.Client, coffee: bytes) -> None:
    image = encoded(np.asarray(Image.open(BytesIO(coffee)).resize((1200, 800))), "JPEG")
    before = newest_job(http)
    hasty = InferenceClient(token=stack.api_key, timeout=0.05)
    with pytest.raises(InferenceTimeoutError):
        hasty.image_segmentation(image, model=url_of(stack, "grabcut"))
    assert newest_job(http) != before
    assert http.get(f"/v1/jobs/{newest_job(http)}?wait=60").json()["state"] == "succeeded"


def test_the_state_of_a_model(stack: Stack, http: httpx.Client) -> None:
    client = InferenceClient(provider="hf-inference", api_key=stack.api_key)
    url = url_of(stack, "mine/segformer")
    assert client.health_check(url)
    assert not client.health_check(url_of(stack, "none"))
    info = client.get_endpoint_info(model=url)
    assert (info["id"], info["pipeline_tag"]) == ("mine/segformer", "image-segmentation")
    for path in ("/models/mine/segformer", "/status/mine/segformer", "/hf-inference/models/mine/segformer"):
        told = http.get(path).json()
        assert (told["loaded"], told["state"], told["framework"]) == (True, "Loaded", "transformers")
