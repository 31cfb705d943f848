"""Webhook endpoints and the outbox in Redis. Keys and scripts are described in ``lua/prelude.lua``."""

from collections.abc import Collection, Iterable

from maskline.adapters.redis_connection import RedisConnection, translated
from maskline.errors import TooManyWebhooks
from maskline.jobs import new_job_id
from maskline.webhooks import (
    FAILING_GAP_S,
    MAX_ENDPOINTS,
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

_SCAN = 200  # dead letters looked at in one step
_REPLAYED_AT_ONCE = 200
_OUTCOME_S = 120  # for which the outcome of a test is kept


class RedisEndpointStore:
    """``EndpointStore`` over Redis."""

    def __init__(self, connection: RedisConnection) -> None:
        """Shares the connection of the job store."""
        self._connection = connection
        self._prefix = connection.prefix

    def save(self, endpoint: Endpoint, *, over: int) -> bool:
        events = "" if endpoint.disabled else ",".join(endpoint.events)
        saved = self._connection.run(
            "save_endpoint", endpoint.id, endpoint.tenant, over, endpoint.to_json(), events, MAX_ENDPOINTS
        )
        if saved == "full":
            raise TooManyWebhooks(f"there are {MAX_ENDPOINTS} webhooks already; remove one first")
        return saved == "saved"

    def find(self, tenant: str, endpoint_id: str) -> Endpoint | None:
        text = self._connection.command("HGET", self._key(tenant), endpoint_id)
        if not text:
            self._connection.require_memory()
            return None
        return Endpoint.model_validate_json(text)

    def all(self, tenant: str) -> list[Endpoint]:
        texts = self._connection.command("HVALS", self._key(tenant))
        if not texts:
            self._connection.require_memory()
        return sorted(map(Endpoint.model_validate_json, texts), key=lambda endpoint: endpoint.id)

    def remove(self, tenant: str, endpoint_id: str) -> None:
        self._connection.run("remove_endpoint", endpoint_id, tenant)

    def _key(self, tenant: str) -> str:
        return f"{self._prefix}endpoints:{tenant}"


class RedisOutbox:
    """``Outbox`` over Redis."""

    def __init__(self, connection: RedisConnection, *, keep_dead_s: float, max_dead: int) -> None:
        """Shares the connection of the job store. ``keep_dead_s``: how long a dead letter is kept;
        ``max_dead``: most of a tenant, beyond which the oldest go."""
        self._connection = connection
        self._redis = connection.redis
        self._prefix = connection.prefix
        self._keep_dead_ms = int(keep_dead_s * 1000)
        self._max_dead = max_dead

    def due(self, limit: int, hide_for_s: float) -> list[Delivery]:
        texts = self._connection.run("due_deliveries", limit, int(hide_for_s * 1000))
        return [Delivery.model_validate_json(text) for text in texts if text]

    def delivered(self, delivery: Delivery) -> None:
        self._connection.run("end_delivery", delivery.id, delivery.endpoint or "")

    def drop(self, delivery: Delivery) -> None:
        self._connection.run("end_delivery", delivery.id, "")

    def postpone(self, delivery: Delivery, for_s: float) -> None:
        self._connection.run("postpone_delivery", delivery.id, int(for_s * 1000))

    def retry(self, delivery: Delivery, in_s: float) -> float:
        failing_ms = self._connection.run(
            "retry_delivery",
            delivery.id,
            delivery.to_json(),
            int(in_s * 1000),
            delivery.tenant,
            delivery.endpoint or "",
            int(FAILING_GAP_S * 1000),
        )
        return int(failing_ms) / 1000

    def bury(self, delivery: Delivery) -> None:
        self._connection.run(
            "bury_delivery",
            delivery.id,
            delivery.tenant,
            delivery.to_json(),
            self._keep_dead_ms,
            self._max_dead,
        )

    def dead_letters(
        self, tenant: str, *, endpoint_id: str | None, size: int, token: str | None
    ) -> DeadLetterPage:
        before = split_page_token(token) if token else None
        found: list[DeadLetter] = []
        offset = 0
        while len(found) <= size:
            with translated():
                pairs = self._redis.zrange(
                    self._index(tenant),
                    before[0] if before else "+inf",
                    "-inf",
                    desc=True,
                    byscore=True,
                    offset=offset,
                    num=_SCAN,
                    withscores=True,
                )
            found += self._read(
                (int(buried_ms), letter_id)
                for letter_id, buried_ms in pairs
                if is_of_endpoint(letter_id, endpoint_id)
                and (before is None or (int(buried_ms), letter_id) < before)
            )
            if len(pairs) < _SCAN:
                break
            offset += _SCAN
        letters = tuple(found[:size])
        return DeadLetterPage(
            letters=letters, next_token=page_token(letters[-1]) if len(found) > size else None
        )

    def replay(self, tenant: str, delivery_id: str) -> bool:
        return bool(self._connection.run("replay_deliveries", tenant, delivery_id))

    def replay_between(
        self,
        tenant: str,
        *,
        receivers: Collection[str],
        since_ms: int,
        until_ms: int,
    ) -> int:
        with translated():
            ids = self._redis.zrange(self._index(tenant), since_ms, f"({until_ms}", byscore=True)
        chosen = [letter_id for letter_id in ids if receiver_of(letter_id) in receivers]
        return sum(
            self._connection.run("replay_deliveries", tenant, *chosen[start : start + _REPLAYED_AT_ONCE])
            for start in range(0, len(chosen), _REPLAYED_AT_ONCE)
        )

    def send_test(self, endpoint: Endpoint) -> str:
        event_id = f"evt_{new_job_id()}_test"
        self._connection.run("test_endpoint", event_id, endpoint.tenant, endpoint.id)
        return event_id

    def tested(self, delivery: Delivery, outcome: DeliveryOutcome) -> None:
        self._connection.command(
            "SET", self._outcome_key(delivery.event_id), outcome.to_json(), "EX", _OUTCOME_S
        )
        self.drop(delivery)

    def test_outcome(self, event_id: str) -> DeliveryOutcome | None:
        text = self._connection.command("GET", self._outcome_key(event_id))
        return DeliveryOutcome.model_validate_json(text) if text else None

    def _read(self, letters: Iterable[tuple[int, str]]) -> list[DeadLetter]:
        """Those that are still there."""
        wanted = list(letters)
        if not wanted:
            return []
        with translated():
            texts = self._redis.mget(f"{self._prefix}dead_letter:{letter_id}" for _, letter_id in wanted)
        return [
            DeadLetter(delivery=Delivery.model_validate_json(text), buried_ms=buried_ms)
            for (buried_ms, _), text in zip(wanted, texts, strict=True)
            if text
        ]

    def _index(self, tenant: str) -> str:
        return f"{self._prefix}dead_letters:{tenant}"

    def _outcome_key(self, event_id: str) -> str:
        return f"{self._prefix}webhook_test:{event_id}"
