"""Delivering the outbox: signed as Standard Webhooks says, at least once, with the same id every time."""

import json
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import httpx
import structlog
from standardwebhooks.webhooks import Webhook as Signer

from maskline.jobs import Job
from maskline.ports import Event, HousekeepingStore
from worker.outgoing import OutgoingClient, Refused

logger = structlog.get_logger(module=__name__)

# Standard Webhooks' own example of a schedule, about three days in all.
RETRY_AFTER_S = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
_JITTER = 0.2
_LIMIT = 64
_THREADS = 8
_HIDE_S = 120.0  # longer than a delivery can take


class WebhookDelivery:
    """Delivers what is due."""

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

    def deliver_due(self) -> None:
        """Deliver the events that are due, and wait until each was tried."""
        events = self._store.due_events(_LIMIT, _HIDE_S)
        for _ in self._threads.map(self._deliver, events):
            pass

    def _deliver(self, event: Event) -> None:
        job = self._find_job(event.job_id)
        webhook = job.request.webhook if job else None
        secret = webhook.secret or self._secret if webhook else None
        if job is None or webhook is None or secret is None:
            self._store.settle_event(event.id, None)  # the job was deleted: nobody is left to be told
            return
        log = logger.bind(job=event.job_id, event_id=event.id, type=event.type)
        body = json.dumps(self._payload(event, job), separators=(",", ":"))
        now = datetime.now(UTC)
        headers = {
            "Content-Type": "application/json",
            "webhook-id": event.id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": Signer(secret).sign(event.id, now, body),
        }
        try:
            response = self._client.post(webhook.url, body.encode(), headers)
        except (httpx.HTTPError, httpx.InvalidURL, Refused) as error:
            log.warning("webhook not delivered", reason=str(error))
            self._retry(event, None)
            return
        if response.is_success:
            log.info("webhook delivered")
            self._store.settle_event(event.id, None)
        elif response.status_code == httpx.codes.GONE:
            log.warning("webhook refused for good")
            self._store.bury_event(event.id)
        else:
            log.warning("webhook not delivered", status=response.status_code)
            self._retry(event, response.headers.get("Retry-After"))

    def _retry(self, event: Event, retry_after: str | None) -> None:
        if event.tries >= len(RETRY_AFTER_S):
            self._store.bury_event(event.id)
            return
        delay = RETRY_AFTER_S[event.tries] * random.uniform(1, 1 + _JITTER)  # noqa: S311 (spreads load)
        if retry_after is not None and retry_after.isdigit():
            delay = max(delay, float(retry_after))
        self._store.settle_event(event.id, delay)

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
