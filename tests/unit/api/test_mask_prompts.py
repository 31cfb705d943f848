"""Masks as prompts: a good one is kept as it came, a wrong one is refused at submission."""

import json
from io import BytesIO
from typing import Any

import pytest
from werkzeug.test import TestResponse

from maskline.results import ModelCard
from tests.factories import disc_mask, make_card
from tests.unit.api.conftest import PNG, Api, told
from worker.masks import encode_rle
from worker.packed_mask import PackedMask

DISC = encode_rle(PackedMask.pack(disc_mask())).model_dump(mode="json")
URL = {"url": "https://example.com/a.png"}


def submit(api: Api, *prompts: Any) -> TestResponse:
    request = json.dumps({"prompts": prompts})
    return api.client.post("/v1/jobs", data={"image": (BytesIO(PNG), "a.png"), "request": request})


def faults(answer: TestResponse) -> dict[str, str]:
    assert answer.status_code == 422, answer.text
    return {fault["pointer"]: fault["detail"] for fault in told(answer)["errors"]}


def test_a_mask_comes_alone_or_with_others_and_is_given_back(api: Api) -> None:
    others: list[dict[str, Any]] = [
        {},
        {"points": [[40, 32]]},
        {"points": [[20, 32]], "pointLabels": [0]},
        {"box": [20, 12, 60, 52], "points": [[40, 32]], "pointLabels": [1]},
    ]
    prompts = [{"label": "disc", "mask": DISC, **other} for other in others]
    answer = submit(api, *prompts)
    assert answer.status_code == 202, answer.text
    job = told(api.client.get(f"/v1/jobs/{told(answer)['id']}"))
    assert job["prompts"] == [{"points": [], "pointLabels": [], **prompt} for prompt in prompts]


def test_a_mask_of_an_image_that_only_the_worker_knows(api: Api) -> None:
    for mask in (DISC, {"size": [5000, 4000], "counts": "0PX[Rc0"}):
        answer = api.client.post("/v1/jobs", json={"image": URL, "prompts": [{"label": "a", "mask": mask}]})
        assert answer.status_code == 202, answer.text


@pytest.mark.parametrize("size", [[40_000, 10], [20_000, 20_000], [2**31 - 1, 2**31 - 1]], ids=str)
def test_a_mask_that_fits_no_image_is_refused(api: Api, size: list[int]) -> None:
    mask = {"size": size, "counts": "0PP6"}
    answer = api.client.post("/v1/jobs", json={"image": URL, "prompts": [{"label": "a", "mask": mask}]})
    assert faults(answer)["/prompts/0/mask/size"].startswith(f"no image of {size} pixels is taken")


@pytest.mark.parametrize(
    ("mask", "pointer", "words"),
    [
        (
            {"size": [96, 64], "counts": "0PP6"},
            "size",
            "[96, 64] is not [height, width] of the image, [64, 96]",
        ),
        ({"size": [10**12, 96], "counts": "0PP6"}, "size/0", "less than or equal"),
        ({"size": [0, 96], "counts": ""}, "size/0", "greater than or equal"),
        ({"size": [64], "counts": "0PP6"}, "size/1", "too short"),
        ({"size": [64, 96], "counts": ""}, "counts", "add up to 0 pixels; a mask of 96 x 64 pixels has 6144"),
        ({"size": [64, 96], "counts": "PP6"}, "counts", "empty"),
        ({"size": [64, 96], "counts": "0PPP"}, "counts", "cut off"),
        ({"size": [64, 96], "counts": "o" * 400_000}, "counts", "more than 35 bits"),
        ({"size": [64, 96], "counts": [0, 6144]}, "counts", "string"),
        ({"size": [64, 96]}, "counts", "required"),
        ("0PP6", "", "JSON object"),
    ],
    ids=str,
)
def test_what_is_wrong_with_a_mask_is_told(api: Api, mask: Any, pointer: str, words: str) -> None:
    told_of = faults(submit(api, {"label": "a", "mask": mask}))
    assert words in told_of[f"/prompts/0/mask/{pointer}".rstrip("/")]
    assert list(api.artifacts.keys("")) == []


def test_a_model_says_whether_it_takes_masks(api: Api) -> None:
    card: ModelCard = make_card("other").model_copy(update={"prompt_kinds": ("box", "points")})
    api.services.models.publish("w2", [card], 60)
    body = {"model": "other", "image": URL, "prompts": [{"label": "a", "mask": DISC}]}
    assert faults(api.client.post("/v1/jobs", json=body)) == {
        "/prompts/0/mask": "other takes no mask prompts; it takes box, points"
    }
