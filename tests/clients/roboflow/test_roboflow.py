"""``inference_sdk.InferenceHTTPClient``, unchanged, against a running service.

Masks are read from the answers by ``supervision``, and held against those of the native API.
"""

import base64
import io
import re
from collections.abc import Iterator
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from api.protocols.roboflow import STATUSES
from maskline import Client, Prompt
from maskline.local import Stack
from maskline.requests import Output, Subtask
from tests.factories import encoded, picture

pytest.importorskip("inference_sdk")
from inference_sdk import InferenceConfiguration, InferenceHTTPClient
from inference_sdk.http.errors import HTTPCallErrorError, ModelTaskTypeNotSupportedError
from inference_sdk.http.utils.executors import RETRYABLE_STATUS_CODES
from supervision import Detections

RGB = picture(96, 144)
PNG = encoded(RGB, "PNG")
PNG_SMALL = base64.b64encode(encoded(picture(64, 96), "PNG")).decode()
CONTENT = base64.b64encode(PNG).decode()

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


def configured(stack: Stack, **fields: Any) -> InferenceHTTPClient:
    client = InferenceHTTPClient(api_url=stack.url, api_key=stack.api_key)
    return client.configure(InferenceConfiguration(api_key_transport="legacy", **fields))


@pytest.fixture
def v0(stack: Stack) -> InferenceHTTPClient:
    return configured(stack).select_api_v0()


@pytest.fixture(scope="module")
def http(stack: Stack) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=stack.url, params={"api_key": stack.api_key}, timeout=60) as connected:
        yield connected


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)))


def category_mask(native: Client, model: str, **request: Any) -> np.ndarray:
    job = native.submit(PNG, model=model, **request)
    return pixels(native.category_mask(native.wait(job.id, timeout=100).id))


def masks_of(answer: dict[str, Any]) -> np.ndarray:
    found = Detections.from_inference(answer)
    assert found.mask is not None
    return np.asarray(found.mask)


class TestV0:
    def test_instances_are_those_of_the_native_api(self, v0: InferenceHTTPClient, native: Client) -> None:
        answer = v0.infer(CONTENT, model_id="grabcut/1")
        assert answer["image"] == {"width": 144, "height": 96}
        expected = category_mask(native, "grabcut")
        [one] = answer["predictions"]
        [mask] = masks_of(answer)
        assert np.array_equal(mask, expected == one["class_id"])
        rows, columns = np.nonzero(mask)
        assert one["x"] == (columns.min() + columns.max() + 1) / 2
        assert one["y"] == (rows.min() + rows.max() + 1) / 2
        assert (one["width"], one["height"]) == (np.ptp(columns) + 1, np.ptp(rows) + 1)
        assert one["class"] == "segment-1"
        assert 0.4 <= one["confidence"] <= 1
        assert native.get(answer["inference_id"]).metadata == {"source": "external", "sourceInfo": "external"}

    def test_the_polygon_is_the_outline_of_the_largest_part(self, v0: InferenceHTTPClient) -> None:
        answer = v0.infer(CONTENT, model_id="grabcut/1")
        [whole] = masks_of(answer)
        del answer["predictions"][0]["rle"]
        [outlined] = masks_of(answer)
        _, parts = cv2.connectedComponents(whole.astype(np.uint8))
        largest = parts == np.bincount(parts[whole]).argmax()
        contours, _ = cv2.findContours(largest.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        filled = cv2.fillPoly(np.zeros(whole.shape, np.uint8), contours, 1)
        assert np.array_equal(outlined, filled > 0)

    def test_instances_of_a_model_with_categories(self, stack: Stack, native: Client) -> None:
        client = configured(stack, confidence_threshold=0.1, iou_threshold=100).select_api_v0()
        answer = client.infer(CONTENT, model_id="mine/mask2former")
        job = native.submit(
            PNG,
            model="mine/mask2former",
            subtask=Subtask.INSTANCE,
            parameters={"threshold": 0.1},
            outputs=[Output.DETECTIONS, Output.SEGMENTS],
        )
        segments = native.segments(native.wait(job.id, timeout=100).id).segments
        found = {(one["class"], one["class_id"], one["confidence"]) for one in answer["predictions"]}
        assert found == {(one.label, one.category_id, one.score) for one in segments}
        assert found
        scores = [one["confidence"] for one in answer["predictions"]]
        assert scores == sorted(scores, reverse=True)
        areas = sorted(int(mask.sum()) for mask in masks_of(answer))
        assert areas == sorted(segment.area for segment in segments)

    def test_classes_of_pixels(self, stack: Stack, native: Client) -> None:
        client = configured(stack, confidence_threshold=0.2).select_api_v0()
        answer = client.infer(CONTENT, model_id="mine/segformer")
        expected = category_mask(native, "mine/segformer", parameters={"confidenceThreshold": 0.2})
        prediction = answer["predictions"]
        mask = Image.open(io.BytesIO(base64.b64decode(prediction["segmentation_mask"])))
        assert mask.mode == "L"
        assert np.array_equal(np.asarray(mask), expected)
        assert prediction["class_map"]["0"] == "background"
        assert prediction["class_map"]["1"] == "class 0"
        assert pixels(base64.b64decode(prediction["confidence_mask"])).shape == expected.shape

    @pytest.mark.parametrize("model", ["grabcut/1", "mine/segformer"])
    def test_the_picture_instead_of_predictions(self, stack: Stack, model: str) -> None:
        client = configured(
            stack, format="image", visualize_labels=True, stroke_width=3, confidence_threshold=0.1
        )
        jpeg = base64.b64decode(client.select_api_v0().infer(CONTENT, model_id=model)["visualization"])
        drawn = Image.open(io.BytesIO(jpeg))
        assert (drawn.format, drawn.size) == ("JPEG", (144, 96))
        assert np.abs(np.asarray(drawn).astype(int) - RGB).max() > 50

    def test_several_images_and_the_client_s_own_resizing(self, stack: Stack) -> None:
        client = configured(
            stack, client_downsizing_disabled=False, default_max_input_size=72, max_concurrent_requests=2
        )
        answers = client.select_api_v0().infer([RGB, RGB], model_id="grabcut/1")
        for answer in answers:
            assert answer["image"] == {"width": 144, "height": 96}
            assert answer["predictions"][0]["x"] == pytest.approx(40, abs=3)

    @pytest.mark.parametrize("transport", ["both", "header"])
    def test_the_key_in_the_header(self, stack: Stack, transport: str) -> None:
        client = InferenceHTTPClient(api_url=stack.url, api_key=stack.api_key)
        client.configure(InferenceConfiguration(api_key_transport=transport))
        assert client.select_api_v0().infer(CONTENT, model_id="grabcut/1")["predictions"]

    async def _infer_async(self, client: InferenceHTTPClient) -> Any:
        return await client.infer_async(CONTENT, model_id="grabcut/1")

    def test_the_asynchronous_client(self, v0: InferenceHTTPClient) -> None:
        import asyncio

        assert asyncio.run(self._infer_async(v0))["predictions"]

    @pytest.mark.parametrize(
        ("model", "content", "status", "words"),
        [
            ("none/1", CONTENT, 404, "there is no model 'none/1'; there are: .*grabcut"),
            ("grabcut/1", base64.b64encode(b"no image").decode(), 422, "no image that can be read"),
            ("grabcut/1", base64.b64encode(PNG[:900]).decode(), 422, "damaged or cut off"),
            ("grabcut/1", base64.b64encode(b"0" * 3_030_000).decode(), 413, "3000000 are taken"),
            ("grabcut/1", base64.b64encode(b"0" * 9_100_000).decode(), 413, "larger than the"),
        ],
    )
    def test_errors(self, stack: Stack, model: str, content: str, status: int, words: str) -> None:
        with pytest.raises(HTTPCallErrorError) as raised:
            configured(stack).select_api_v0().infer(content, model_id=model)
        assert raised.value.status_code == status
        assert re.search(words, raised.value.api_message), raised.value.api_message

    def test_a_wait_that_is_over_is_not_sent_again(self) -> None:
        assert STATUSES[504] not in RETRYABLE_STATUS_CODES

    def test_a_wrong_key_is_told_and_not_shown(self, stack: Stack) -> None:
        client = InferenceHTTPClient(api_url=stack.url, api_key="mk_wrong_and_long_enough")
        client.configure(InferenceConfiguration(api_key_transport="legacy"))
        with pytest.raises(HTTPCallErrorError) as raised:
            client.select_api_v0().infer(CONTENT, model_id="grabcut/1")
        assert raised.value.status_code == 401
        assert "unknown, revoked or expired" in raised.value.api_message
        logs = "".join(file.read_text() for file in stack.log_dir.glob("*.log"))
        assert "mk_wrong_and" not in logs
        assert stack.api_key not in logs


class TestV1:
    """The mode that the client chooses by itself for a server that is not Roboflow's."""

    def test_instances_are_those_of_the_native_api(self, stack: Stack, native: Client) -> None:
        client = configured(stack, visualize_predictions=True, visualize_labels=True)
        answer = client.infer(CONTENT, model_id="grabcut/1")
        [mask] = masks_of(answer)
        assert np.array_equal(mask, category_mask(native, "grabcut") > 0)
        assert Image.open(io.BytesIO(base64.b64decode(answer["visualization"]))).size == (144, 96)

    def test_it_is_v0_s_answer(self, stack: Stack) -> None:
        fields = {"confidence_threshold": 0.1, "iou_threshold": 0.5, "max_detections": 4}
        answers = [
            mode(configured(stack, **fields)).infer(CONTENT, model_id="mine/mask2former")
            for mode in (InferenceHTTPClient.select_api_v0, InferenceHTTPClient.select_api_v1)
        ]
        for answer in answers:
            for key in ("inference_id", "time"):
                answer.pop(key)
            for one in answer["predictions"]:
                one.pop("detection_id")
        assert answers[0] == answers[1]
        assert answers[0]["predictions"]

    def test_several_images_in_one_request(self, stack: Stack) -> None:
        client = configured(stack, max_batch_size=2, response_mask_format="rle")
        answers = client.infer([PNG_SMALL, CONTENT, CONTENT], model_id="grabcut/1")
        assert [answer["image"]["width"] for answer in answers] == [96, 144, 144]
        assert all("points" not in answer["predictions"][0] for answer in answers)
        assert all(len(masks_of(answer)) == 1 for answer in answers)

    def test_boxes_of_instances(self, http: httpx.Client) -> None:
        body = {"model_id": "grabcut/1", "image": {"type": "base64", "value": CONTENT}}
        boxes, instances = (
            http.post(f"/infer/{task}", json=body).json()["predictions"][0]
            for task in ("object_detection", "instance_segmentation")
        )
        assert not {"points", "rle"} & boxes.keys()
        keys = ("x", "y", "width", "height", "confidence", "class", "class_id")
        assert [boxes[key] for key in keys] == [instances[key] for key in keys]

    def test_only_some_classes(self, stack: Stack) -> None:
        fields = {"confidence_threshold": 0.1, "iou_threshold": 1.0}
        everything = configured(stack, **fields).infer(CONTENT, model_id="mine/mask2former")
        names = [one["class"] for one in everything["predictions"]]
        assert names
        for wanted in (names[0], "none of them"):
            client = configured(stack, class_filter=[wanted], **fields)
            found = client.infer(CONTENT, model_id="mine/mask2former")["predictions"]
            assert [one["class"] for one in found] == [wanted] * names.count(wanted)

    def test_classes_of_pixels_without_the_client(self, http: httpx.Client, native: Client) -> None:
        body = {"model_id": "mine/mask2former", "image": {"value": CONTENT}, "confidence": 0.1}
        prediction = http.post("/infer/semantic_segmentation", json=body).json()["predictions"]
        expected = category_mask(
            native,
            "mine/mask2former",
            subtask=Subtask.SEMANTIC,
            parameters={"confidenceThreshold": 0.1},
        )
        assert np.array_equal(pixels(base64.b64decode(prediction["segmentation_mask"])), expected)

    def test_the_models(self, stack: Stack) -> None:
        client = configured(stack)
        described = client.get_model_description("mine/segformer")
        assert described.task_type == "semantic-segmentation"
        names = {model.model_id for model in client.list_loaded_models().models}
        assert {"grabcut", "grabcut/1", "mine/mask2former"} <= names
        assert client.load_model("grabcut/1").models
        with pytest.raises(HTTPCallErrorError) as raised:
            client.infer(CONTENT, model_id="none/9")
        assert raised.value.status_code == 404
        assert "there is no model 'none/9'" in raised.value.api_message
        with pytest.raises(ModelTaskTypeNotSupportedError):
            client.infer(CONTENT, model_id="mine/segformer")

    def test_unloading_with_the_key_in_the_header(self, stack: Stack) -> None:
        client = InferenceHTTPClient(api_url=stack.url, api_key=stack.api_key)
        client.configure(InferenceConfiguration(api_key_transport="header"))
        assert client.unload_model("grabcut/1").models
        assert client.unload_all_models().models

    def test_what_runs_here(self, stack: Stack) -> None:
        assert configured(stack).get_server_info().name == "Maskline"

    @pytest.mark.parametrize(
        ("content", "status", "words"),
        [
            (base64.b64encode(b"no image").decode(), 422, "no image that can be read"),
            (base64.b64encode(PNG[:900]).decode(), 422, "damaged or cut off"),
            (base64.b64encode(b"0" * 3_030_000).decode(), 413, "at most 3000000 are taken"),
            (base64.b64encode(b"0" * 9_100_000).decode(), 413, "larger than the"),
        ],
    )
    def test_errors(self, stack: Stack, content: str, status: int, words: str) -> None:
        with pytest.raises(HTTPCallErrorError) as raised:
            configured(stack).infer(content, model_id="grabcut/1")
        assert raised.value.status_code == status
        assert words in raised.value.api_message

    def test_a_wrong_key(self, stack: Stack) -> None:
        client = InferenceHTTPClient(api_url=stack.url, api_key="mk_wrong_and_long_enough")
        client.configure(InferenceConfiguration(api_key_transport="legacy"))
        with pytest.raises(HTTPCallErrorError) as raised:
            client.infer(CONTENT, model_id="grabcut/1")
        assert raised.value.status_code == 401


class TestSegmentAnything:
    def test_boxes_and_points_by_the_client(self, stack: Stack, native: Client) -> None:
        box = {"x": 40, "y": 32, "width": 46, "height": 46}
        point = {"x": 40, "y": 32, "positive": True}
        prompts = [{"box": box}, {"points": [point]}, {"box": box, "points": [point]}]
        answer = configured(stack).sam2_segment_image(CONTENT, prompts=prompts)
        expected = [
            Prompt(label="a", box=(17, 9, 63, 55)),
            Prompt(label="b", points=((40, 32),)),
            Prompt(label="c", box=(17, 9, 63, 55), points=((40, 32),)),
        ]
        job = native.wait(native.submit(PNG, model="grabcut", prompts=expected).id, timeout=60)
        segments = native.segments(job.id).segments
        assert [one["confidence"] for one in answer["predictions"]] == [one.score for one in segments]
        whole = (
            configured(stack)
            .select_api_v0()
            .sam2_segment_image(CONTENT, prompts=prompts, mask_input_format="rle")
        )
        assert [one["masks"]["counts"] for one in whole["predictions"]] == [
            one.segmentation.counts for one in segments
        ]
        for one, segment in zip(answer["predictions"], segments, strict=True):
            filled = np.zeros(RGB.shape[:2], np.uint8)
            cv2.fillPoly(filled, [np.array(polygon) for polygon in one["masks"]], 1)
            assert (filled > 0).sum() >= segment.area
            assert one["format"] == "polygon"

    def test_everything_without_prompts(self, stack: Stack) -> None:
        [one] = configured(stack).sam2_segment_image(CONTENT)["predictions"]
        assert one["masks"]

    def test_what_is_wrong_with_a_prompt(self, stack: Stack) -> None:
        for prompts, words in (
            ([{"box": {"x": 0, "y": 0, "width": 10, "height": 10}}], "reaches outside the image"),
            ([{"points": [{"x": 1, "y": 1, "positive": False}]}], "all points are beside the object"),
            ([{}], "neither a box nor points"),
        ):
            with pytest.raises(HTTPCallErrorError) as raised:
                configured(stack).sam2_segment_image(CONTENT, prompts=prompts)
            assert raised.value.status_code == 422
            assert words in raised.value.api_message

    def test_points_and_boxes_on_an_image_that_was_sent_before(
        self, http: httpx.Client, native: Client
    ) -> None:
        body: dict[str, Any] = {"image": {"type": "base64", "value": CONTENT}, "image_id": "mine"}
        for coords, labels, prompt in (
            (
                [[40, 32], [100, 80], [0, 0]],
                [1, 0, -1],
                {"points": ((40, 32), (100, 80)), "pointLabels": (1, 0)},
            ),
            ([[17, 9], [63, 55], [0, 0]], [2.0, 3.0, -1.0], {"box": (17, 9, 63, 55)}),
        ):
            said = body | {"point_coords": coords, "point_labels": labels, "orig_im_size": [96, 144]}
            answer = http.post("/sam/segment_image", json=said).json()
            expected = Prompt.model_validate({"label": "object", **prompt})
            job = native.wait(native.submit(PNG, model="grabcut", prompts=[expected]).id, timeout=60)
            [segment] = native.segments(job.id).segments
            assert answer["rle"] == [segment.segmentation.model_dump(mode="json")]
            [outline], [small] = answer["masks"], answer["low_res_masks"]
            filled = cv2.fillPoly(np.zeros(RGB.shape[:2], np.uint8), [np.array(outline)], 1)
            assert (filled > 0)[coco.decode(answer["rle"][0]) > 0].mean() > 0.5
            assert np.abs(np.array(small) - np.array(outline) * 256 / 144).max() <= 1
            body.pop("image", None)

    @pytest.mark.parametrize(
        ("body", "status", "words"),
        [
            ({"point_coords": [[1, 1]], "point_labels": [1]}, 422, "there is no image"),
            (
                {"image_id": "lost", "point_coords": [[1, 1]], "point_labels": [1]},
                422,
                "the image_id of one",
            ),
            ({"image": {"value": CONTENT}, "point_coords": [[1, 1]], "point_labels": [2]}, 422, "label 2"),
            ({"image": {"value": CONTENT}, "point_coords": [[1, 1]]}, 422, "1 points but 0 labels"),
            ({"image": {"value": CONTENT}}, 422, "neither a box nor points"),
            ({"image": {"value": CONTENT}, "has_mask_input": True}, 422, "masks are not taken"),
            ({"image": {"value": CONTENT}, "format": "binary"}, 422, "give json"),
            ({"embeddings": [[1.0]]}, 422, "send the image"),
            (
                {"sam_version_id": "vit_z", "point_coords": [[1, 1]], "point_labels": [1]},
                404,
                "there is no model 'sam/vit_z'",
            ),
        ],
    )
    def test_bad_requests(self, http: httpx.Client, body: dict[str, Any], status: int, words: str) -> None:
        answer = http.post("/sam/segment_image", json=body)
        assert (answer.status_code, words in answer.json()["message"]) == (status, True), answer.text

    def test_models_without_embeddings(self, http: httpx.Client) -> None:
        answer = http.post("/sam/embed_image", json={"image": {"value": CONTENT}})
        assert (answer.status_code, "gives no embedding" in answer.json()["message"]) == (422, True)


class TestSnippets:
    """The calls of Roboflow's own documents, which need no client."""

    @pytest.mark.parametrize(
        ("media_type", "body"),
        [
            ("application/x-www-form-urlencoded", CONTENT),  # base64 image | curl -d @-
            ("application/json", CONTENT),
            ("", CONTENT),
            ("text/plain", "data:image/png;base64," + CONTENT),
            ("application/x-www-form-urlencoded", CONTENT.replace("+", "%2B").replace("/", "%2F")),
            ("text/plain", "\n".join(CONTENT[i : i + 76] for i in range(0, len(CONTENT), 76))),
        ],
    )
    def test_base64_bodies(self, http: httpx.Client, media_type: str, body: str) -> None:
        headers = {"Content-Type": media_type} if media_type else {}
        answer = http.post("/grabcut/1", content=body, headers=headers)
        assert answer.status_code == 200, answer.text
        assert len(answer.json()["predictions"]) == 1

    def test_a_multipart_file(self, http: httpx.Client) -> None:
        answer = http.post("/grabcut/1", files={"file": ("a.png", PNG, "image/png")})
        assert len(answer.json()["predictions"]) == 1

    def test_an_image_by_its_url(self, http: httpx.Client, stack: Stack, native: Client) -> None:
        done = native.wait(native.submit(PNG).id, timeout=60)
        assert done.prediction is not None
        url = done.prediction.category_mask
        for send in (http.post, http.get):
            answer = send("/grabcut/1", params={"image": url, "api_key": stack.api_key})
            assert answer.status_code == 200, answer.text
            assert answer.json()["image"] == {"width": 144, "height": 96}
        lost = http.get(
            "/grabcut/1",
            params={
                "image": f"{stack.url}/v1/artifacts/nowhere?expires=1&signature=no",
                "api_key": stack.api_key,
            },
        )
        assert (lost.status_code, "404" in lost.json()["message"]) == (422, True), lost.text
