"""What the synchronous calls of the protocols cost over the native ones, and how many wait at once."""

import base64
import json
import os
import signal
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http import HTTPStatus

from bench.figure import Figure, print_figures
from bench.load import connect, exchange, request_bytes
from bench.service import data_folder, jpeg, stop_worker
from maskline import Client
from maskline.local import Stack

MODEL = "grabcut"
CALLS = 100
CACHED_CALLS = 200
WAITING = 64
SUBMISSIONS = 300
_LET_IN_S = 2.0  # until all who will wait do
_IMAGE = jpeg(160, 120, 100 << 10)  # little for the model to do, and as much to send as of a photo


@dataclass(frozen=True)
class Protocol:
    """How to ask for the segmentation of an image, and be answered when it is done."""

    name: str
    request: Callable[[str, bytes], bytes]
    """A whole HTTP request, of the API key and the image."""


def _raw(path: str, **more: str) -> Callable[[str, bytes], bytes]:
    return lambda key, image: request_bytes("POST", path, {**_headers(key, "image/jpeg"), **more}, image)


def _vertex(key: str, image: bytes) -> bytes:
    body = json.dumps({"instances": [{"content": base64.b64encode(image).decode()}]}).encode()
    path = f"/v1/projects/any/locations/any/endpoints/{MODEL}:predict"
    return request_bytes("POST", path, _headers(key, "application/json"), body)


def _roboflow(key: str, image: bytes) -> bytes:
    headers = _headers(key, "application/x-www-form-urlencoded")
    return request_bytes("POST", f"/{MODEL}/1?confidence=0.1", headers, base64.b64encode(image))


def _headers(key: str, media_type: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}", "Content-Type": media_type}


NATIVE = Protocol("native, Prefer: wait", _raw(f"/v1/jobs?model={MODEL}&useCache=false", Prefer="wait=60"))
HUGGING_FACE = Protocol("Hugging Face", _raw(f"/models/{MODEL}", **{"x-use-cache": "false"}))
VERTEX = Protocol("Vertex AI", _vertex)
ROBOFLOW = Protocol("Roboflow", _roboflow)
CLIENTS = (VERTEX, HUGGING_FACE, ROBOFLOW)
_submission = _raw("/v1/jobs")


def call_s(connection: socket.socket, request: bytes, expected: HTTPStatus = HTTPStatus.OK) -> float:
    """Seconds until the answer.

    Raises:
        RuntimeError: its status is another; a call whose wait ended without a result has another.
    """
    began = time.perf_counter()
    status = exchange(connection, request)
    if int(status) != expected:
        raise RuntimeError(f"answered {status!r}")
    return time.perf_counter() - began


def different_images() -> Iterator[bytes]:
    """The same picture in ever other bytes, so that no result is remembered."""
    while True:
        yield _IMAGE + os.urandom(16)


def measure_calls(stack: Stack) -> list[Figure]:
    """Medians of what calls take over a native one just before them."""
    images = different_images()
    over: dict[Protocol, list[float]] = {protocol: [] for protocol in CLIENTS}
    with connect(stack.url) as connection:

        def taken_s(protocol: Protocol) -> float:
            return call_s(connection, protocol.request(stack.api_key, next(images)))

        for _ in range(CALLS):
            native_s = taken_s(NATIVE)
            for protocol, differences in over.items():
                differences.append(taken_s(protocol) - native_s)
    return [
        Figure(
            name=f"{protocol.name}: a call over the native one, a JPEG of 100 KB: p50",
            measured=statistics.median(differences) * 1000,
            target=5,
            unit="ms",
            better="lower",
        )
        for protocol, differences in over.items()
    ]


def measure_cached(stack: Stack) -> list[Figure]:
    """Calls for a result that is there."""
    figures = []
    for name, request in (
        ("Hugging Face", _raw(f"/models/{MODEL}")),
        ("native", _raw(f"/v1/jobs?model={MODEL}", Prefer="wait=60")),
    ):
        call = request(stack.api_key, _IMAGE)
        with connect(stack.url) as connection:
            call_s(connection, call)
            p50 = statistics.median(call_s(connection, call) for _ in range(CACHED_CALLS)) * 1000
        figures.append(
            Figure(name=f"{name}: a cached result: p50", measured=p50, target=10, unit="ms", better="lower")
        )
    return figures


@contextmanager
def resting_worker(stack: Stack) -> Iterator[None]:
    """Jobs queue up meanwhile."""
    worker = stop_worker(stack)
    try:
        yield
    finally:
        os.kill(worker, signal.SIGCONT)


def measure_waiting(stack: Stack) -> list[Figure]:
    """Submissions while as many calls wait for their results; then all of these are answered."""
    protocols = (NATIVE, *CLIENTS)
    failures: list[str] = []

    def wait(protocol: Protocol, image: bytes) -> None:
        try:
            with connect(stack.url) as connection:
                call_s(connection, protocol.request(stack.api_key, image))
        except (RuntimeError, OSError, ValueError) as error:
            failures.append(f"{protocol.name} {error}")

    images = different_images()
    threads = [
        threading.Thread(target=wait, args=(protocols[number % len(protocols)], next(images)))
        for number in range(WAITING)
    ]
    submissions = [_submission(stack.api_key, next(images)) for _ in range(SUBMISSIONS)]
    with ExitStack() as resting, connect(stack.url) as connection:
        resting.enter_context(resting_worker(stack))
        for thread in threads:
            thread.start()
        time.sleep(_LET_IN_S)
        still = sum(thread.is_alive() for thread in threads)
        times = sorted(call_s(connection, submission, HTTPStatus.ACCEPTED) for submission in submissions)
        resting.close()
        for thread in threads:
            thread.join()
    print(f"  {still} of {WAITING} waited; errors: {failures or 'none'}")
    return [
        Figure(
            name=f"of {WAITING} clients waiting at once, answered with their result",
            measured=WAITING - len(failures),
            target=WAITING,
            unit="",
            better="higher",
        ),
        Figure(
            name=f"submissions while {WAITING} clients wait: p99",
            measured=times[int(SUBMISSIONS * 0.99)] * 1000,
            target=100,
            unit="ms",
            better="lower",
        ),
    ]


def measure() -> list[Figure]:
    """All of it."""
    with data_folder() as folder, Stack(folder) as stack:
        with Client(stack.url, stack.api_key) as client:
            client.wait(client.submit(_IMAGE).id)  # what is read once is read before it counts
        return [*measure_calls(stack), *measure_cached(stack), *measure_waiting(stack)]


if __name__ == "__main__":
    print_figures(measure())
