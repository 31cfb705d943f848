"""Webhooks from a real worker to a real listener, verified by the standard's own library."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Queue

import pytest
from standardwebhooks.webhooks import Webhook as Verifier

from maskline import Client, Webhook
from maskline.requests import EventType
from tests.factories import SECRET

Received = tuple[dict[str, str], bytes]


@pytest.fixture
def listener() -> Iterator[tuple[str, Queue[Received], list[int]]]:
    """A URL, what was posted to it, and the statuses that it answers with, in turn; then 200."""
    received: Queue[Received] = Queue()
    statuses: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            received.put(({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(statuses.pop(0) if statuses else 200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/hook", received, statuses
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_moves_of_a_job_are_told_and_signed(
    client: Client, disc: bytes, listener: tuple[str, Queue[Received], list[int]]
) -> None:
    url, received, _ = listener
    webhook = Webhook(url=url, secret=SECRET, events=(EventType.STARTED, EventType.SUCCEEDED))
    job = client.submit(disc, webhook=webhook, metadata={"order": 7})
    client.wait(job.id, timeout=60)
    events = {}
    for _ in range(2):
        headers, body = received.get(timeout=20)
        event = Verifier(SECRET).verify(body, headers)
        assert event == json.loads(body)
        events[event["type"]] = event["data"]
        assert headers["webhook-id"].startswith("evt_")
    assert events.keys() == {"job.started", "job.succeeded"}
    assert events["job.succeeded"]["id"] == job.id
    assert events["job.succeeded"]["state"] == "succeeded"
    assert events["job.succeeded"]["metadata"] == {"order": 7}
    assert events["job.succeeded"]["version"] > events["job.started"]["version"]
    assert events["job.succeeded"]["url"].endswith(f"/v1/jobs/{job.id}")


def test_a_delivery_that_failed_is_tried_again_with_its_id(
    client: Client, disc: bytes, listener: tuple[str, Queue[Received], list[int]]
) -> None:
    url, received, statuses = listener
    statuses.append(500)
    client.submit(disc, webhook=Webhook(url=url, secret=SECRET))
    first, _ = received.get(timeout=20)
    second, body = received.get(timeout=20)  # the schedule's first pause is five seconds
    assert first["webhook-id"] == second["webhook-id"]
    Verifier(SECRET).verify(body, second)
