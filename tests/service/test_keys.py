"""Keys against the running service: none of them is found in a log, wherever a client puts it."""

import base64
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from maskline import ApiError, Client
from maskline.keys import Scope
from maskline.local import Stack
from tests.factories import encoded, picture

PNG = encoded(picture(), "PNG")
IMAGE = {"type": "base64", "value": base64.b64encode(PNG).decode()}


def raw(stack: Stack, text: str) -> bytes:
    """The answer to what no library would send."""
    url = urlsplit(stack.url)
    with socket.create_connection((url.hostname or "", url.port or 80), 20) as connection:
        connection.sendall(text.encode())
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    return answer


def logs(stack: Stack) -> dict[Path, str]:
    return {file: file.read_text("utf-8", "replace") for file in stack.log_dir.glob("*.log")}


def test_no_key_and_no_signed_url_is_in_a_log(stack: Stack, client: Client) -> None:
    made = client.create_key("told", tenant="told", scopes=list(Scope))
    key, secret = made.key, made.key.rpartition("_")[2]
    wrong = key[:-8] + "0" * 8
    with httpx.Client(base_url=stack.url, timeout=60) as http:
        for one in (key, wrong):
            ways: list[dict[str, Any]] = [
                {"headers": {"Authorization": f"Bearer {one}"}},
                {"headers": {"Authorization": f"Bearer: {one}"}},
                {"headers": {"X-API-Key": one}},
                {"headers": {"X-Goog-Api-Key": one}},
                {"params": {"api_key": one}},
            ]
            statuses = []
            for way in ways:
                body = {"model_id": "grabcut", "image": IMAGE}
                http.post("/v1/jobs", content=b"no image", **way)
                http.get("/v1/nothing", **way)
                statuses.append(http.post("/infer/instance_segmentation", json=body, **way).status_code)
                statuses.append(
                    http.post("/infer/instance_segmentation", json=body | {"api_key": one}).status_code
                )
            assert set(statuses) == ({200} if one == key else {401})
        mine = {"Authorization": f"Bearer {key}"}
        job = http.post(
            "/v1/jobs", content=PNG, headers=mine | {"Content-Type": "image/png", "Prefer": "wait=30"}
        )
        mask = job.json()["prediction"]["categoryMask"]
        assert http.get(mask).status_code == 200
        assert http.get(mask + "0").status_code == 404
    for line in (f"GET /v1/jobs?api_key={key} HTTP/9.9", f"G\tT /?api_key={key} HTTP/1.1", f"GET /{key}"):
        raw(stack, f"{line}\r\nHost: x\r\nX-API-Key: {key}\r\n\r\n")
    raw(stack, f"GET /v1/jobs HTTP/1.1\r\nHost: x\r\nX API Key: {key}\r\n\r\n")
    seen = logs(stack)
    assert {"api.log", "worker-1.log"} <= {file.name for file in seen}
    assert f"mk_{made.id}_[hidden]" in "".join(seen.values()), "gunicorn tells of broken requests"
    known = [secret, stack.api_key, *(v for n, v in stack.environment.items() if "SECRET" in n)]
    for file, text in seen.items():
        for hidden in (*known, mask.partition("signature=")[2], "X-Amz-Signature=0"):
            assert hidden not in text, file
        assert "Signature=" not in text.replace("Signature=[hidden]", ""), file


def test_a_revoked_key_and_another_tenant_s_see_nothing(stack: Stack, client: Client) -> None:
    made = client.create_key("short", tenant="short")
    job = client.submit(PNG)
    with Client(stack.url, made.key) as other:
        assert list(other.list()) == []
        with pytest.raises(ApiError, match="job_not_found"):
            other.get(job.id)
        with pytest.raises(ApiError, match="forbidden"):
            other.keys()
        client.revoke_key(made.id)
        with pytest.raises(ApiError, match="unauthenticated"):
            other.get(job.id)
