"""Deliveries over the doubles: what is sent, and what becomes of it for each answer."""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook as Verifier
from standardwebhooks.webhooks import WebhookVerificationError

from maskline.adapters.memory import MemoryArtifactStore, MemoryBatchStore, MemoryJobStore
from maskline.adapters.memory_webhooks import MemoryOutbox
from maskline.adapters.outgoing import Answer, CallFailed, OutgoingClient
from maskline.batches import BatchState, Progress
from maskline.endpoint_records import EndpointRecords
from maskline.jobs import Failure, Job, Outcome
from maskline.requests import Webhook
from maskline.webhooks import DeadLetter, DisabledReason, Endpoint, EndpointEvent, SigningSecret, new_secret
from tests.contracts.batch_store import KEPT_S, make_batch
from tests.contracts.job_store import SUCCESS, run, submit
from tests.contracts.outbox import OFF, make_endpoint
from tests.factories import SECRET, make_job
from worker.webhooks import DISABLED_AFTER_S, RETRY_AFTER_S, WebhookDelivery

URL = "https://api.test"
DAY_S = 24 * 3600.0


@dataclass
class Receiver(OutgoingClient):
    """Plays everybody who is called."""

    answers: list[Answer | Exception] = field(default_factory=list)
    """In turn; then 200."""
    calls: list[tuple[str, bytes, dict[str, str]]] = field(default_factory=list)
    on_call: Callable[[str], None] = lambda url: None

    def post(self, url: str, body: bytes, headers: dict[str, str]) -> Answer:
        self.calls.append((url, body, headers))
        self.on_call(url)
        answer = self.answers.pop(0) if self.answers else Answer(status=200, retry_after=None)
        if isinstance(answer, Exception):
            raise answer
        return answer

    @property
    def told(self) -> list[dict[str, Any]]:
        """The bodies."""
        return [json.loads(body) for _, body, _ in self.calls]


class World:
    """A worker's deliveries and what is around them; time passes when it is told to."""

    def __init__(self) -> None:
        self.now_ms = time.time_ns() // 1_000_000
        self.outbox = MemoryOutbox(clock_ms=lambda: self.now_ms, keep_dead_s=60 * DAY_S)
        self.artifacts = MemoryArtifactStore()
        self.endpoints = EndpointRecords(self.outbox.endpoints, self.artifacts)
        self.jobs = MemoryJobStore(outbox=self.outbox)
        self.batches = MemoryBatchStore(outbox=self.outbox)
        self.receiver = Receiver()

    def add(self, **fields: Any) -> Endpoint:
        endpoint = make_endpoint(**fields)
        self.endpoints.add(endpoint)
        return endpoint

    def endpoint(self, endpoint: Endpoint) -> Endpoint:
        """As it is now."""
        return self.endpoints.get(endpoint.tenant, endpoint.id)

    def finish(self, outcome: Outcome = SUCCESS, **job: Any) -> Job:
        return run(self.jobs, submit(self.jobs, make_job(**job)), outcome)

    def answer(self, *statuses: int, retry_after: str | None = None) -> None:
        self.receiver.answers += [Answer(status=status, retry_after=retry_after) for status in statuses]

    def deliver(self, secret: str | None = None) -> None:
        """Deliver all that is due, and wait until that is done."""
        delivery = self.delivery(secret)
        delivery.deliver_due()
        delivery._threads.shutdown()

    def delivery(self, secret: str | None = None) -> WebhookDelivery:
        return WebhookDelivery(
            outbox=self.outbox,
            endpoints=self.endpoints,
            jobs=self.jobs,
            batches=self.batches,
            client=self.receiver,
            secret=secret,
            public_url=f"{URL}/",
        )

    def wait(self, seconds: float) -> None:
        self.now_ms += int(seconds * 1000)

    def dead(self) -> list[DeadLetter]:
        page = self.outbox.dead_letters("default", endpoint_id=None, size=1000, token=None)
        return list(page.letters)


@pytest.fixture
def world() -> World:
    return World()


def own(**fields: Any) -> Webhook:
    return Webhook(**({"url": "https://own.test/hook", "secret": SECRET} | fields))


# --- what is sent


def test_an_event_is_small_signed_and_without_secrets(world: World) -> None:
    endpoint = world.add(url="https://endpoint.test/hook")
    job = world.finish(webhook=own())
    world.deliver()
    secrets = {"https://own.test/hook": SECRET, endpoint.url: endpoint.secrets[0].secret}
    assert {url for url, _, _ in world.receiver.calls} == secrets.keys()
    for url, body, headers in world.receiver.calls:
        assert Verifier(secrets[url]).verify(body, headers)["type"] == "job.succeeded"
        assert headers["webhook-id"] == f"evt_{job.id}_succeeded"
        assert b"whsec" not in body
        assert len(body) < 20_000
    first, second = world.receiver.told
    assert first == second
    at = f"{URL}/v1/jobs/{job.id}"
    assert first["data"] == {
        "id": job.id,
        "state": "succeeded",
        "version": job.version,
        "url": at,
        "metadata": {},
        "artifacts": {
            "prediction": f"{at}/prediction",
            "categoryMask": f"{at}/categoryMask.png",
            "confidenceMask": f"{at}/confidenceMask.png",
            "segments": f"{at}/segments",
        },
    }
    world.deliver()
    assert len(world.receiver.calls) == 2


def test_states_are_told_as_they_were(world: World) -> None:
    world.add(events=tuple(EndpointEvent))
    failure = Failure(code="prediction_failed", message="no")
    job = world.finish(Outcome(failure=failure))
    batch = make_batch()
    world.batches.create(batch, 10)
    running = world.batches.save(batch, Progress(state=BatchState.RUNNING), KEPT_S)
    assert running is not None
    ended = Progress(state=BatchState.FAILED, items=3, failed=1, succeeded=2, failure=failure)
    world.batches.save(running, ended, KEPT_S)
    world.deliver()
    told = {event["type"]: event["data"] for event in world.receiver.told}
    assert [told[f"job.{name}"]["state"] for name in ("started", "failed")] == ["running", "failed"]
    assert told["job.failed"]["error"] == {"code": "prediction_failed", "message": "no"}
    assert "artifacts" not in told["job.failed"]
    assert told["job.failed"]["id"] == job.id
    assert told["batch.started"]["state"] == "running"
    assert told["batch.failed"] == {
        "id": batch.id,
        "state": "failed",
        "version": 3,
        "url": f"{URL}/v1/projects/-/locations/-/batchPredictionJobs/{batch.id}",
        "displayName": "n",
        "items": 3,
        "succeeded": 2,
        "failed": 1,
        "outputDirectory": "gs://exports/out",
        "error": {"code": "prediction_failed", "message": "no"},
    }


def test_both_secrets_of_a_rotation_sign_until_the_old_one_ends(world: World) -> None:
    now_ms = time.time_ns() // 1_000_000
    new, old, over = new_secret(), new_secret(), new_secret()
    world.add(
        secrets=(
            SigningSecret(secret=new),
            SigningSecret(secret=old, until_ms=now_ms + 60_000),
            SigningSecret(secret=over, until_ms=now_ms - 1),
        )
    )
    world.finish()
    world.deliver()
    [(_, body, headers)] = world.receiver.calls
    for secret in (new, old):
        Verifier(secret).verify(body, headers)
    with pytest.raises(WebhookVerificationError):
        Verifier(over).verify(body, headers)


def test_the_service_s_own_secret_stands_in(world: World) -> None:
    service_secret = new_secret()
    world.finish(webhook=own(secret=None))
    world.deliver(service_secret)
    [(_, body, headers)] = world.receiver.calls
    Verifier(service_secret).verify(body, headers)
    world.finish(webhook=own(secret=None))
    world.deliver()
    [letter] = world.dead()
    assert letter.delivery.problem == "there is no secret to sign with"


# --- failures


@pytest.mark.parametrize("status", [301, 302, 307, 400, 404, 429, 500, 503])
def test_what_is_no_success_is_tried_again_with_the_same_id_and_body(world: World, status: int) -> None:
    world.add()
    world.finish()
    world.answer(status)
    world.deliver()
    world.wait(RETRY_AFTER_S[0] - 1)
    world.deliver()
    assert len(world.receiver.calls) == 1
    world.wait(1 + 0.2 * RETRY_AFTER_S[0])
    world.deliver()
    (_, body, headers), (_, again, headers_again) = world.receiver.calls
    assert body == again
    assert headers["webhook-id"] == headers_again["webhook-id"]
    world.wait(30 * DAY_S)
    world.deliver()
    assert len(world.receiver.calls) == 2
    assert world.dead() == []


def test_it_is_tried_for_days_and_then_buried(world: World) -> None:
    job = world.finish(webhook=own())
    world.receiver.answers = [CallFailed("can't be reached")] * 20
    for pause_s in (*RETRY_AFTER_S, 0):
        assert world.dead() == []
        world.deliver()
        world.wait(pause_s * 1.2)
    assert sum(RETRY_AFTER_S) > DAY_S
    assert len(world.receiver.calls) == len(RETRY_AFTER_S) + 1
    [letter] = world.dead()
    assert letter.delivery.event_id == f"evt_{job.id}_succeeded"
    assert (letter.delivery.tries, letter.delivery.problem) == (10, "can't be reached")
    world.receiver.answers = []
    world.outbox.replay("default", letter.delivery.id)
    world.deliver()
    assert len({body for _, body, _ in world.receiver.calls}) == 1
    assert world.dead() == []


def test_an_event_outlives_its_job_once_it_was_tried(world: World) -> None:
    tried = world.finish(webhook=own())
    world.answer(500)
    world.deliver()
    world.jobs.delete("default", tried.id)
    world.wait(60)
    world.deliver()
    (_, body, _), (_, again, headers) = world.receiver.calls
    assert body == again
    Verifier(SECRET).verify(again, headers)
    endpoint = world.add()
    gone = world.finish(webhook=own())
    world.jobs.delete("default", gone.id)
    world.deliver()
    [letter] = world.dead()
    assert (letter.delivery.endpoint, letter.delivery.problem) == (None, "the job is gone")
    assert world.receiver.calls[-1][0] == endpoint.url
    assert world.receiver.told[-1]["data"]["state"] == "succeeded"


@pytest.mark.parametrize(
    ("status", "retry_after", "pause_s"),
    [
        (503, "1000", 1000),
        (429, "1000", 1000),
        (500, "1000", 6),
        (503, "soon", 6),
        (503, "²", 6),
        (503, "-5", 6),
        (503, "99999999", DAY_S),
        (503, "a date", 1000),
    ],
)
def test_a_busy_receiver_is_left_alone_as_long_as_it_asks(
    world: World, status: int, retry_after: str, pause_s: float
) -> None:
    world.add()
    world.finish()
    if retry_after == "a date":
        retry_after = format_datetime(datetime.now(UTC) + timedelta(seconds=pause_s), usegmt=True)
    world.answer(status, retry_after=retry_after)
    world.deliver()
    world.wait(pause_s * 0.8 if pause_s > 6 else 0)
    world.deliver()
    assert len(world.receiver.calls) == 1
    world.wait(pause_s)
    world.deliver()
    assert len(world.receiver.calls) == 2


# --- endpoints that are not what they were


def test_410_disables_an_endpoint_and_buries_its_events(world: World) -> None:
    endpoint = world.add()
    world.finish()
    world.answer(410)
    world.deliver()
    disabled = world.endpoint(endpoint).disabled
    assert disabled is not None
    assert (disabled.reason, disabled.note) == (DisabledReason.GONE, "it answered with status 410 (Gone)")
    world.finish()
    world.deliver()
    assert len(world.receiver.calls) == len(world.dead()) == 1


def test_410_buries_the_event_of_a_job_s_own_webhook(world: World) -> None:
    world.finish(webhook=own())
    world.answer(410)
    world.deliver()
    world.wait(30 * DAY_S)
    world.deliver()
    assert len(world.receiver.calls) == len(world.dead()) == 1


def test_an_endpoint_that_takes_nothing_for_days_is_disabled(world: World) -> None:
    endpoint = world.add()
    began_ms = world.now_ms
    world.answer(*[500] * 1000)
    while world.endpoint(endpoint).disabled is None:
        world.finish()
        world.deliver()
        world.wait(DAY_S / 2)
    assert world.now_ms - began_ms > DISABLED_AFTER_S * 1000
    disabled = world.endpoint(endpoint).disabled
    assert disabled is not None
    assert disabled.reason is DisabledReason.FAILING
    assert disabled.note == "it took nothing for 5 days; at last: it answered with status 500"
    calls = len(world.receiver.calls)
    world.wait(5 * DAY_S)
    world.deliver()
    assert len(world.receiver.calls) == calls
    assert "the webhook is disabled" in {letter.delivery.problem for letter in world.dead()}


def test_an_endpoint_that_takes_something_now_and_then_is_not_disabled(world: World) -> None:
    endpoint = world.add()
    for _ in range(20):
        world.finish()
        world.finish()
        world.answer(500, 200)
        world.deliver()
        world.wait(DAY_S / 2)
    assert world.endpoint(endpoint).disabled is None


def test_events_for_an_endpoint_that_was_removed_are_dropped(world: World) -> None:
    endpoint = world.add()
    world.finish()
    world.endpoints.remove("default", endpoint.id)
    world.deliver()
    assert not world.receiver.calls
    assert not world.dead()
    world.wait(DAY_S)
    assert world.outbox.due(1, 0) == []


# --- tests


@pytest.mark.parametrize(
    ("answer", "status", "problem"),
    [
        (Answer(status=204, retry_after=None), 204, None),
        (Answer(status=410, retry_after=None), 410, "it answered with status 410"),
        (CallFailed("not a public host"), None, "not a public host"),
    ],
)
def test_a_test_is_sent_once_and_its_answer_told(
    world: World, answer: Answer | Exception, status: int | None, problem: str | None
) -> None:
    endpoint = world.add(disabled=OFF)
    event_id = world.outbox.send_test(endpoint)
    world.receiver.answers = [answer]
    world.deliver()
    [(_, body, headers)] = world.receiver.calls
    event = Verifier(endpoint.secrets[0].secret).verify(body, headers)
    assert event["type"] == "webhook.test"
    assert event["data"] == {"id": endpoint.id, "url": f"{URL}/v1/webhooks/{endpoint.id}"}
    outcome = world.outbox.test_outcome(event_id)
    assert outcome is not None
    assert (outcome.status, outcome.problem) == (status, problem)
    world.wait(DAY_S)
    world.deliver()
    assert len(world.receiver.calls) == 1
    assert world.dead() == []
    assert world.endpoint(endpoint) == endpoint


# --- many at once


def test_a_receiver_that_hangs_holds_up_nobody_else(world: World) -> None:
    hangs, other = world.add(url="https://hangs.test/1"), world.add(url="https://other.test")
    let_go = threading.Event()

    def call(url: str) -> None:
        if url == hangs.url:
            assert let_go.wait(60)

    world.receiver.on_call = call
    for _ in range(40):
        world.finish()
    delivery = world.delivery()

    def calls_of(endpoint: Endpoint) -> int:
        return sum(url == endpoint.url for url, _, _ in world.receiver.calls)

    def look_on() -> None:
        delivery.deliver_due()
        time.sleep(0.005)
        world.wait(0.3)  # those that found no place come again

    while calls_of(other) < 40:
        look_on()
    assert calls_of(hangs) == 8
    let_go.set()
    while world.outbox._waiting:
        look_on()
    assert calls_of(hangs) == calls_of(other) == 40
    delivery.close()


def test_a_tenant_whose_receivers_hang_holds_up_no_other(world: World) -> None:
    for number in range(5):
        world.add(url=f"https://hangs-{number}.test")
    world.add(tenant="other", url="https://other.test")
    let_go = threading.Event()

    def call(url: str) -> None:
        if url != "https://other.test":
            assert let_go.wait(60)

    world.receiver.on_call = call
    for tenant in ("default", "other"):
        for _ in range(8):
            world.finish(tenant=tenant)
    delivery = world.delivery()
    try:
        for _ in range(10):
            delivery.deliver_due()
            time.sleep(0.005)
            world.wait(0.3)
        called = [url for url, _, _ in world.receiver.calls]
        assert called.count("https://other.test") == 8
        assert len(called) == 8 + 16
    finally:
        let_go.set()
        delivery.close()


def test_a_url_that_is_none_harms_nobody(world: World) -> None:
    world.add(url="https://[broken")
    world.finish()
    world.receiver.answers = [CallFailed("this is no URL")]
    world.deliver()
    [waiting] = world.outbox._waiting.values()
    assert waiting.delivery.problem == "this is no URL"
