"""In-memory doubles of the webhook endpoints and the outbox."""

import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from maskline.clock import time_ms
from maskline.errors import TooManyWebhooks
from maskline.jobs import new_job_id
from maskline.webhooks import (
    FAILING_GAP_S,
    MAX_ENDPOINTS,
    OWN,
    TEST_EVENT,
    DeadLetter,
    DeadLetterPage,
    Delivery,
    DeliveryOutcome,
    Endpoint,
    is_of_endpoint,
    page_token,
    receiver_of,
    split_page_token,
)


@dataclass(kw_only=True)
class _Waiting:
    delivery: Delivery
    due_ms: int


@dataclass
class MemoryEndpointStore:
    """``EndpointStore`` in a dictionary."""

    failing: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Since when, and when last, an endpoint's deliveries failed; the outbox writes it down."""
    _endpoints: dict[tuple[str, str], Endpoint] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def lose_memory(self) -> None:
        """Forget them all."""
        with self._lock:
            self._endpoints.clear()
            self.failing.clear()

    def save(self, endpoint: Endpoint, *, over: int) -> bool:
        with self._lock:
            known = self.find(endpoint.tenant, endpoint.id)
            if (known.version if known else 0) != over:
                return False
            if known is None and len(self.all(endpoint.tenant)) >= MAX_ENDPOINTS:
                raise TooManyWebhooks(f"there are {MAX_ENDPOINTS} webhooks already; remove one first")
            self._endpoints[endpoint.tenant, endpoint.id] = endpoint
            if endpoint.disabled:
                self.failing.pop(endpoint.id, None)
            return True

    def find(self, tenant: str, endpoint_id: str) -> Endpoint | None:
        return self._endpoints.get((tenant, endpoint_id))

    def all(self, tenant: str) -> list[Endpoint]:
        with self._lock:
            mine = [endpoint for (owner, _), endpoint in self._endpoints.items() if owner == tenant]
        return sorted(mine, key=lambda endpoint: endpoint.id)

    def remove(self, tenant: str, endpoint_id: str) -> None:
        with self._lock:
            if self._endpoints.pop((tenant, endpoint_id), None):
                self.failing.pop(endpoint_id, None)


@dataclass
class MemoryOutbox:
    """``Outbox`` in a dictionary; the doubles of the stores of jobs and batches put their events in."""

    endpoints: MemoryEndpointStore = field(default_factory=MemoryEndpointStore)
    clock_ms: Callable[[], int] = time_ms
    keep_dead_s: float = 3600.0
    max_dead: int = 1000
    _waiting: dict[str, _Waiting] = field(default_factory=dict)
    _dead: dict[str, DeadLetter] = field(default_factory=dict)
    _outcomes: dict[str, DeliveryOutcome] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def lose_memory(self) -> None:
        """Be as a Redis after FLUSHALL; the endpoints go too."""
        with self._lock:
            self._waiting.clear()
            self._dead.clear()
            self._outcomes.clear()
            self.endpoints.lose_memory()

    def emit(
        self, event: str, *, tenant: str, subject: str, version: int, attempt: int = 0, to_own: bool = False
    ) -> None:
        """Tell of an event: each endpoint of the tenant that chose it, and the job's own webhook if
        ``to_own``."""
        event_id = f"evt_{subject}_{event.partition('.')[2]}"
        if event == "job.started" or (event.startswith("batch.") and attempt):
            event_id += f"_{attempt}"
        chosen = [one for one in self.endpoints.all(tenant) if event in one.events and not one.disabled]
        for receiver in (*([OWN] if to_own else []), *(endpoint.id for endpoint in chosen)):
            self._send(event_id, event, receiver, tenant=tenant, subject=subject, version=version)

    def due(self, limit: int, hide_for_s: float) -> list[Delivery]:
        with self._lock:
            now = self.clock_ms()
            due = sorted((w for w in self._waiting.values() if w.due_ms <= now), key=lambda w: w.due_ms)
            for waiting in due[:limit]:
                waiting.due_ms = now + int(hide_for_s * 1000)
            return [waiting.delivery for waiting in due[:limit]]

    def delivered(self, delivery: Delivery) -> None:
        with self._lock:
            self.drop(delivery)
            self.endpoints.failing.pop(delivery.endpoint or "", None)

    def drop(self, delivery: Delivery) -> None:
        with self._lock:
            self._waiting.pop(delivery.id, None)

    def postpone(self, delivery: Delivery, for_s: float) -> None:
        with self._lock:
            if waiting := self._waiting.get(delivery.id):
                waiting.due_ms = self.clock_ms() + int(for_s * 1000)

    def retry(self, delivery: Delivery, in_s: float) -> float:
        with self._lock:
            if delivery.id not in self._waiting:
                return 0.0
            now = self.clock_ms()
            self._waiting[delivery.id] = _Waiting(delivery=delivery, due_ms=now + int(in_s * 1000))
            endpoint = self.endpoints.find(delivery.tenant, delivery.endpoint or "")
            if endpoint is None or endpoint.disabled:
                return 0.0
            since, latest = self.endpoints.failing.get(endpoint.id, (now, now))
            if now - latest > FAILING_GAP_S * 1000:
                since = now
            self.endpoints.failing[endpoint.id] = since, now
            return (now - since) / 1000

    def bury(self, delivery: Delivery) -> None:
        with self._lock:
            if self._waiting.pop(delivery.id, None) is None:
                return
            self._dead[delivery.id] = DeadLetter(delivery=delivery, buried_ms=self.clock_ms())
            for oldest in self._letters(delivery.tenant)[self.max_dead :]:
                del self._dead[oldest.delivery.id]

    def dead_letters(
        self, tenant: str, *, endpoint_id: str | None, size: int, token: str | None
    ) -> DeadLetterPage:
        before = split_page_token(token) if token else None
        with self._lock:
            found = [
                letter
                for letter in self._letters(tenant)
                if is_of_endpoint(letter.delivery.id, endpoint_id)
                and (before is None or (letter.buried_ms, letter.delivery.id) < before)
            ]
        letters = tuple(found[:size])
        return DeadLetterPage(
            letters=letters, next_token=page_token(letters[-1]) if len(found) > size else None
        )

    def replay(self, tenant: str, delivery_id: str) -> bool:
        with self._lock:
            letter = self._dead.get(delivery_id)
            if letter is None or letter not in self._letters(tenant):
                return False
            del self._dead[delivery_id]
            fresh = letter.delivery.model_copy(update={"tries": 0})
            self._waiting[delivery_id] = _Waiting(delivery=fresh, due_ms=self.clock_ms())
            return True

    def replay_between(
        self,
        tenant: str,
        *,
        receivers: Collection[str],
        since_ms: int,
        until_ms: int,
    ) -> int:
        with self._lock:
            chosen = [
                letter.delivery.id
                for letter in self._letters(tenant)
                if since_ms <= letter.buried_ms < until_ms and receiver_of(letter.delivery.id) in receivers
            ]
            return sum(self.replay(tenant, letter_id) for letter_id in chosen)

    def send_test(self, endpoint: Endpoint) -> str:
        event_id = f"evt_{new_job_id()}_test"
        self._send(event_id, TEST_EVENT, endpoint.id, tenant=endpoint.tenant, subject=endpoint.id, version=0)
        return event_id

    def tested(self, delivery: Delivery, outcome: DeliveryOutcome) -> None:
        with self._lock:
            self._outcomes[delivery.event_id] = outcome
            self.drop(delivery)

    def test_outcome(self, event_id: str) -> DeliveryOutcome | None:
        return self._outcomes.get(event_id)

    def _send(
        self, event_id: str, event: str, receiver: str, *, tenant: str, subject: str, version: int
    ) -> None:
        with self._lock:
            now = self.clock_ms()
            delivery = Delivery(
                event_id=event_id,
                type=event,
                tenant=tenant,
                endpoint=None if receiver == OWN else receiver,
                subject=subject,
                version=version,
                timestamp_ms=now,
            )
            self._waiting.setdefault(delivery.id, _Waiting(delivery=delivery, due_ms=now))

    def _letters(self, tenant: str) -> list[DeadLetter]:
        """The tenant's dead letters that are kept, latest first."""
        oldest_ms = self.clock_ms() - int(self.keep_dead_s * 1000)
        kept = [
            letter
            for letter in self._dead.values()
            if letter.delivery.tenant == tenant and letter.buried_ms > oldest_ms
        ]
        return sorted(kept, key=lambda letter: (letter.buried_ms, letter.delivery.id), reverse=True)
