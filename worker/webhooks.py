"""Delivering the outbox: signed as Standard Webhooks says, at least once, with the same id every time."""

import json
import random
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from http import HTTPStatus

import structlog
from standardwebhooks.webhooks import Webhook as Signer

from maskline.jobs import Job
from maskline.ports import Event, HousekeepingStore
from maskline.requests import Webhook
from worker.outgoing import Answer, CallFailed, OutgoingClient

logger = structlog.get_logger(module=__name__)

# Standard Webhooks' own example of a schedule, about three days in all.
RETRY_AFTER_S = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
_JITTER = 0.2
_THREADS = 8
_HIDE_S = 120.0  # longer than a delivery can take
_LONGEST_RETRY_AFTER_S = 86_400.0


class WebhookDelivery:
    """Delivers what is due, several events at a time."""

    def __init__(
        self,
        *,
        store: HousekeepingStore,
        find_job: Callable[[str], Job | None],
        client: OutgoingClient,
        secret: str | None,
        public_url: str | None,
    ) -> None:
        """``secret``: for jobs that gave none of their own; ``public_url``: of the API, for links."""
        self._store = store
        self._find_job = find_job
        self._client = client
        self._secret = secret
        self._public_url = (public_url or "").rstrip("/")
        self._threads = ThreadPoolExecutor(_THREADS, "webhooks")
        self._free = threading.Semaphore(_THREADS)

    def deliver_due(self) -> None:
        """Begin to deliver the events that are due; a slow receiver holds up nobody else."""
        while self._free.acquire(blocking=False):
            due = self._store.due_events(1, _HIDE_S)
            if not due:
                self._free.release()
                return
            self._threads.submit(self._try, due[0])

    def close(self) -> None:
        """End, after the deliveries that are under way."""
        self._threads.shutdown(cancel_futures=True)

    def _try(self, event: Event) -> None:
        log = logger.bind(job=event.job_id, event_id=event.id, type=event.type)
        try:
            self._deliver(event, log)
        except Exception:
            log.exception("webhook not delivered")
            self._retry(event, None)
        finally:
            self._free.release()

    def _deliver(self, event: Event, log: structlog.typing.FilteringBoundLogger) -> None:
        job = self._find_job(event.job_id)
        webhook = job.request.webhook if job else None
        secret = webhook.secret or self._secret if webhook else None
        if job is None or webhook is None or secret is None:
            log.warning("webhook buried", reason="no secret to sign with" if webhook else "the job is gone")
            self._store.bury_event(event.id)
            return
        try:
            answer = self._post(event, job, webhook, secret)
        except CallFailed as error:
            log.warning("webhook not delivered", reason=str(error))
            self._retry(event, None)
            return
        if HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES:
            log.info("webhook delivered")
            self._store.settle_event(event.id, None)
        elif answer.status == HTTPStatus.GONE:
            log.warning("webhook refused for good")
            self._store.bury_event(event.id)
        else:
            log.warning("webhook not delivered", status=answer.status)
            self._retry(event, answer.retry_after)

    def _retry(self, event: Event, retry_after: str | None) -> None:
        if event.tries >= len(RETRY_AFTER_S):
            self._store.bury_event(event.id)
            return
        delay = RETRY_AFTER_S[event.tries] * random.uniform(1, 1 + _JITTER)  # noqa: S311 (spreads load)
        if retry_after is not None and re.fullmatch(r"[0-9]{1,9}", retry_after):
            delay = max(delay, min(float(retry_after), _LONGEST_RETRY_AFTER_S))
        self._store.settle_event(event.id, delay)

    def _post(self, event: Event, job: Job, webhook: Webhook, secret: str) -> Answer:
        body = json.dumps(self._payload(event, job), separators=(",", ":"))
        now = datetime.now(UTC)
        headers = {
            "Content-Type": "application/json",
            "webhook-id": event.id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": Signer(secret).sign(event.id, now, body),
        }
        return self._client.post(webhook.url, body.encode(), headers)

    def _payload(self, event: Event, job: Job) -> dict[str, object]:
        moment = datetime.fromtimestamp(event.timestamp_ms / 1000, UTC)
        return {
            "type": event.type,
            "timestamp": moment.isoformat().replace("+00:00", "Z"),
            "data": {
                "id": job.id,
                "state": event.type.removeprefix("job."),
                "version": event.version,
                "url": f"{self._public_url}/v1/jobs/{job.id}",
                "metadata": job.request.metadata,
            },
        }
