"""Both clients against a service that is played: each test runs with ``Client`` and with ``AsyncClient``."""

import asyncio
import inspect
import itertools
import json
import re
from collections.abc import Callable, Coroutine, Iterator
from datetime import UTC, datetime
from email.parser import BytesParser
from email.policy import HTTP
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol, cast

import httpx
import pytest
from pydantic import ValidationError

from maskline.client import (
    ApiError,
    AsyncClient,
    Client,
    ConnectionFailed,
    JobDidNotSucceed,
    MasklineError,
    Unavailable,
    WaitTimeout,
)
from maskline.client.requests import MAX_RETRIES
from maskline.jobs import JobState
from maskline.requests import Prompt

URL = "https://maskline.test/prefix"
JOB: dict[str, Any] = {
    "id": "j1",
    "state": "queued",
    "version": 1,
    "model": "grabcut",
    "subtask": "semantic",
    "outputs": ["categoryMask"],
    "priority": "interactive",
    "createdAt": "2026-01-02T03:04:05Z",
    "expiresAt": "2026-01-03T03:04:05Z",
    "attempt": 0,
}
Step = httpx.Response | Exception


def job(**fields: Any) -> dict[str, Any]:
    return JOB | fields


def answer(status: int = 200, **fields: Any) -> httpx.Response:
    return httpx.Response(status, json=job(**fields))


def problem(status: int, code: str, headers: dict[str, str] | None = None, **fields: Any) -> httpx.Response:
    body = {"type": "about:blank", "title": "t", "status": status, "code": code, "detail": "why"} | fields
    return httpx.Response(status, json=body, headers=headers)


def events(*chunks: str | bytes) -> httpx.Response:
    return httpx.Response(
        200,
        headers={"Content-Type": "text/event-stream"},
        stream=_Chunks([c.encode() if isinstance(c, str) else c for c in chunks]),
    )


def event(**fields: Any) -> str:
    return f"id: 1\nevent: job\ndata: {json.dumps(job(**fields), ensure_ascii=False)}\n\n"


class _Chunks(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body that comes in these parts; an exception among them breaks it off."""

    def __init__(self, chunks: list[bytes], failure: Exception | None = None) -> None:
        self._chunks = chunks
        self._failure = failure

    def __iter__(self) -> Iterator[bytes]:
        yield from self._chunks
        if self._failure is not None:
            raise self._failure

    async def __aiter__(self) -> Any:
        for chunk in self:
            yield chunk


class Service:
    """Plays the service: gives the steps one by one (the last one again and again), keeps the requests."""

    def __init__(self, *steps: Step) -> None:
        self._steps = itertools.chain(steps, itertools.repeat(steps[-1]))
        self.requests: list[httpx.Request] = []
        self.naps: list[float] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.requests.append(request)
        step = next(self._steps)
        if isinstance(step, Exception):
            raise step
        if isinstance(step.stream, _Chunks):
            return httpx.Response(step.status_code, headers=step.headers, stream=step.stream)
        return httpx.Response(step.status_code, headers=step.headers, content=step.content)

    def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)

    async def nap(self, seconds: float) -> None:
        self.naps.append(seconds)

    @property
    def request(self) -> httpx.Request:
        return self.requests[-1]


class Blocking:
    """An ``AsyncClient`` that is used like a ``Client``."""

    def __init__(self, client: AsyncClient, runner: asyncio.Runner) -> None:
        self._client = client
        self._runner = runner

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            result = getattr(self._client, name)(*args, **kwargs)
            if inspect.isasyncgen(result):
                return self._items(result)
            return self._runner.run(cast("Coroutine[Any, Any, Any]", result))

        return call

    def _items(self, generator: Any) -> Iterator[Any]:
        try:
            while True:
                try:
                    yield self._runner.run(anext(generator))
                except StopAsyncIteration:
                    return
        finally:
            self._runner.run(generator.aclose())


class Connect(Protocol):
    def __call__(self, service: Service, *, url: str | None = URL, api_key: str | None = "k") -> Client: ...


@pytest.fixture(params=["Client", "AsyncClient"])
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    clients: list[Client] = []
    with asyncio.Runner() as runner:

        def make(service: Service, *, url: str | None = URL, api_key: str | None = "k") -> Client:
            transport = httpx.MockTransport(service)
            if request.param == "Client":
                client = Client(url, api_key, transport=transport, sleep=service.sleep)
            else:
                plain = AsyncClient(url, api_key, transport=transport, sleep=service.nap)
                client = cast("Client", Blocking(plain, runner))
            clients.append(client)
            return client

        yield make
        for client in clients:
            client.close()


# --- where the service is


def test_the_url_keeps_its_path_and_the_key_is_sent(connect: Connect) -> None:
    service = Service(answer())
    connect(service).get("a/b")
    assert str(service.request.url) == f"{URL}/v1/jobs/a%2Fb?masks=url"
    assert service.request.headers["Authorization"] == "Bearer k"


def test_url_and_key_come_from_the_environment(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASKLINE_URL", "http://elsewhere.test/")
    monkeypatch.setenv("MASKLINE_API_KEY", "from-env")
    service = Service(answer())
    connect(service, url=None, api_key=None).get("j1")
    assert service.request.url.host == "elsewhere.test"
    assert service.request.headers["Authorization"] == "Bearer from-env"


def test_without_a_key_none_is_sent(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MASKLINE_API_KEY", raising=False)
    service = Service(answer())
    connect(service, api_key=None).get("j1")
    assert "Authorization" not in service.request.headers


@pytest.mark.parametrize("url", ["localhost:8080", "http://host:port", "ftp://host", "http://"])
def test_an_url_that_leads_nowhere_is_refused_at_once(connect: Connect, url: str) -> None:
    with pytest.raises(ConnectionFailed, match=re.escape(repr(url))):
        connect(Service(answer()), url=url)


# --- images


def parts(request: httpx.Request) -> dict[str, tuple[str | None, bytes]]:
    """A multipart body: name to (file name, content)."""
    head = f"Content-Type: {request.headers['Content-Type']}\r\n\r\n".encode()
    message = BytesParser(policy=HTTP).parsebytes(head + request.content)
    found = {}
    for part in message.iter_parts():
        name = part.get_param("name", header="content-disposition")
        found[str(name)] = (part.get_filename(), part.get_payload(decode=True))
    return cast("dict[str, tuple[str | None, bytes]]", found)


@pytest.mark.parametrize("kind", ["text path", "path", "bytes", "file"])
def test_an_image_at_hand_is_uploaded(connect: Connect, kind: str, tmp_path: Path) -> None:
    file = tmp_path / "cat.png"
    file.write_bytes(b"\x89PNG\r\n")
    image = {"text path": str(file), "path": file, "bytes": b"\x89PNG\r\n", "file": BytesIO(b"\x89PNG\r\n")}[
        kind
    ]
    service = Service(answer(202))
    connect(service).submit(image, model="grabcut")  # type: ignore[arg-type]
    found = parts(service.request)
    assert found["image"] == ("cat.png" if "path" in kind else "image", b"\x89PNG\r\n")
    assert json.loads(found["request"][1])["model"] == "grabcut"


@pytest.mark.parametrize(
    ("image", "reference"),
    [
        ("https://x.test/a.jpg", {"url": "https://x.test/a.jpg"}),
        ("http://x.test/a.jpg", {"url": "http://x.test/a.jpg"}),
        ("s3://bucket/a.jpg", {"uri": "s3://bucket/a.jpg"}),
    ],
)
def test_an_image_elsewhere_is_named(connect: Connect, image: str, reference: dict[str, str]) -> None:
    service = Service(answer(202))
    connect(service).submit(
        image,
        prompts=[Prompt(label="cat", box=(0, 0, 2, 2))],
        outputs=["overlay"],
        metadata={"kept": None},
        expires_in=60,
    )
    assert service.request.headers["Content-Type"] == "application/json"
    body = json.loads(service.request.content)
    assert body["image"] == reference
    assert body["prompts"] == [{"label": "cat", "box": [0, 0, 2, 2], "points": [], "pointLabels": []}]
    assert body["outputs"] == ["overlay"]
    assert body["metadata"] == {"kept": None}
    assert body["expiresIn"] == 60
    assert "model" not in body


def test_the_mask_of_a_segment_is_a_prompt(connect: Connect) -> None:
    mask = {"size": [2, 3], "counts": "024"}
    segment = {
        "id": 1,
        "label": "cat",
        "categoryId": 1,
        "score": 0.5,
        "bbox": [0, 0, 1, 2],
        "area": 2,
        "segmentation": mask,
    }
    segments = httpx.Response(200, json={"width": 3, "height": 2, "segments": [segment]})
    service = Service(segments, answer(202))
    client = connect(service)
    [found] = client.segments("j").segments
    client.submit("s3://bucket/a.jpg", prompts=[Prompt(label="cat", mask=found.segmentation)])
    assert json.loads(service.requests[-1].content)["prompts"] == [
        {"label": "cat", "points": [], "pointLabels": [], "mask": mask}
    ]


def test_a_file_that_is_not_there_is_an_os_error(connect: Connect, tmp_path: Path) -> None:
    service = Service(answer(202))
    with pytest.raises(FileNotFoundError):
        connect(service).submit(tmp_path / "none.png")
    assert not service.requests


def test_a_wrong_value_is_not_sent(connect: Connect) -> None:
    service = Service(answer(202))
    with pytest.raises(ValidationError):
        connect(service).submit(b"x", expires_in=1)
    assert not service.requests


def test_waiting_at_the_submission_is_a_preference(connect: Connect) -> None:
    service = Service(answer(state="succeeded"))
    connect(service).submit(b"x", wait=2.5)
    assert service.request.headers["Prefer"] == "wait=2.5"
    assert service.request.extensions["timeout"]["read"] == 32.5
    connect(service).submit(b"x")
    assert "Prefer" not in service.request.headers


def test_unknown_fields_of_the_answer_are_left_out(connect: Connect) -> None:
    assert connect(Service(answer(news=1))).get("j1").id == "j1"


# --- retries


def test_a_busy_service_is_asked_again_with_the_same_key_and_body(connect: Connect) -> None:
    service = Service(
        problem(429, "queue_full", {"Retry-After": "7"}),
        problem(503, "job_store_unavailable"),
        httpx.ConnectError("refused"),
        answer(202),
    )
    assert connect(service).submit(BytesIO(b"abc")).id == "j1"
    assert len(service.requests) == 4
    assert len({request.headers["Idempotency-Key"] for request in service.requests}) == 1
    assert {parts(request)["image"][1] for request in service.requests} == {b"abc"}
    assert service.naps[0] == 7
    assert 0.2 <= service.naps[1] <= 0.4
    assert 0.4 <= service.naps[2] <= 0.8


def test_each_submission_has_its_own_key_unless_one_is_given(connect: Connect) -> None:
    service = Service(answer(202))
    client = connect(service)
    for key in (None, None, "mine"):
        client.submit(b"x", idempotency_key=key)
    first, second, third = (request.headers["Idempotency-Key"] for request in service.requests)
    assert first != second
    assert third == "mine"


@pytest.mark.parametrize("asked", ["3600", "Wed, 21 Oct 2026 07:28:00 GMT", "-1", "²", ""])
def test_a_strange_retry_after_does_no_harm(connect: Connect, asked: str) -> None:
    refusal = httpx.Response(503, headers=[(b"Retry-After", asked.encode("latin-1"))])
    service = Service(refusal, answer())
    connect(service).get("j1")
    assert len(service.naps) == 1
    assert 0 < service.naps[0] <= 20


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_retries_come_to_an_end(connect: Connect, status: int) -> None:
    service = Service(problem(status, "busy"))
    with pytest.raises(Unavailable) as caught:
        connect(service).get("j1")
    assert (caught.value.code, caught.value.status) == ("busy", status)
    assert len(service.requests) == len(service.naps) + 1 == MAX_RETRIES + 1


@pytest.mark.parametrize(
    "error",
    [
        httpx.ConnectError("refused"),
        httpx.ReadTimeout(""),
        httpx.RemoteProtocolError("cut"),
        httpx.DecodingError("no gzip"),
    ],
)
def test_a_service_out_of_reach(connect: Connect, error: httpx.RequestError) -> None:
    service = Service(error)
    with pytest.raises(ConnectionFailed, match=r"maskline\.test.*can't be reached: \w+") as caught:
        connect(service).models()
    assert len(service.requests) == MAX_RETRIES + 1
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 415, 422])
def test_a_refusal_is_told_at_once(connect: Connect, status: int) -> None:
    service = Service(problem(status, "some_code", {"Retry-After": "1"}))
    with pytest.raises(ApiError, match="some_code") as caught:
        connect(service).delete("j1")
    assert not isinstance(caught.value, Unavailable)
    assert (caught.value.code, caught.value.status) == ("some_code", status)
    assert caught.value.problem.detail == "why"
    assert not service.naps


def test_every_fault_is_told(connect: Connect) -> None:
    faults = [
        {"pointer": "/prompts/0/box", "detail": "too wide"},
        {"parameter": "wait", "detail": "no number"},
        {"detail": "odd"},
    ]
    with pytest.raises(ApiError) as caught:
        connect(Service(problem(422, "invalid_request", errors=faults))).get("j1")
    assert str(caught.value).splitlines()[1:] == [
        "  /prompts/0/box: too wide",
        "  wait: no number",
        "  /: odd",
    ]


def test_a_refusal_that_is_no_problem_document(connect: Connect) -> None:
    with pytest.raises(ApiError, match="<h1>Gone</h1>") as caught:
        connect(Service(httpx.Response(410, text="<h1>Gone</h1>"))).get("j1")
    assert (caught.value.code, caught.value.status) == ("http_error", 410)


def test_an_internal_error_is_not_asked_again(connect: Connect) -> None:
    service = Service(problem(500, "internal_error"))
    with pytest.raises(Unavailable):
        connect(service).get("j1")
    assert len(service.requests) == 1


def test_an_answer_from_something_else_is_no_pydantic_error(connect: Connect) -> None:
    with pytest.raises(MasklineError, match="JobResource"):
        connect(Service(httpx.Response(200, text="<html>Welcome</html>"))).get("j1")


# --- listing


def test_all_pages_are_listed(connect: Connect) -> None:
    pages = [
        {"jobs": [job(id="a"), job(id="b")], "nextPageToken": "t 1"},
        {"jobs": [], "nextPageToken": "t2"},
        {"jobs": [job(id="c")]},
    ]
    service = Service(*(httpx.Response(200, json=page) for page in pages))
    found = [one.id for one in connect(service).list(state=JobState.QUEUED, model="m")]
    assert found == ["a", "b", "c"]
    assert [request.url.params.get("pageToken") for request in service.requests] == [None, "t 1", "t2"]
    assert {request.url.params["state"] for request in service.requests} == {"queued"}
    assert {request.url.params["model"] for request in service.requests} == {"m"}


def test_pages_are_fetched_when_they_are_needed(connect: Connect) -> None:
    service = Service(httpx.Response(200, json={"jobs": [JOB, JOB], "nextPageToken": "t"}))
    listing = connect(service).list()
    assert not service.requests
    assert [next(listing).id, next(listing).id] == ["j1", "j1"]
    assert len(service.requests) == 1
    cast("Any", listing).close()


# --- waiting


def test_a_wait_sees_every_state_and_gives_the_end(connect: Connect) -> None:
    service = Service(answer(), answer(state="running", version=2), answer(state="succeeded", version=3))
    seen: list[str] = []
    ended = connect(service).wait("j1", on_update=lambda one: seen.append(one.state), masks="uri")
    assert ended.state is JobState.SUCCEEDED
    assert seen == ["queued", "running", "succeeded"]
    assert [request.url.params.get("wait") for request in service.requests] == [None, "15", "15"]
    assert {request.url.params["masks"] for request in service.requests} == {"uri"}
    assert service.requests[1].extensions["timeout"]["read"] == 45


def test_a_service_that_does_not_hold_the_poll_is_not_hammered(connect: Connect) -> None:
    service = Service(answer(), answer(), answer(), answer(state="succeeded"))
    connect(service).wait("j1")
    assert len(service.naps) == 3
    assert all(0.5 < nap <= 1 for nap in service.naps)


@pytest.mark.parametrize("state", ["failed", "cancelled", "expired"])
def test_a_job_without_success(connect: Connect, state: str) -> None:
    error = {"code": "prediction_failed", "message": "no memory"} if state == "failed" else None
    with pytest.raises(JobDidNotSucceed, match=f"j1 is {state}") as caught:
        connect(Service(answer(state=state, error=error))).wait("j1")
    assert caught.value.job.state == state
    assert ("prediction_failed: no memory" in str(caught.value)) == (state == "failed")


def test_the_time_for_waiting_is_over(connect: Connect) -> None:
    service = Service(answer(state="running"))
    with pytest.raises(WaitTimeout, match="still running") as caught:
        connect(service).wait("j1", timeout=0)
    assert caught.value.job.id == "j1"
    assert len(service.requests) == 1


def test_the_last_poll_is_no_longer_than_the_time_left(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Service(answer(state="running"))
    client = connect(service)

    def now() -> float:
        return sum(float(request.url.params.get("wait", 0)) for request in service.requests)

    monkeypatch.setattr("maskline.client.sync.time.monotonic", now)
    with pytest.raises(WaitTimeout):
        client.wait("j1", timeout=20)
    assert [request.url.params.get("wait") for request in service.requests] == ["15", "5"]
    assert not service.naps


# --- events


def test_events_come_until_the_end(connect: Connect) -> None:
    text = event() + ": still there\n\n" + event(state="running", version=2) + ": still there\n\n"
    text += event(state="succeeded", version=3)
    service = Service(events(text))
    assert [one.state for one in connect(service).events("j1")] == ["queued", "running", "succeeded"]
    assert service.request.url.path == "/prefix/v1/jobs/j1/events"
    assert len(service.requests) == 1


def test_a_stream_in_pieces_and_with_other_line_ends(connect: Connect) -> None:
    text = (event(model="modèle") + ":\n\n" + event(state="failed", version=2)).replace("\n", "\r\n")
    raw = text.encode()
    service = Service(events(*(raw[i : i + 1] for i in range(len(raw)))))
    assert [one.model for one in connect(service).events("j1")] == ["modèle", "grabcut"]


def test_a_line_ends_at_no_other_character(connect: Connect) -> None:
    label = "a\u2028b\u2029c\x85d"
    service = Service(events(event(state="cancelled", metadata={"label": label})))
    (only,) = connect(service).events("j1")
    assert only.metadata == {"label": label}


def test_data_of_many_lines_makes_one_event(connect: Connect) -> None:
    lines = json.dumps(job(state="succeeded"), indent=1).splitlines()
    text = "".join(f"data:{line}\n" for line in lines) + "\n"
    assert len(list(connect(Service(events(text))).events("j1"))) == 1


def test_a_stream_that_breaks_off_is_opened_again(connect: Connect) -> None:
    broken = httpx.Response(200, stream=_Chunks([event().encode(), b"data: {"], httpx.ReadError("cut")))
    service = Service(
        httpx.ConnectError("refused"),
        problem(503, "over_capacity", {"Retry-After": "3"}),
        broken,
        events(event()),
        events(event() + event(state="succeeded", version=2)),
    )
    assert [one.version for one in connect(service).events("j1")] == [1, 2]
    assert len(service.requests) == 5
    assert service.naps == [1, 3, 1, 1]


@pytest.mark.parametrize(
    ("step", "error"),
    [
        (problem(404, "job_not_found"), ApiError),
        (problem(503, "over_capacity"), Unavailable),
        (httpx.ConnectError("refused"), ConnectionFailed),
        (events(": still there\n\n"), ConnectionFailed),
        (events("data: {}\n\n"), MasklineError),
    ],
    ids=["refused", "busy", "away", "cut", "strange"],
)
def test_events_that_never_come(connect: Connect, step: Step, error: type[MasklineError]) -> None:
    with pytest.raises(error) as caught:
        list(connect(Service(step)).events("j1"))
    assert type(caught.value) is error


# --- the other calls


RESULT_CALLS = [
    ("cancel", "POST", "/v1/jobs/j1:cancel"),
    ("delete", "DELETE", "/v1/jobs/j1"),
    ("category_mask", "GET", "/v1/jobs/j1/categoryMask.png"),
    ("confidence_mask", "GET", "/v1/jobs/j1/confidenceMask.png"),
    ("overlay", "GET", "/v1/jobs/j1/overlay.png"),
]


@pytest.mark.parametrize(("name", "method", "path"), RESULT_CALLS)
def test_calls_on_a_job(connect: Connect, name: str, method: str, path: str) -> None:
    content = json.dumps(JOB).encode()
    service = Service(httpx.Response(200, content=content))
    result = getattr(connect(service), name)("j1")
    assert (service.request.method, service.request.url.path) == (method, f"/prefix{path}")
    if name.endswith(("mask", "overlay")):
        assert result == content


def test_prediction_and_segments(connect: Connect) -> None:
    service = Service(
        httpx.Response(200, json={"categoryMask": "AA=="}),
        httpx.Response(200, json={"width": 2, "height": 1, "segments": []}),
    )
    client = connect(service)
    assert client.prediction("j1").category_mask == "AA=="
    assert service.request.url.params["masks"] == "inline"
    assert client.segments("j1").width == 2


def test_models(connect: Connect) -> None:
    card = {
        "id": "org/net",
        "family": "f",
        "displayName": "d",
        "subtasks": ["semantic"],
        "available": True,
    }
    service = Service(
        httpx.Response(200, json={"models": [card], "defaultModel": "org/net"}),
        httpx.Response(200, json=card),
    )
    client = connect(service)
    assert client.models().default_model == "org/net"
    assert client.model("org/net").available
    assert service.request.url.path == "/prefix/v1/models/org/net"


def test_keys(connect: Connect) -> None:
    key = {
        "id": "k1",
        "name": "lab",
        "tenant": "t1",
        "scopes": ["read"],
        "createdAt": "2026-01-02T03:04:05Z",
    }
    service = Service(
        httpx.Response(201, json=key | {"key": "mk_k1_s"}),
        httpx.Response(200, json={"keys": [key]}),
        httpx.Response(204),
    )
    client = connect(service)
    assert client.create_key("lab", tenant="t1", scopes=["read"], expires_in=60).key == "mk_k1_s"
    assert json.loads(service.request.content) == {
        "name": "lab",
        "tenant": "t1",
        "scopes": ["read"],
        "expiresIn": 60,
    }
    keys = client.keys()
    assert [one.name for one in keys] == ["lab"]
    client.revoke_key("k1")
    assert (service.request.method, service.request.url.path) == ("DELETE", "/prefix/v1/keys/k1")


WEBHOOK = {
    "id": "wh_1",
    "url": "https://x.test",
    "events": ["job.failed"],
    "description": "",
    "enabled": True,
    "createdAt": "2026-01-02T03:04:05Z",
}


def test_webhooks(connect: Connect) -> None:
    service = Service(
        httpx.Response(201, json=WEBHOOK | {"secret": "whsec_new"}),
        httpx.Response(200, json={"webhooks": [WEBHOOK]}),
        httpx.Response(200, json=WEBHOOK),
        httpx.Response(200, json=WEBHOOK | {"enabled": False}),
        httpx.Response(200, json=WEBHOOK | {"secret": "whsec_newer"}),
        httpx.Response(200, json={"eventId": "evt_1_test", "delivered": False, "problem": "why"}),
        httpx.Response(204),
    )
    client = connect(service)

    def sent(method: str, path: str) -> Any:
        assert (service.request.method, service.request.url.path) == (method, f"/prefix/v1/webhooks{path}")
        return json.loads(service.request.content or "null")

    assert client.create_webhook("https://x.test", events=["job.failed"]).secret == "whsec_new"
    assert sent("POST", "") == {"url": "https://x.test", "events": ["job.failed"], "description": ""}
    webhooks = client.webhooks()
    assert [one.id for one in webhooks] == ["wh_1"]
    assert client.webhook("wh_1").enabled
    assert sent("GET", "/wh_1") is None
    assert not client.change_webhook("wh_1", enabled=False).enabled
    assert sent("PATCH", "/wh_1") == {"enabled": False}
    assert client.rotate_webhook("wh_1", keep_old_for=60).secret == "whsec_newer"
    assert sent("POST", "/wh_1:rotate") == {"keepOldFor": 60}
    assert client.test_webhook("wh_1").problem == "why"
    assert sent("POST", "/wh_1:test") is None
    client.remove_webhook("wh_1")
    assert sent("DELETE", "/wh_1") is None
    with pytest.raises(ValidationError):
        client.create_webhook("ftp://x.test")


@pytest.mark.parametrize("call", ["create_webhook", "rotate_webhook"])
def test_a_secret_that_was_lost_on_its_way_is_not_asked_for_twice(connect: Connect, call: str) -> None:
    service = Service(httpx.ReadTimeout("late"))
    with pytest.raises(ConnectionFailed):
        getattr(connect(service), call)("https://x.test")
    assert len(service.requests) == 1


def test_dead_letters(connect: Connect) -> None:
    letter = {
        "id": "evt_1_failed.wh_1",
        "eventId": "evt_1_failed",
        "type": "job.failed",
        "webhook": "wh_1",
        "subject": "1",
        "version": 3,
        "happenedAt": "2026-01-02T03:04:05Z",
        "buriedAt": "2026-01-05T03:04:05Z",
        "tries": 10,
        "problem": "no",
    }
    service = Service(
        httpx.Response(200, json={"deadLetters": [letter], "nextPageToken": "t"}),
        httpx.Response(200, json={"deadLetters": [letter]}),
        httpx.Response(200, json={"replayed": 1}),
        httpx.Response(200, json={"replayed": 7}),
    )
    client = connect(service)
    assert [one.problem for one in client.dead_letters(webhook_id="wh_1")] == ["no", "no"]
    assert dict(service.request.url.params) == {"webhook": "wh_1", "pageToken": "t", "pageSize": "100"}
    client.replay_dead_letter("evt_1_failed.wh_1")
    assert service.request.url.path == "/prefix/v1/webhooks/deadLetters/evt_1_failed.wh_1:replay"
    since = datetime(2026, 1, 2, tzinfo=UTC)
    assert client.replay_dead_letters(since, webhook_id="wh_1") == 7
    assert json.loads(service.request.content) == {"since": "2026-01-02T00:00:00Z", "webhook": "wh_1"}


def test_health_of_an_unavailable_service_is_an_answer(connect: Connect) -> None:
    health = {"status": "unavailable", "dependencies": {"redis": "no answer"}}
    service = Service(httpx.Response(503, json=health))
    assert connect(service).health().dependencies == {"redis": "no answer"}
    assert len(service.requests) == 1


def test_health_that_is_no_health(connect: Connect) -> None:
    with pytest.raises(Unavailable):
        connect(Service(httpx.Response(502, text="<html>"))).health()
    with pytest.raises(ApiError):
        connect(Service(problem(401, "unauthenticated"))).health()
    with pytest.raises(MasklineError):
        connect(Service(httpx.Response(200, text="fine"))).health()


# --- the two are one


def public_methods(kind: type) -> dict[str, inspect.Signature]:
    return {
        name: inspect.signature(member)
        for name, member in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_")
    }


def test_both_clients_have_the_same_methods() -> None:
    blocking, asynchronous = public_methods(Client), public_methods(AsyncClient)
    assert blocking.keys() == asynchronous.keys()
    for name, signature in blocking.items():
        assert signature.parameters == asynchronous[name].parameters, name
    for name in ("get", "models", "keys", "delete"):
        assert blocking[name].return_annotation == asynchronous[name].return_annotation


def test_both_clients_are_made_alike() -> None:
    made = [inspect.signature(kind.__init__).parameters for kind in (Client, AsyncClient)]
    assert list(made[0]) == list(made[1])
    for name in ("base_url", "api_key", "timeout"):
        assert made[0][name] == made[1][name]


def test_both_clients_close_themselves() -> None:
    service = Service(answer())
    with Client(URL, transport=httpx.MockTransport(service)) as client:
        client.get("j1")
    with pytest.raises(RuntimeError):
        client.get("j1")

    async def use() -> None:
        async with AsyncClient(URL, transport=httpx.MockTransport(service)) as client:
            await client.get("j1")
        with pytest.raises(RuntimeError):
            await client.get("j1")

    asyncio.run(use())
