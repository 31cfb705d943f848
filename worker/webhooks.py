"""Delivering the outbox: signed as Standard Webhooks says, at least once, with the same id every time."""

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import structlog
from standardwebhooks.webhooks import Webhook as Signer

from maskline.adapters.outgoing import Answer, CallFailed, OutgoingClient
from maskline.batches import Batch
from maskline.clock import time_ms
from maskline.endpoint_records import EndpointRecords
from maskline.errors import BatchNotFound, ServiceError, WebhookNotFound
from maskline.jobs import Job
from maskline.ports import BatchStore, JobStore, Outbox
from maskline.webhooks import (
    OWN,
    TEST_EVENT,
    Delivery,
    DeliveryOutcome,
    Disabled,
    DisabledReason,
    Endpoint,
)
from worker.webhook_bodies import event_body
from worker.webhook_lanes import Lanes

logger = structlog.get_logger(module=__name__)

# Standard Webhooks' own example of a schedule, about three days in all.
RETRY_AFTER_S = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
DISABLED_AFTER_S = 5 * 24 * 3600.0  # of failures alone
_BROKEN = "something went wrong inside the service; its log has the reason"
_JITTER = 0.2
_THREADS = 32
_LOOK_S = 2.0  # of one look for what is due, so that a worker can stop
_PATIENCE_S = 0.25  # for a thread to become free
_HIDE_S = 120.0  # longer than a delivery can take
_LONGEST_RETRY_AFTER_S = 86_400.0
_BUSY = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Parcel:
    """A delivery with all that its call needs."""

    delivery: Delivery
    url: str
    body: str
    secrets: tuple[str, ...]


class _Undeliverable(Exception):
    """The delivery can't be tried; the message says why. ``body``: what would have been sent."""

    def __init__(self, why: str, body: str | None = None) -> None:
        super().__init__(why)
        self.body = body


class WebhookDelivery:
    """Delivers what is due, many events at a time."""

    def __init__(
        self,
        *,
        outbox: Outbox,
        endpoints: EndpointRecords,
        jobs: JobStore,
        batches: BatchStore,
        client: OutgoingClient,
        secret: str | None,
        public_url: str | None,
    ) -> None:
        """``secret``: for jobs that gave none of their own; ``public_url``: of the API, for links."""
        self._outbox = outbox
        self._endpoints = endpoints
        self._jobs = jobs
        self._batches = batches
        self._client = client
        self._secret = secret
        self._public_url = (public_url or "").rstrip("/")
        self._threads = ThreadPoolExecutor(_THREADS, "webhooks")
        self._free = threading.Semaphore(_THREADS)
        self._lanes = Lanes(_THREADS)

    def deliver_due(self) -> None:
        """Look for a while, and begin to deliver what is due; a slow receiver holds up nobody else."""
        until = time.monotonic() + _LOOK_S
        while time.monotonic() < until and self._free.acquire(timeout=_PATIENCE_S):
            try:
                parcel = self._next()
            except BaseException:
                self._free.release()
                raise
            if parcel is None:
                self._free.release()
                return
            self._threads.submit(self._try, parcel)

    def close(self) -> None:
        """End, after the deliveries that are under way."""
        self._threads.shutdown(cancel_futures=True)

    # -- what is delivered

    def _next(self) -> _Parcel | None:
        """The next delivery that can be tried now, in its lane; None: there is none."""
        while due := self._outbox.due(1, _HIDE_S):
            [delivery] = due
            parcel = self._pack(delivery)
            if parcel is None:
                continue
            if not (wait_s := self._lanes.enter(delivery.tenant, parcel.url)):
                return parcel
            self._outbox.postpone(delivery, wait_s)
        return None

    def _pack(self, delivery: Delivery) -> _Parcel | None:
        try:
            return self._parcel(delivery)
        except WebhookNotFound:
            self._outbox.drop(delivery)
        except _Undeliverable as error:
            _log_of(delivery).warning("webhook buried", reason=str(error))
            kept = {"problem": str(error), "body": error.body or delivery.body}
            self._outbox.bury(delivery.model_copy(update=kept))
        except ServiceError:
            raise
        except Exception:
            _log_of(delivery).exception("webhook not delivered")
            self._failed(delivery, _BROKEN)
        return None

    def _parcel(self, delivery: Delivery) -> _Parcel:
        subject = None if delivery.body else self._subject(delivery)
        body = delivery.body or event_body(delivery, subject, self._public_url)
        if delivery.endpoint is not None:
            endpoint = self._endpoints.get(delivery.tenant, delivery.endpoint)
            if endpoint.disabled and delivery.type != TEST_EVENT:
                raise _Undeliverable("the webhook is disabled", body)
            valid = endpoint.valid_secrets(time_ms())
            secrets = tuple(one.secret for one in valid)
            return _Parcel(delivery=delivery, url=endpoint.url, body=body, secrets=secrets)
        if delivery.url is None:
            webhook = subject.request.webhook if isinstance(subject, Job) else None
            if webhook is None:
                raise _Undeliverable("the job is gone")
            delivery = delivery.model_copy(update={"url": webhook.url, "secret": webhook.secret})
        secret = delivery.secret or self._secret
        if secret is None:
            raise _Undeliverable("there is no secret to sign with")
        return _Parcel(delivery=delivery, url=str(delivery.url), body=body, secrets=(secret,))

    def _subject(self, delivery: Delivery) -> Job | Batch | None:
        if delivery.type.startswith("job."):
            return self._jobs.find(delivery.subject)
        if delivery.type.startswith("batch."):
            try:
                return self._batches.get(delivery.tenant, delivery.subject)
            except BatchNotFound:
                return None
        return None

    # -- how

    def _try(self, parcel: _Parcel) -> None:
        try:
            self._deliver(parcel)
        except ServiceError:  # it comes again when it is not hidden any more
            _log_of(parcel.delivery).exception("webhook not delivered")
        except Exception:
            _log_of(parcel.delivery).exception("webhook not delivered")
            self._broke(parcel)
        finally:
            self._lanes.leave(parcel.delivery.tenant, parcel.url)
            self._free.release()

    def _deliver(self, parcel: _Parcel) -> None:
        delivery, answer, problem = parcel.delivery, None, None
        try:
            answer = self._post(parcel)
        except CallFailed as error:
            problem = str(error)
        else:
            if not HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES:
                problem = f"it answered with status {answer.status}"
        if problem is None:
            _log_of(delivery).info("webhook delivered")
        else:
            _log_of(delivery).warning("webhook not delivered", reason=problem)
        if delivery.type == TEST_EVENT:
            status = answer.status if answer else None
            self._outbox.tested(delivery, DeliveryOutcome(status=status, problem=problem))
        elif problem is None:
            self._outbox.delivered(delivery)
        elif answer is not None and answer.status == HTTPStatus.GONE:
            self._disable(delivery, DisabledReason.GONE, "it answered with status 410 (Gone)")
            self._outbox.bury(delivery.model_copy(update={"body": parcel.body, "problem": problem}))
        else:
            kept = delivery.model_copy(update={"body": parcel.body})
            self._failed(kept, problem, _asked_pause(answer) if answer else 0.0)

    def _broke(self, parcel: _Parcel) -> None:
        """Count a try that our own fault ended, so that there is no end of them."""
        with suppress(ServiceError):
            if parcel.delivery.type == TEST_EVENT:
                self._outbox.tested(parcel.delivery, DeliveryOutcome(status=None, problem=_BROKEN))
            else:
                self._failed(parcel.delivery.model_copy(update={"body": parcel.body}), _BROKEN)

    def _post(self, parcel: _Parcel) -> Answer:
        now, event_id = datetime.now(UTC), parcel.delivery.event_id
        signatures = [Signer(secret).sign(event_id, now, parcel.body) for secret in parcel.secrets]
        headers = {
            "Content-Type": "application/json",
            "webhook-id": event_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": " ".join(signatures),
        }
        return self._client.post(parcel.url, parcel.body.encode(), headers)

    def _failed(self, delivery: Delivery, problem: str, asked_pause_s: float = 0.0) -> None:
        tried = delivery.model_copy(update={"tries": delivery.tries + 1, "problem": problem})
        if delivery.tries >= len(RETRY_AFTER_S):
            self._outbox.bury(tried)
            return
        pause_s = RETRY_AFTER_S[delivery.tries] * random.uniform(1, 1 + _JITTER)  # noqa: S311 (spreads load)
        failing_s = self._outbox.retry(tried, max(pause_s, asked_pause_s))
        if failing_s >= DISABLED_AFTER_S:
            days = int(failing_s // (24 * 3600))
            note = f"it took nothing for {days} days; at last: {problem}"
            self._disable(delivery, DisabledReason.FAILING, note)

    def _disable(self, delivery: Delivery, reason: DisabledReason, note: str) -> None:
        """Disable the endpoint of a delivery, if it has one and that is enabled."""
        if delivery.endpoint is None:
            return
        disabled = Disabled(reason=reason, note=note, at_ms=time_ms())

        def disable(endpoint: Endpoint) -> Endpoint:
            return endpoint.model_copy(update={"disabled": endpoint.disabled or disabled})

        try:
            self._endpoints.change(delivery.tenant, delivery.endpoint, disable)
        except WebhookNotFound:
            return
        _log_of(delivery).warning("webhook disabled", reason=reason, note=note)


def _asked_pause(answer: Answer) -> float:
    """Seconds for which a busy receiver wants to be left alone (RFC 9110, 10.2.3)."""
    if answer.status not in _BUSY or answer.retry_after is None:
        return 0.0
    if answer.retry_after.isdecimal() and answer.retry_after.isascii():
        pause_s = float(answer.retry_after)
    else:
        try:
            until = parsedate_to_datetime(answer.retry_after)
        except (ValueError, OverflowError):
            return 0.0
        pause_s = until.timestamp() - time.time()
    return max(0.0, min(pause_s, _LONGEST_RETRY_AFTER_S))


def _log_of(delivery: Delivery) -> structlog.typing.FilteringBoundLogger:
    kind = delivery.type.partition(".")[0]  # job, batch or webhook
    about = {kind: delivery.subject, "tenant": delivery.tenant, "receiver": delivery.endpoint or OWN}
    log: structlog.typing.FilteringBoundLogger = logger.bind(
        event_id=delivery.event_id, type=delivery.type, **about
    )
    return log
