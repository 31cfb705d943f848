"""Batches by both clients, against a service that is played."""

import json
from io import BytesIO
from typing import Any

import httpx
import pytest

from maskline.batch_resources import BatchStatus, NewBatch
from maskline.batch_results import ItemResult
from maskline.client import ApiError, BatchDidNotSucceed, Client, ConnectionFailed, Unavailable
from maskline.client.asynchronous_batches import AsyncBatches
from maskline.client.batches import Batches
from maskline.client.requests import MAX_RETRIES, LineParser
from tests.unit.client.test_client import URL, Connect, Service, _Chunks, connect, problem

__all__ = ["connect"]  # the fixture

BATCH: dict[str, Any] = {
    "id": "b/1",
    "state": "queued",
    "model": "grabcut",
    "subtask": "semantic",
    "items": 2,
    "isAllRead": True,
    "isComplete": True,
    "parts": 1,
    "counts": dict.fromkeys(("queued", "running", "succeeded", "failed", "cancelled", "flagged"), 0),
    "createdAt": "2026-01-02T03:04:05Z",
    "fieldOfTheFuture": 1,
}
RESULT: dict[str, Any] = {
    "id": "ä\u2028",
    "line": 1,
    "prediction": {},
    "width": 1,
    "height": 1,
    "bitDepth": 8,
    "annotationSpecs": [],
    "segments": [],
    "meanConfidence": 0.5,
    "timings": dict.fromkeys(("fetch", "decode", "model", "batch", "render"), 1.0),
}
ONE = "/prefix/v1/batches/b%2F1"


def answer(status: int = 200, **fields: Any) -> httpx.Response:
    return httpx.Response(status, json=BATCH | fields)


def path_of(request: httpx.Request) -> str:
    return request.url.raw_path.decode()


def batches_of(connect: Connect, service: Service) -> Any:
    """Those of the client, to be used like those of ``Client``."""
    client = connect(service)
    if isinstance(client, Client):
        return client.batches
    inner = client._client.batches
    return type(client)(inner, client._runner)


def test_both_clients_have_the_same_methods() -> None:
    def public(one: type) -> set[str]:
        return {name for name in vars(one) if not name.startswith("_")}

    assert public(Batches) == public(AsyncBatches)


def test_a_batch_is_made_safely(connect: Connect) -> None:
    service = Service(httpx.ConnectError("gone"), answer(202))
    made = batches_of(connect, service).create(NewBatch(model="grabcut", display_name="mugs"))
    assert (made.id, made.state) == ("b/1", BatchStatus.QUEUED)
    first, second = service.requests
    assert first.headers["Idempotency-Key"] == second.headers["Idempotency-Key"]
    assert json.loads(second.content) == {"model": "grabcut", "displayName": "mugs"}
    batches_of(connect, service).create(NewBatch(), idempotency_key="mine")
    assert service.request.headers["Idempotency-Key"] == "mine"


@pytest.mark.parametrize("verb", ["complete", "pause", "resume", "cancel", "retry"])
def test_a_batch_is_steered(connect: Connect, verb: str) -> None:
    service = Service(answer(state="running"))
    assert getattr(batches_of(connect, service), verb)("b/1").state is BatchStatus.RUNNING
    assert (service.request.method, path_of(service.request)) == ("POST", f"{ONE}:{verb}")


def test_parts_and_packs_are_uploaded(connect: Connect) -> None:
    service = Service(httpx.Response(204), answer(parts=7))
    batches = batches_of(connect, service)
    batches.put_pack("b/1", 3, b"images")
    assert batches.put_part("b/1", 7, b"{}\n").parts == 7
    pack, part = service.requests
    assert (pack.method, path_of(pack), pack.content) == ("PUT", f"{ONE}/packs/3", b"images")
    assert (part.method, path_of(part), part.content) == ("PUT", f"{ONE}/parts/7", b"{}\n")


def test_all_pages_are_listed(connect: Connect) -> None:
    service = Service(
        httpx.Response(200, json={"batches": [BATCH], "nextPageToken": "1"}),
        httpx.Response(200, json={"batches": [BATCH | {"id": "b2"}]}),
    )
    assert [one.id for one in batches_of(connect, service).list()] == ["b/1", "b2"]
    assert [one.url.params.get("pageToken") for one in service.requests] == [None, "1"]


def test_the_end_is_waited_for(connect: Connect) -> None:
    service = Service(answer(), answer(state="running"), answer(state="succeeded"))
    seen: list[Any] = []
    assert batches_of(connect, service).wait("b/1", on_update=seen.append).state is BatchStatus.SUCCEEDED
    assert [one.state for one in seen] == ["queued", "running", "succeeded"]
    assert len(service.naps) == 2


@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_an_end_without_success(connect: Connect, state: str) -> None:
    service = Service(answer(state=state, error={"code": "cancelled", "message": "why"}))
    with pytest.raises(BatchDidNotSucceed, match=f"the batch b/1 is {state}: cancelled: why"):
        batches_of(connect, service).wait("b/1")


def test_lines_come_as_they_are(connect: Connect) -> None:
    """In chunks that end anywhere; and U+2028 ends no line."""
    body = "".join(json.dumps(RESULT | {"line": n}, ensure_ascii=False) + "\n" for n in (1, 2)).encode()
    chunks = [body[start : start + 7] for start in range(0, len(body), 7)]
    service = Service(httpx.Response(200, stream=_Chunks(chunks)))
    found: list[ItemResult] = list(batches_of(connect, service).results("b/1"))
    assert [(one.id, one.line) for one in found] == [("ä\u2028", 1), ("ä\u2028", 2)]
    assert path_of(service.request) == f"{ONE}/results"


def test_lines_that_break_off(connect: Connect) -> None:
    service = Service(httpx.Response(200, stream=_Chunks([b'{"id":'], httpx.ReadError("broken off"))))
    with pytest.raises(ConnectionFailed, match="broken off"):
        list(batches_of(connect, service).errors("b/1"))


def test_lines_that_are_refused(connect: Connect) -> None:
    service = Service(problem(404, "batch_not_found"))
    with pytest.raises(ApiError, match="batch_not_found"):
        list(batches_of(connect, service).review("b/1"))


def test_an_export_is_waited_for_and_asked_for_again(connect: Connect) -> None:
    service = Service(
        httpx.Response(202, json={"format": "coco", "state": "running"}),
        problem(503, "job_store_unavailable"),
        httpx.Response(200, stream=_Chunks([b"half"], httpx.ReadError("broken off"))),
        httpx.Response(200, content=b"whole"),
    )
    file = BytesIO(b"before ")
    file.seek(7)
    batches_of(connect, service).export("b/1", "coco", file, polygons=True)
    assert file.getvalue() == b"before whole"
    assert path_of(service.request) == f"{ONE}/exports/coco?polygons=true"
    assert len(service.naps) == 3


def test_the_formats_of_exports(connect: Connect) -> None:
    service = Service(httpx.Response(200, json={"exportFormats": ["coco", "voc"]}))
    assert batches_of(connect, service).export_formats() == ("coco", "voc")
    assert path_of(service.request) == "/prefix/v1/exportFormats"


def test_an_export_that_can_not_be_made(connect: Connect) -> None:
    service = Service(problem(422, "export_failed"))
    with pytest.raises(ApiError, match="export_failed"):
        batches_of(connect, service).export("b/1", "../x", BytesIO())
    assert path_of(service.request) == f"{ONE}/exports/..%2Fx"


def test_a_service_that_stays_away_from_an_export(connect: Connect) -> None:
    service = Service(problem(503, "job_store_unavailable"))
    with pytest.raises(Unavailable):
        batches_of(connect, service).export("b/1", "coco", BytesIO())
    assert len(service.requests) == MAX_RETRIES + 1


def test_files_are_asked_for_without_the_key(connect: Connect) -> None:
    service = Service(httpx.Response(200, content=b"lines"))
    assert batches_of(connect, service).file("https://elsewhere.test/a?signature=s") == b"lines"
    assert "authorization" not in service.request.headers
    assert URL not in str(service.request.url)


def test_a_file_out_of_reach_is_told_of_without_its_signature(connect: Connect) -> None:
    service = Service(httpx.ConnectError("refused"))
    with pytest.raises(ConnectionFailed, match=r"https://elsewhere.test/a can't be reached: refused"):
        batches_of(connect, service).file("https://elsewhere.test/a?signature=s")


def test_a_batch_is_deleted(connect: Connect) -> None:
    service = Service(httpx.Response(204))
    batches_of(connect, service).delete("b/1")
    assert (service.request.method, path_of(service.request)) == ("DELETE", ONE)


def test_the_lines_of_a_body_without_an_end() -> None:
    parser = LineParser()
    assert list(parser.feed(b"a\nb")) == [b"a"]
    assert list(parser.feed(b"\r\n\n")) == [b"b\r", b""]
