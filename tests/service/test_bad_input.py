"""Everything that a client can get wrong: each with its status, its code, and words that help."""

import base64
import json
import socket
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPResponse
from typing import Any

import httpx
import numpy as np
import pytest

from maskline.resources import Problem
from tests.factories import encoded, picture

PNG = encoded(picture(), "PNG")
JPEG = encoded(picture(), "JPEG")


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size, with a little data."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + data + chunk(b"IEND", b"")


@dataclass(frozen=True)
class Bad:
    name: str
    status: int
    code: str
    words: str
    body: bytes = PNG
    request: Any = None
    pointer: str | None = None


BOX = {"label": "a", "box": [1, 1, 20, 20]}
CASES = (
    Bad("empty image", 422, "image_unreadable", "empty", body=b""),
    Bad("text", 422, "image_unreadable", "no image", body=b"hello, world" * 10),
    Bad("PDF", 415, "unsupported_image_type", "PDF", body=b"%PDF-1.7\n" + bytes(100)),
    Bad("SVG", 415, "unsupported_image_type", "SVG", body=b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
    Bad("header only", 422, "image_unreadable", "no image", body=PNG[:20]),
    Bad("too many bytes", 413, "image_too_large", "3000000", body=PNG + bytes(3_000_001)),
    Bad("bomb", 413, "image_too_large", "2000000", body=png_header(2900, 2900)),
    Bad("long side", 413, "image_too_large", "3000", body=png_header(3001, 1)),
    Bad("unknown model", 404, "model_not_found", "grabcut", request={"model": "no_such_model"}),
    Bad("unknown field", 422, "invalid_request", "no such field", request={"promts": []}, pointer="/promts"),
    Bad("wrong type", 422, "invalid_request", "JSON array", request={"prompts": 3}, pointer="/prompts"),
    Bad(
        "box outside", 422, "invalid_request", "96 x 64", pointer="/prompts/0/box",
        request={"prompts": [{"label": "a", "box": [10, 10, 97, 20]}]},
    ),
    Bad(
        "point outside", 422, "invalid_request", "96 x 64", pointer="/prompts/0/points/1",
        request={"prompts": [{"label": "a", "points": [[1, 1], [5, 65]]}]},
    ),
    Bad(
        "box without area", 422, "invalid_request", "no area", pointer="/prompts/0/box",
        request={"prompts": [{"label": "a", "box": [10, 10, 10, 20]}]},
    ),
    Bad(
        "mask of another size", 422, "invalid_request", "[64, 96]", pointer="/prompts/0/mask/size",
        request={"prompts": [{"label": "a", "mask": {"size": [96, 64], "counts": "0PP6"}}]},
    ),
    Bad(
        "mask that is none", 422, "invalid_request", "cut off", pointer="/prompts/0/mask/counts",
        request={"prompts": [{"label": "a", "mask": {"size": [64, 96], "counts": "PPP"}}]},
    ),
    Bad(
        "mask for GrabCut", 422, "invalid_request", "takes no mask prompts", pointer="/prompts/0/mask",
        request={"prompts": [{"label": "a", "mask": {"size": [64, 96], "counts": "0PP6"}}]},
    ),
    Bad(
        "prompt of nothing", 422, "invalid_request", "neither", pointer="/prompts/0/points",
        request={"prompts": [{"label": "a"}]},
    ),
    Bad(
        "point labels do not fit", 422, "invalid_request", "one label for each",
        pointer="/prompts/0/pointLabels",
        request={"prompts": [{"label": "a", "points": [[1, 1]], "pointLabels": [1, 0]}]},
    ),
    Bad(
        "too many prompts", 422, "invalid_request", "at most 1024 items, not 1025", pointer="/prompts",
        request={"prompts": [{"label": "a", "box": [1, 1, 5, 5]}] * 1025},
    ),
    Bad(
        "no label", 422, "invalid_request", "required", pointer="/prompts/0/label",
        request={"prompts": [{"box": [1, 1, 5, 5]}]},
    ),
    Bad(
        "infinite coordinate", 400, "malformed_request", "JSON",
        request='{"prompts": [{"label": "a", "box": [0, 0, 1e999, 5]}',
    ),
    Bad("not JSON", 400, "malformed_request", "JSON", request="{"),
    Bad(
        "panoptic", 422, "invalid_request", "instance", request={"subtask": "panoptic"}, pointer="/subtask"
    ),
    Bad(
        "threshold", 422, "invalid_request", "1.5", pointer="/parameters/confidenceThreshold",
        request={"parameters": {"confidenceThreshold": 1.5}},
    ),
    Bad(
        "unknown parameter", 422, "invalid_request", "it has confidenceThreshold, iterations, maxSide",
        pointer="/parameters/treshold",
        request={"parameters": {"treshold": 0.5}},
    ),
    Bad("no outputs", 422, "invalid_request", "at least 1", request={"outputs": []}, pointer="/outputs"),
    Bad("expires at once", 422, "invalid_request", "60", request={"expiresIn": 1}, pointer="/expiresIn"),
    Bad(
        "large metadata", 422, "invalid_request", "4096", request={"metadata": {"a": "x" * 5000}},
        pointer="/metadata",
    ),
    Bad(
        "webhook by ftp", 422, "invalid_request", "an http or https URL", pointer="/webhook/url",
        request={"webhook": {"url": "ftp://example.com"}},
    ),
)  # fmt: skip


def problem_of(answer: httpx.Response) -> Problem:
    assert answer.headers["content-type"] == "application/problem+json"
    problem = Problem.model_validate_json(answer.content)
    assert problem.status == answer.status_code
    assert problem.instance == answer.headers["x-request-id"]
    return problem


def submit(http: httpx.Client, body: bytes, request: str) -> httpx.Response:
    image, text = ("a", body), (None, request, "application/json")
    return http.post("/v1/jobs", files=[("image", image), ("request", text)])


@pytest.mark.parametrize("bad", CASES, ids=lambda bad: bad.name)
def test_each_fault_is_told(http: httpx.Client, bad: Bad) -> None:
    before = http.get("/v1/jobs", params={"pageSize": 1}).json()
    text = bad.request if isinstance(bad.request, str) else json.dumps(bad.request or {})
    answer = submit(http, bad.body, text)
    problem = problem_of(answer)
    assert (problem.status, problem.code) == (bad.status, bad.code), problem
    told = problem.detail + "".join(fault.detail for fault in problem.errors or ())
    assert bad.words in told
    if bad.pointer is not None:
        assert bad.pointer in {fault.pointer for fault in problem.errors or ()}
    assert http.get("/v1/jobs", params={"pageSize": 1}).json() == before, "a refused request left a job"


def test_all_faults_are_told_at_once(http: httpx.Client) -> None:
    request = {
        "subtask": "panoptic",
        "prompts": [BOX, {"label": "b", "box": [0, 0, 200, 1]}, {"label": "c", "points": [[-1, 0]]}],
        "parameters": {"iterations": 0, "confidenceThreshold": "high"},
    }
    problem = problem_of(submit(http, PNG, json.dumps(request)))
    assert {fault.pointer for fault in problem.errors or ()} == {
        "/subtask",
        "/prompts/1/box",
        "/prompts/2/points/0",
        "/parameters/iterations",
        "/parameters/confidenceThreshold",
    }


def raw(http: httpx.Client, headers_and_body: bytes) -> httpx.Response:
    """The answer to a submission that httpx would not send."""
    url, key = http.base_url, http.headers["authorization"]
    head = f"POST /v1/jobs HTTP/1.1\r\nHost: {url.host}\r\nAuthorization: {key}\r\n".encode()
    with socket.create_connection((url.host, url.port or 80), 20) as connection:
        connection.sendall(head + headers_and_body)
        answer = HTTPResponse(connection)
        answer.begin()
        return httpx.Response(answer.status, headers=answer.getheaders(), content=answer.read())


REQUESTS: dict[str, tuple[Callable[[httpx.Client], httpx.Response], int, str]] = {
    "no image part": (
        lambda http: http.post("/v1/jobs", files={"request": (None, "{}", "application/json")}),
        400,
        "malformed_request",
    ),
    "unknown part": (
        lambda http: http.post("/v1/jobs", files={"image": ("a", PNG), "images": ("b", PNG)}),
        400,
        "malformed_request",
    ),
    "part without a name": (
        lambda http: http.post(
            "/v1/jobs",
            content=b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n",
            headers={"Content-Type": "multipart/form-data; boundary=b"},
        ),
        400,
        "malformed_request",
    ),
    "query beside a multipart body": (
        lambda http: http.post("/v1/jobs?model=grabcut", files={"image": ("a", PNG)}),
        422,
        "invalid_request",
    ),
    "large request part": (
        lambda http: http.post(
            "/v1/jobs",
            files={
                "image": ("a", PNG),
                "request": (None, json.dumps({"metadata": {"a": "b" * 1_100_000}}), "application/json"),
            },
        ),
        422,
        "invalid_request",
    ),
    "form body": (lambda http: http.post("/v1/jobs", data={"image": "x"}), 415, "unsupported_media_type"),
    "no content type": (lambda http: http.post("/v1/jobs", content=PNG), 415, "unsupported_media_type"),
    "damaged chunks": (
        lambda http: raw(
            http, b"Content-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n"
        ),
        400,
        "malformed_request",
    ),
    "empty JSON": (
        lambda http: http.post("/v1/jobs", content=b"", headers={"Content-Type": "application/json"}),
        400,
        "malformed_request",
    ),
    "JSON list": (lambda http: http.post("/v1/jobs", json=[1]), 422, "invalid_request"),
    "wrong base64": (
        lambda http: http.post("/v1/jobs", json={"image": {"content": "a?b"}}),
        422,
        "invalid_request",
    ),
    "two images": (
        lambda http: http.post(
            "/v1/jobs", json={"image": {"content": "YQ==", "url": "https://example.com/a.png"}}
        ),
        422,
        "invalid_request",
    ),
    "empty raw body": (
        lambda http: http.post("/v1/jobs", content=b"", headers={"Content-Type": "image/png"}),
        422,
        "image_unreadable",
    ),
    "large raw body": (
        lambda http: http.post("/v1/jobs", content=bytes(4_000_000), headers={"Content-Type": "image/png"}),
        413,
        "body_too_large",
    ),
    "JSON in the query that is none": (
        lambda http: http.post(
            "/v1/jobs", params={"prompts": "["}, content=PNG, headers={"Content-Type": "image/png"}
        ),
        422,
        "invalid_request",
    ),
    "deeply nested JSON in the query": (
        lambda http: http.post(
            "/v1/jobs", params={"metadata": "[" * 1200}, content=PNG, headers={"Content-Type": "image/png"}
        ),
        422,
        "invalid_request",
    ),
    "half a surrogate pair": (
        lambda http: http.post(
            "/v1/jobs",
            params={"metadata": '{"a": "\\ud800"}'},
            content=PNG,
            headers={"Content-Type": "image/png"},
        ),
        422,
        "invalid_request",
    ),
    "parameters that are no number": (
        lambda http: submit(http, PNG, '{"parameters": {"confidenceThreshold": NaN}}'),
        400,
        "malformed_request",
    ),
    "webhook secret that is no base64": (
        lambda http: submit(
            http,
            PNG,
            json.dumps({"webhook": {"url": "https://example.com", "secret": "whsec_A=" + "A" * 32}}),
        ),
        422,
        "invalid_request",
    ),
    "unknown query parameter": (
        lambda http: http.get("/v1/jobs", params={"stat": "queued"}),
        422,
        "invalid_request",
    ),
    "unknown state": (lambda http: http.get("/v1/jobs", params={"state": "done"}), 422, "invalid_request"),
    "wrong page token": (
        lambda http: http.get("/v1/jobs?pageToken=x"),
        422,
        "invalid_request",
    ),
    "negative wait": (lambda http: http.get("/v1/jobs/x", params={"wait": -1}), 422, "invalid_request"),
    "unknown job": (lambda http: http.get("/v1/jobs/x"), 404, "job_not_found"),
    "unknown job's mask": (lambda http: http.get("/v1/jobs/x/categoryMask.png"), 404, "job_not_found"),
    "cancel an unknown job": (lambda http: http.post("/v1/jobs/x:cancel"), 404, "job_not_found"),
    "delete an unknown job": (lambda http: http.delete("/v1/jobs/x"), 404, "job_not_found"),
    "unknown model's card": (lambda http: http.get("/v1/models/a/b"), 404, "model_not_found"),
    "unknown route": (lambda http: http.get("/v1/nothing"), 404, "route_not_found"),
    "wrong method": (lambda http: http.put("/v1/jobs"), 405, "method_not_allowed"),
    "unknown key": (lambda http: http.delete("/v1/keys/x"), 404, "key_not_found"),
    "key for too long": (
        lambda http: http.post("/v1/keys", json={"name": "x", "expiresIn": 10**14}),
        422,
        "invalid_request",
    ),
    "key that is no JSON": (lambda http: http.post("/v1/keys", content=b"{"), 400, "malformed_request"),
    "foreign signature": (
        lambda http: http.get("/v1/artifacts/x?expires=1&signature=%C3%A9"),
        404,
        "artifact_not_found",
    ),
    "key without a name": (lambda http: http.post("/v1/keys", json={}), 422, "invalid_request"),
    "long idempotency key": (
        lambda http: http.post(
            "/v1/jobs", content=PNG, headers={"Content-Type": "image/png", "Idempotency-Key": "k" * 300}
        ),
        422,
        "invalid_request",
    ),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_each_wrong_request_is_refused(http: httpx.Client, name: str) -> None:
    send, status, code = REQUESTS[name]
    problem = problem_of(send(http))
    assert (problem.status, problem.code) == (status, code), problem


def test_a_key_is_needed_and_must_be_good(http: httpx.Client) -> None:
    for headers in ({}, {"Authorization": "Bearer x"}, {"Authorization": "Basic x"}, {"X-API-Key": "mk_a_b"}):
        answer = httpx.get(f"{http.base_url}/v1/jobs", headers=headers)
        assert problem_of(answer).code == "unauthenticated"
        assert answer.headers["www-authenticate"] == "Bearer"
    key = http.headers["authorization"].removeprefix("Bearer ")
    assert httpx.get(f"{http.base_url}/v1/jobs", headers={"X-API-Key": key}).status_code == 200


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (JPEG[: len(JPEG) * 2 // 3], "image_unreadable"),
        (PNG[: len(PNG) // 2], "image_unreadable"),
        (png_header(100, 100), "image_unreadable"),
        (encoded(np.zeros((4, 4), np.float32), "TIFF"), "image_unreadable"),
    ],
    ids=["cut JPEG", "cut PNG", "too little data", "floating point"],
)
def test_what_only_the_worker_sees_fails_the_job(http: httpx.Client, body: bytes, code: str) -> None:
    answer = http.post("/v1/jobs", content=body, headers={"Content-Type": "image/png", "Prefer": "wait=30"})
    assert answer.status_code == 200, answer.text
    job = answer.json()
    assert (job["state"], job["error"]["code"]) == ("failed", code)
    result = http.get(f"/v1/jobs/{job['id']}/prediction")
    assert (result.status_code, problem_of(result).code) == (409, "job_without_result")


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest",
        "http://localhost:1/a.png",
        "http://[::1]/a.png",
        "http://nowhere.invalid/",
    ],
)
def test_an_image_url_must_be_public(http: httpx.Client, url: str) -> None:
    answer = http.post("/v1/jobs", json={"image": {"url": url}}, headers={"Prefer": "wait=30"})
    job = answer.json()
    assert (job["state"], job["error"]["code"]) == ("failed", "image_unreachable")


def test_base64_in_json_is_measured_like_any_image(http: httpx.Client) -> None:
    content = base64.b64encode(PNG + bytes(3_000_001)).decode()
    problem = problem_of(http.post("/v1/jobs", json={"image": {"content": content}}))
    assert (problem.status, problem.code) == (413, "image_too_large")


def test_a_result_is_not_there_before_its_time(http: httpx.Client, coffee: bytes) -> None:
    answers = [
        http.post(
            "/v1/jobs",
            content=coffee,
            params={"parameters": '{"iterations": 20, "maxSide": 600}'},
            headers={"Content-Type": "image/png"},
        )
        for _ in range(4)
    ]
    assert {answer.status_code for answer in answers} == {202}
    assert {answer.headers["retry-after"] for answer in answers} == {"1"}
    last = answers[-1].json()
    assert (last["state"], "place" in last) == ("queued", True)
    result = http.get(f"/v1/jobs/{last['id']}/prediction")
    assert (result.status_code, problem_of(result).code) == (409, "job_not_finished")
    for answer in answers:
        job_id = answer.json()["id"]
        assert http.post(f"/v1/jobs/{job_id}:cancel").json()["state"] in {"cancelled", "succeeded"}
