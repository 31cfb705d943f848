"""Webhooks from a real worker to a real listener, verified by the standard's own library."""

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from typing import Any

import httpx
import pytest
from standardwebhooks.webhooks import Webhook as Verifier

from maskline import Client, Webhook
from maskline.adapters.redis_connection import RedisConnection
from maskline.adapters.redis_webhooks import RedisEndpointStore
from maskline.adapters.s3_artifacts import S3ArtifactStore
from maskline.endpoint_records import EndpointRecords
from maskline.local import Stack
from maskline.local.ports import free_port
from maskline.requests import EventType
from maskline.settings import Settings
from maskline.webhook_resources import CreatedWebhook
from maskline.webhooks import EndpointEvent
from tests.factories import SECRET

DOCS = Path(__file__).parents[2] / "docs" / "webhooks.md"

Received = tuple[dict[str, str], bytes]
Listener = tuple[str, Queue[Received], list[int]]


@pytest.fixture
def listener() -> Iterator[Listener]:
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


@contextmanager
def webhook_at(client: Client, url: str, *events: EndpointEvent) -> Iterator[CreatedWebhook]:
    """A webhook that is removed again."""
    created = client.create_webhook(url, events=events or None)
    try:
        yield created
    finally:
        client.remove_webhook(created.id)


def test_the_moves_of_a_job_are_told_and_signed(client: Client, disc: bytes, listener: Listener) -> None:
    url, received, _ = listener
    webhook = Webhook(url=url, secret=SECRET, events=(EventType.STARTED, EventType.SUCCEEDED))
    job = client.submit(disc, webhook=webhook, metadata={"order": 7})
    client.wait(job.id, timeout=60)
    events = {}
    for _ in range(2):
        headers, body = received.get(timeout=20)
        event = Verifier(SECRET).verify(body, headers)
        assert event == json.loads(body)
        events[headers["webhook-id"]] = event
    started, succeeded = (events[f"evt_{job.id}_{name}"] for name in ("started_1", "succeeded"))
    assert (started["type"], started["data"]["state"]) == ("job.started", "running")
    assert (succeeded["type"], succeeded["data"]["state"]) == ("job.succeeded", "succeeded")
    assert succeeded["data"]["metadata"] == {"order": 7}
    assert succeeded["data"]["version"] > started["data"]["version"]


def test_the_example_of_the_docs_has_the_fields_of_an_event_and_its_urls_lead_there(
    client: Client, http: httpx.Client, disc: bytes, listener: Listener
) -> None:
    url, received, _ = listener
    outputs = ("categoryMask", "confidenceMask", "segments", "overlay", "segmentMasks", "detections")
    client.submit(disc, webhook=Webhook(url=url, secret=SECRET), outputs=outputs, wait=60)
    event = json.loads(received.get(timeout=20)[1])
    [text] = re.findall(r"```json\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL)
    example = json.loads(text)
    assert example.keys() == event.keys()
    assert example["data"].keys() == event["data"].keys()
    assert set(example["data"]["artifacts"]) < set(event["data"]["artifacts"])
    assert set(event["data"]["artifacts"]) == {"prediction", *outputs}
    for address in (event["data"]["url"], *event["data"]["artifacts"].values()):
        assert http.get(address).status_code == 200


def test_a_delivery_that_failed_is_tried_again_with_its_id(
    client: Client, disc: bytes, listener: Listener
) -> None:
    url, received, statuses = listener
    statuses.append(302)
    client.submit(disc, webhook=Webhook(url=url, secret=SECRET))
    first, _ = received.get(timeout=20)
    second, body = received.get(timeout=20)  # the schedule's first pause is five seconds
    assert first["webhook-id"] == second["webhook-id"]
    Verifier(SECRET).verify(body, second)


def test_every_job_is_told_to_the_tenant_s_webhooks_with_both_secrets_of_a_rotation(
    client: Client, disc: bytes, listener: Listener
) -> None:
    url, received, _ = listener
    with webhook_at(client, url) as first, webhook_at(client, url, EndpointEvent.JOB_STARTED) as second:
        rotated = client.rotate_webhook(first.id)
        job = client.submit(disc)
        client.wait(job.id, timeout=60)
        told = {}
        for _ in range(2):
            headers, body = received.get(timeout=20)
            told[json.loads(body)["type"]] = headers, body
        headers, body = told["job.succeeded"]
        for secret in (first.secret, rotated.secret):
            assert Verifier(secret).verify(body, headers)["data"]["id"] == job.id
        headers, body = told["job.started"]
        assert Verifier(second.secret).verify(body, headers)["data"]["id"] == job.id
    client.submit(disc, use_cache=False, wait=60)
    assert received.empty()


def test_a_batch_is_told_of(
    artifacts: S3ArtifactStore, client: Client, http: httpx.Client, listener: Listener
) -> None:
    url, received, _ = listener
    lines = b'{"content": "gs://imports/none.png"}\n'
    artifacts.put("told.jsonl", lines, "text/plain", bucket="imports")
    batch: dict[str, Any] = {
        "displayName": "Told of",
        "model": "projects/p/locations/l/models/grabcut",
        "inputConfig": {"instancesFormat": "jsonl", "gcsSource": {"uris": ["gs://imports/told.jsonl"]}},
        "outputConfig": {
            "predictionsFormat": "jsonl",
            "gcsDestination": {"outputUriPrefix": "gs://exports/told"},
        },
    }
    events = (EndpointEvent.BATCH_STARTED, EndpointEvent.BATCH_SUCCEEDED)
    with webhook_at(client, url, *events) as webhook:
        made = http.post("/v1/projects/p/locations/l/batchPredictionJobs", json=batch)
        assert made.status_code == 200, made.text
        batch_id = made.json()["name"].rpartition("/")[2]
        for name, state in (("started", "running"), ("succeeded", "succeeded")):
            headers, body = received.get(timeout=60)
            data = Verifier(webhook.secret).verify(body, headers)["data"]
            assert headers["webhook-id"] == f"evt_{batch_id}_{name}"
            assert (data["id"], data["state"], data["displayName"]) == (batch_id, state, "Told of")
        assert (data["items"], data["succeeded"], data["failed"]) == (1, 0, 1)
        assert http.get(data["url"]).json()["displayName"] == "Told of"


def test_410_disables_and_what_was_lost_is_replayed(client: Client, disc: bytes, listener: Listener) -> None:
    url, received, statuses = listener
    with webhook_at(client, url) as webhook:
        statuses.append(410)
        job = client.submit(disc, use_cache=False, wait=60)
        first, _ = received.get(timeout=20)
        test = client.test_webhook(webhook.id)
        assert (test.delivered, test.status) == (True, 200)
        received.get(timeout=20)
        while not (letters := list(client.dead_letters(webhook_id=webhook.id))):
            time.sleep(0.05)
        disabled = client.webhook(webhook.id).disabled
        assert disabled is not None
        assert disabled.note == "it answered with status 410 (Gone)"
        client.submit(disc, use_cache=False, wait=60)
        [letter] = letters
        assert list(client.dead_letters(webhook_id=webhook.id)) == letters
        assert (letter.subject, letter.problem) == (job.id, "it answered with status 410")
        assert client.change_webhook(webhook.id, enabled=True).enabled
        assert client.replay_dead_letters(letter.buried_at - timedelta(hours=1), webhook_id=webhook.id) == 1
        headers, body = received.get(timeout=20)
        assert headers["webhook-id"] == first["webhook-id"] == letter.event_id
        assert Verifier(webhook.secret).verify(body, headers)["data"]["id"] == job.id
        assert list(client.dead_letters(webhook_id=webhook.id)) == []


def test_what_may_not_be_called_is_told_by_a_test(client: Client) -> None:
    with webhook_at(client, "http://10.0.0.1/hook") as webhook:
        test = client.test_webhook(webhook.id)
        assert not test.delivered
        assert test.problem == "'10.0.0.1' is not a public host"


def test_webhooks_come_back_from_the_bucket(stack: Stack, client: Client) -> None:
    environment = stack.environment
    store = S3ArtifactStore.from_settings(Settings.from_env(environment))
    connection = RedisConnection(environment["MASKLINE_REDIS_URL"], "restored:")
    empty = RedisEndpointStore(connection)
    try:
        with webhook_at(client, "https://example.com") as webhook:
            client.change_webhook(webhook.id, description="changed", enabled=False)
            assert EndpointRecords(empty, store).restore() == 1
            [restored] = empty.all("default")
            assert (restored.id, restored.description) == (webhook.id, "changed")
            assert restored.disabled is not None
            assert restored.secrets[0].secret == webhook.secret
        assert list(store.keys("webhooks/")) == []
    finally:
        for key in connection.redis.scan_iter("restored:*"):
            connection.redis.delete(key)
        connection.close()


def test_the_receiver_of_the_docs_verifies_a_real_delivery(
    client: Client, disc: bytes, tmp_path: Path
) -> None:
    [text] = re.findall(r"```python\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL)
    script = tmp_path / "receiver.py"
    script.write_text(text, "utf-8")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with webhook_at(client, url) as webhook:
        environment = os.environ | {"WEBHOOK_SECRET": webhook.secret, "PORT": str(port)}
        receiver = subprocess.Popen(
            [sys.executable, script],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            assert receiver.stdout is not None
            # Whichever comes before the receiver listens is tried again in five seconds.
            job = client.submit(disc)
            line = receiver.stdout.readline()
            assert line.startswith("job.succeeded http")
            assert line.endswith(f"/v1/jobs/{job.id}\n")
            headers = {"webhook-id": "evt_x", "webhook-timestamp": "1", "webhook-signature": "v1,AAAA"}
            assert httpx.post(url, content=b"{}", headers=headers).status_code == 400
            assert client.test_webhook(webhook.id).delivered
            assert receiver.stdout.readline().startswith("webhook.test ")
        finally:
            receiver.kill()
            receiver.communicate()
