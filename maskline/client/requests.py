"""Requests and answers without any I/O: what both clients share."""

import codecs
import io
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO, TypeVar
from uuid import uuid4

import httpx
from pydantic import BaseModel, JsonValue, ValidationError

from maskline.client.errors import ApiError, ConnectionFailed, MasklineError, Unavailable
from maskline.requests import Output, Priority, Prompt, SegmentationRequest, Subtask, Webhook
from maskline.resources import HealthResource, JobResource, Problem

ImageInput = str | PathLike[str] | bytes | BinaryIO
"""A path, an http(s) URL, an ``s3://`` URI, the bytes, or an open binary file."""

RETRIED = frozenset({429, 502, 503, 504})
MAX_RETRIES = 5
CHUNK_BYTES = 1 << 18  # of a body that is read as it comes
POLL_PAUSE_S = 1.0  # between polls that the service does not hold
_FIRST_DELAY_S = 0.2
_LONGEST_DELAY_S = 20.0

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """One HTTP request."""

    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, Any] | None = None
    content: bytes | None = None
    wait_s: float = 0.0
    """How much longer than usual the answer may take."""
    is_repeatable: bool = True
    """Whether it can be sent again when its answer was lost."""


def submission(
    image: ImageInput,
    *,
    model: str | None,
    prompts: Sequence[Prompt],
    parameters: Mapping[str, JsonValue] | None,
    subtask: Subtask | str | None,
    outputs: Sequence[Output | str] | None,
    auto_orient: bool,
    use_cache: bool,
    priority: Priority | str,
    webhook: Webhook | None,
    expires_in: int | None,
    metadata: Mapping[str, JsonValue] | None,
    idempotency_key: str | None,
    wait: float | None,
) -> Call:
    """The call that submits an image. It always has an idempotency key, so it can be sent again."""
    fields: dict[str, Any] = {
        "model": model,
        "subtask": subtask,
        "prompts": tuple(prompts),
        "parameters": dict(parameters or {}),
        "auto_orient": auto_orient,
        "use_cache": use_cache,
        "priority": priority,
        "webhook": webhook,
        "expires_in": expires_in,
        "metadata": dict(metadata or {}),
    }
    if outputs is not None:
        fields["outputs"] = tuple(outputs)
    request = SegmentationRequest.model_validate(fields)
    headers = {"Idempotency-Key": idempotency_key or str(uuid4())}
    if wait is not None:
        headers["Prefer"] = f"wait={wait:g}"
    reference = _reference(image)
    if reference is not None:
        body = request.model_dump(by_alias=True, exclude_none=True, mode="json") | {"image": reference}
        return Call(
            method="POST",
            path="/v1/jobs",
            headers={**headers, "Content-Type": "application/json"},
            content=json.dumps(body).encode(),
            wait_s=wait or 0,
        )
    name, content = _bytes_of(image)
    return Call(
        method="POST",
        path="/v1/jobs",
        headers=headers,
        files={"image": (name, content), "request": (None, request.to_json(), "application/json")},
        wait_s=wait or 0,
    )


def _reference(image: ImageInput) -> dict[str, str] | None:
    if isinstance(image, str) and image.startswith(("http://", "https://")):
        return {"url": image}
    if isinstance(image, str) and image.startswith("s3://"):
        return {"uri": image}
    return None


def _bytes_of(image: ImageInput) -> tuple[str, bytes]:
    if isinstance(image, bytes):
        return "image", image
    if isinstance(image, str | PathLike):
        return Path(image).name, Path(image).read_bytes()
    return "image", image.read()


def parse(response: httpx.Response, model: type[Model]) -> Model:
    """The answer as a model; fields that this client does not know are left out.

    Raises:
        MasklineError: it is something else.
    """
    return _read(response.content, model)


def parse_health(response: httpx.Response) -> HealthResource:
    """The answer to ``/readyz``, which tells of a service that is unavailable with a status of 503.

    Raises:
        ApiError: the answer is a refusal of another kind.
    """
    try:
        return parse(response, HealthResource)
    except MasklineError:
        check(response)
        raise


def _read(content: bytes | str, model: type[Model]) -> Model:
    try:
        return model.model_validate_json(content, extra="ignore")
    except ValidationError as error:
        raise MasklineError(f"the answer is no {model.__name__}; is this URL Maskline's?") from error


def check(response: httpx.Response) -> None:
    """Return if the call succeeded.

    Raises:
        ApiError: it did not.
    """
    if response.is_success:
        return
    try:
        problem = Problem.model_validate_json(response.content, extra="ignore")
    except ValidationError:
        problem = Problem(
            type="about:blank",
            title=response.reason_phrase,
            status=response.status_code,
            code="http_error",
            detail=response.text[:500] or response.reason_phrase,
        )
    is_unavailable = response.status_code in RETRIED or response.is_server_error
    raise (Unavailable if is_unavailable else ApiError)(problem)


def is_done(call: Call, attempt: int, response: httpx.Response) -> bool:
    """Whether the call succeeded: a removal also if, sent again, it finds nothing left to remove."""
    is_gone = call.method == "DELETE" and attempt > 0 and response.status_code == httpx.codes.NOT_FOUND
    return response.is_success or is_gone


def retry_delay(
    call: Call, attempt: int, response: httpx.Response | None, failure: ConnectionFailed | None
) -> float:
    """Seconds until the call is sent again.

    ``attempt``: 0 after the first failure; ``response``: None if there was no answer, or if it broke off;
    ``failure``: why.

    Raises:
        ApiError: the service refused, and it is no use to ask again.
        ConnectionFailed: there was no answer, however often it was asked.
    """
    if response is None and (attempt >= MAX_RETRIES or not call.is_repeatable):
        raise failure or ConnectionFailed("the service ends the connection again and again")
    if response is not None and (attempt >= MAX_RETRIES or response.status_code not in RETRIED):
        check(response)
    delay = min(_LONGEST_DELAY_S, _FIRST_DELAY_S * 2**attempt) * random.uniform(0.5, 1)  # noqa: S311
    asked = response.headers.get("Retry-After", "") if response is not None else ""
    return max(delay, min(float(asked), _LONGEST_DELAY_S)) if asked.isdecimal() else delay


def poll_delay(wait_s: float, took_s: float) -> float:
    """Seconds until a job is looked at again after a long poll that did not see its end.

    A service where too many wait already answers at once; it must not be asked without pause.
    """
    return max(0.0, min(wait_s, POLL_PAUSE_S) - took_s)


class LineParser:
    """The lines of a body that comes in chunks. Every line ends with a line feed, and with nothing else."""

    def __init__(self) -> None:
        """At the beginning of a body."""
        self._line: list[bytes] = []

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The lines that end in this part of the body."""
        *ends, rest = chunk.split(b"\n")
        for end in ends:
            yield b"".join([*self._line, end])
            self._line.clear()
        self._line.append(rest)


class EventParser:
    """Server-sent events (HTML standard, 9.2.6).

    Lines end with CR, LF or both, and with nothing else: ``str.splitlines``, and httpx with it, would also
    split at characters such as U+2028, which may stand in a label.
    """

    def __init__(self) -> None:
        """At the beginning of a stream."""
        self._decoder = io.IncrementalNewlineDecoder(
            codecs.getincrementaldecoder("utf-8")(errors="replace"), translate=True
        )
        self._line = ""
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> Iterator[JobResource]:
        """The jobs of the events that end in this part of the stream."""
        *lines, self._line = (self._line + self._decoder.decode(chunk)).split("\n")
        for line in lines:
            name, _, value = line.partition(":")
            if name == "data":
                self._data.append(value.removeprefix(" "))
            elif not line and self._data:
                text, self._data = "\n".join(self._data), []
                yield _read(text, JobResource)
