"""Batches through the public API and real workers: every item once, whatever dies meanwhile."""

import base64
import json
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from typing import Any

import httpx
import numpy as np
import redis

from maskline import Client, Prompt
from maskline.adapters.s3_artifacts import S3ArtifactStore
from maskline.batch_results import ItemError, ItemResult
from maskline.local import Stack
from tests.factories import DISC_BOX, encoded, picture
from tests.service.test_faults import until

DISC = Prompt(label="disc", box=DISC_BOX)
ITEMS = 320


def picture_of(number: int) -> bytes:
    """The disc, with its number written into the corner."""
    pixels = picture()
    pixels[0, 0] = number // 256, number % 256, 7
    return encoded(np.ascontiguousarray(pixels), "PNG")


@contextmanager
def http_of(stack: Stack) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {stack.api_key}"}
    with httpx.Client(base_url=stack.url, headers=headers, timeout=60, trust_env=False) as connected:
        yield connected


def told(answer: httpx.Response) -> Any:
    assert answer.is_success, answer.text
    return answer.json()


def put(http: httpx.Client, path: str, body: bytes) -> None:
    answer = http.put(f"/v1/batches/{path}", content=body)
    assert answer.is_success, answer.text


def upload(http: httpx.Client, images: Sequence[bytes], parts: int = 3, **request: Any) -> str:
    """Id of a batch of these images, in a pack for each part."""
    batch = str(told(http.post("/v1/batches", json=request))["id"])
    for part in range(1, parts + 1):
        mine = [(n, image) for n, image in enumerate(images) if n % parts == part - 1]
        put(http, f"{batch}/packs/{part}", b"".join(image for _, image in mine))
        offsets = accumulate((len(image) for _, image in mine), initial=0)
        items = [
            {"id": f"n{n}", "image": {"pack": part, "offset": offset, "length": len(image)}}
            for (n, image), offset in zip(mine, offsets, strict=False)
        ]
        put(http, f"{batch}/parts/{part}", "".join(json.dumps(item) + "\n" for item in items).encode())
    told(http.post(f"/v1/batches/{batch}:complete"))
    return batch


def state_of(http: httpx.Client, batch: str) -> Any:
    return told(http.get(f"/v1/batches/{batch}"))


def wait_for_end(http: httpx.Client, batch: str) -> Any:
    def has_ended() -> bool:
        try:
            answer = http.get(f"/v1/batches/{batch}")
        except httpx.TransportError:
            return False
        return answer.is_success and answer.json()["state"] in {"succeeded", "failed", "cancelled"}

    until(has_ended)
    return state_of(http, batch)


def results(http: httpx.Client, batch: str) -> list[ItemResult]:
    text = http.get(f"/v1/batches/{batch}/results")
    assert text.is_success
    return [ItemResult.model_validate_json(line) for line in text.text.splitlines()]


def errors(http: httpx.Client, batch: str) -> list[ItemError]:
    text = http.get(f"/v1/batches/{batch}/errors")
    assert text.is_success
    return [ItemError.model_validate_json(line) for line in text.text.splitlines()]


def attempts(http: httpx.Client, batch: str) -> dict[int, str]:
    """The file of each chunk that has ended."""
    page = told(http.get(f"/v1/batches/{batch}/shards", params={"pageSize": 1000}))
    return {one["number"]: one["predictions"].partition("?")[0] for one in page["shards"]}


def assert_each_once(http: httpx.Client, batch: str, items: int) -> None:
    ended = wait_for_end(http, batch)
    assert ended["state"] == "succeeded", ended
    counts = {name: ended["counts"][name] for name in ("succeeded", "failed", "running", "queued")}
    assert counts == {"succeeded": items, "failed": 0, "running": 0, "queued": 0}
    assert sorted(one.id for one in results(http, batch)) == sorted(f"n{n}" for n in range(items))


def test_an_item_is_labelled_as_a_job_is(http: httpx.Client, client: Client) -> None:
    images = [picture_of(n) for n in range(7)]
    asked = {"prompts": [DISC.model_dump(mode="json", by_alias=True, exclude_none=True)]}
    batch = upload(http, images, parts=2, **asked)
    ended = wait_for_end(http, batch)
    assert (ended["state"], ended["counts"]["succeeded"], ended["parts"]) == ("succeeded", 7, 2)
    found = {one.id: one for one in results(http, batch)}
    for number, image in enumerate(images):
        job = client.wait(client.submit(image, prompts=[DISC]).id, timeout=60)
        one = found[f"n{number}"]
        masks = one.prediction
        assert masks.category_mask is not None
        assert masks.confidence_mask is not None
        assert base64.b64decode(masks.category_mask) == client.category_mask(job.id)
        assert base64.b64decode(masks.confidence_mask) == client.confidence_mask(job.id)
        assert one.segments == client.segments(job.id).segments
        assert one.annotation_specs == job.annotation_specs
    summary = told(http.get(f"/v1/batches/{batch}/summary"))
    assert (summary["succeeded"], summary["categories"][0]["displayName"]) == (7, "disc")


def test_what_is_wrong_with_an_item_is_its_own_fault(
    http: httpx.Client, artifacts: S3ArtifactStore, disc: bytes
) -> None:
    artifacts.put("batch/disc.png", disc, "image/png", bucket="imports")
    good = {"id": "good", "image": "s3://imports/batch/disc.png"}
    wrong: list[tuple[Any, str]] = [
        ("no json", "malformed_request"),
        ({"image": "s3://imports/absent.png"}, "image_unreachable"),
        ({"image": "s3://maskline/keys/x"}, "image_unreachable"),
        ({"image": "s3://imports/" + "k" * 300}, "image_unreachable"),
        ({"image": "s3://imports/" + "k/" * 1500}, "image_unreachable"),
        ({"image": "s3://imports/../../x"}, "image_unreachable"),
        ({"image": "s3://imports/a\u0000b"}, "image_unreachable"),
        ({"image": "s3://imports/%00?x#y"}, "image_unreachable"),
        ({"image": "s3://imports/batch/"}, "image_unreachable"),
        ({"image": "http://127.0.0.1:1/x.png"}, "image_unreachable"),
        ({"image": {"pack": 1, "offset": 0, "length": 9}}, "image_unreachable"),
        ({"image": {"pack": 1 << 40, "offset": 1 << 40, "length": 1}}, "image_unreachable"),
        ({"image": {"pack": 1, "offset": 1 << 80, "length": 1}}, "invalid_request"),
        ({"image": {"pack": 9, "offset": 0, "length": 1 << 40}}, "image_too_large"),
        ({**good, "prompts": [{"label": "x", "box": [0, 0, 500, 500]}], "id": "out"}, "invalid_request"),
        ({**good, "parameters": {"confidenceThreshold": 7}, "id": "more"}, "invalid_request"),
        (good, "repeated_item"),
    ]
    lines = [good, *(item for item, _ in wrong), {**good, "id": "last"}]
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    answer = http.post("/v1/batches", files={"manifest": ("items.jsonl", text.encode())})
    ended = wait_for_end(http, told(answer)["id"])
    assert [one.id for one in results(http, ended["id"])] == ["good", "last"]
    assert [(one.line, one.error.code) for one in errors(http, ended["id"])] == [
        (line, code) for line, (_, code) in enumerate(wrong, 2)
    ]


def kill_the_worker(stack: Stack) -> None:
    """Return when another was started in its place."""
    pid = stack.process("worker-1").pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    until(lambda: stack.process("worker-1").pid not in {None, pid})


def wait_for_items(http: httpx.Client, batch: str, least: int) -> dict[int, str]:
    """The chunks that have ended, once so many items are done."""
    until(lambda: state_of(http, batch)["counts"]["succeeded"] >= least)
    return attempts(http, batch)


def test_a_batch_outlives_its_workers(own_stack: Stack) -> None:
    with http_of(own_stack) as http:
        batch = upload(http, [picture_of(n) for n in range(ITEMS)])
        before: dict[int, str] = {}
        for least in (40, 120):
            before |= wait_for_items(http, batch, least)
            kill_the_worker(own_stack)
        assert_each_once(http, batch, ITEMS)
        assert before.items() <= attempts(http, batch).items()  # none of them was run again


def test_a_batch_outlives_the_memory_of_redis(own_stack: Stack) -> None:
    with (
        http_of(own_stack) as http,
        redis.Redis.from_url(own_stack.environment["MASKLINE_REDIS_URL"]) as server,
    ):
        batch = upload(http, [picture_of(n) for n in range(ITEMS)])
        before = wait_for_items(http, batch, 100)
        assert before
        server.flushall()
        until(lambda: http.get("/readyz").status_code == 200)
        assert_each_once(http, batch, ITEMS)
        assert before.items() <= attempts(http, batch).items()  # none of them was run again
        server.flushall()
        until(lambda: http.get("/readyz").status_code == 200)
        after = wait_for_end(http, batch)
        assert after["counts"]["succeeded"] == ITEMS
        assert before.items() <= attempts(http, batch).items()
