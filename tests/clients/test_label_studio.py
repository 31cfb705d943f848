"""The requests of a real Label Studio against a running service, read with its own SDK.

``label_studio_exchange.json`` was recorded between Label Studio 1.23.2 (``label-studio start``, driven by its
own HTTP API) and Maskline: a backend added with a wrong and a right password, predictions retrieved for
three tasks (a file of Label Studio's, a data URL, a file that is not there), an annotator's rectangle, then
one with a point too, then one on an image that was turned, an annotation saved, and a training started. The
image is put in for ``IMAGE``, also where an annotator drew on a file of Label Studio's; tokens were taken
out, and of the events' long fields a few were kept.
"""

import base64
import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from label_studio_sdk.converter import brush
from label_studio_sdk.label_interface.interface import LabelInterface
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from maskline import Client, Prompt
from maskline.local import Stack
from maskline.requests import Output
from tests.factories import DISC_BOX, disc_mask, encoded, picture
from worker.masks import decode_rle

EXCHANGE = json.loads((Path(__file__).parent / "label_studio_exchange.json").read_text("utf-8"))
PNG = encoded(picture(), "PNG")
DATA_URL = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
STREETS = '<Label value="Road"/><Label value="wall"/><Label value="none of the model\'s"/>'


def config(control: str) -> str:
    inner = f'<{control} name="tag" toName="image">{STREETS}</{control}>'
    return f'<View><Image name="image" value="$image"/>{inner}</View>'


@pytest.fixture(scope="module")
def studio(stack: Stack) -> Any:
    """HTTP as Label Studio speaks it: with a user and a password."""
    with httpx.Client(base_url=stack.url, auth=("any", stack.api_key), timeout=120) as connected:
        yield connected


def mask_of(region: dict[str, Any]) -> NDArray[np.bool_]:
    """bool (H, W): the brush's mask, as Label Studio's SDK reads it."""
    size = region["original_height"], region["original_width"], 4
    return np.asarray(brush.decode_rle(region["value"]["rle"]).reshape(size)[..., 3] > 0)


def iou(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float((one & other).sum() / (one | other).sum())


def replay(stack: Stack, recorded: dict[str, Any]) -> httpx.Response:
    """The answer to a recorded request."""
    password = stack.api_key if recorded["status"] != 401 else "wrong"
    body = json.dumps(recorded["body"]).replace('"IMAGE"', json.dumps(DATA_URL))
    return httpx.request(
        recorded["method"],
        stack.url + recorded["path"],
        auth=("maskline", password) if recorded["authorization"] else None,
        content=body if recorded["body"] else None,
        headers={"Content-Type": "application/json"} if recorded["body"] else {},
        timeout=120,
    )


def test_the_recorded_exchange_goes_as_it_went(stack: Stack, native: Client) -> None:
    answers = [replay(stack, recorded) for recorded in EXCHANGE]
    assert [one.status_code for one in answers] == [recorded["status"] for recorded in EXCHANGE]
    predictions = [
        (recorded["body"], answer.json())
        for recorded, answer in zip(EXCHANGE, answers, strict=True)
        if recorded["path"].endswith("/predict") and recorded["status"] == 200
    ]
    (asked, three), (_, boxed), (_, pointed) = predictions
    studio_s, good, missing = three["results"]
    assert [one["code"] for one in (studio_s, missing)] == ["image_unreachable"] * 2
    assert answers[2].json() == {"model_version": good["model_version"]}
    for prediction in (good, boxed["results"][0], pointed["results"][0]):
        assert LabelInterface(asked["label_config"]).validate_prediction(prediction, return_errors=True) == []
        [region] = prediction["result"]
        assert region["value"]["brushlabels"] == ["Disc"]
        assert iou(mask_of(region), disc_mask()) > 0.97
    [drawn] = boxed["results"][0]["result"]
    job = native.submit(PNG, prompts=[Prompt(label="Disc", box=DISC_BOX)])
    native.wait(job.id)
    [segment] = native.segments(job.id).segments
    assert np.array_equal(mask_of(drawn), decode_rle(segment.segmentation))
    assert (drawn["original_width"], drawn["original_height"]) == (96, 64)


def predict(studio: httpx.Client, control: str) -> list[dict[str, Any]]:
    task = {"id": 1, "data": {"image": DATA_URL}}
    body = {"tasks": [task], "label_config": config(control), "project": "1.1", "params": {"context": None}}
    answer = studio.post("/label-studio/mine/streets/predict", json=body)
    assert answer.status_code == 200, answer.text
    [prediction] = answer.json()["results"]
    assert LabelInterface(config(control)).validate_prediction(prediction, return_errors=True) == []
    result: list[dict[str, Any]] = prediction["result"]
    return result


@pytest.fixture(scope="module")
def streets(native: Client) -> dict[str, NDArray[np.bool_]]:
    """bool (H, W) of each category, as the native API has it."""
    job = native.submit(PNG, model="mine/streets", outputs=[Output.SEGMENTS])
    native.wait(job.id)
    return {one.label: decode_rle(one.segmentation).astype(bool) for one in native.segments(job.id).segments}


def test_categories_are_labelled_to_the_pixel(
    studio: httpx.Client, streets: dict[str, NDArray[np.bool_]]
) -> None:
    regions = predict(studio, "BrushLabels")
    assert regions
    for region in regions:
        [label] = region["value"]["brushlabels"]
        assert np.array_equal(mask_of(region), streets[{"Road": "road"}.get(label, label)])
    found = {region["value"]["brushlabels"][0] for region in regions}
    assert found == {{"road": "Road"}.get(label, label) for label in streets if label in ("road", "wall")}


def test_outlines_cover_what_the_masks_do(
    studio: httpx.Client, streets: dict[str, NDArray[np.bool_]]
) -> None:
    drawn: dict[str, Image.Image] = {}
    for region in predict(studio, "PolygonLabels"):
        [label] = region["value"]["polygonlabels"]
        canvas = drawn.setdefault(label.lower(), Image.new("1", (96, 64)))
        points = [(int(x * 0.96), int(y * 0.64)) for x, y in region["value"]["points"]]
        ImageDraw.Draw(canvas).polygon(points, fill=1)
    assert drawn
    for label, canvas in drawn.items():
        assert iou(np.asarray(canvas), streets[label]) > 0.9


def test_boxes_hold_the_masks(studio: httpx.Client, streets: dict[str, NDArray[np.bool_]]) -> None:
    regions = predict(studio, "RectangleLabels")
    assert regions
    for region in regions:
        value = region["value"]
        rows, columns = np.nonzero(streets[value["rectanglelabels"][0].lower()])
        box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        left, top = value["x"] * 0.96, value["y"] * 0.64
        right, bottom = left + value["width"] * 0.96, top + value["height"] * 0.64
        assert (left, top, right, bottom) == pytest.approx(box)
