"""What the API needs from the world, wired in one place."""

import hashlib
import hmac
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

from maskline.adapters.celery_queue import CeleryHints, CeleryTaskQueue, make_celery
from maskline.adapters.redis_batches import RedisBatchStore
from maskline.adapters.redis_connection import RedisConnection
from maskline.adapters.redis_gate import RedisSubmissionGate
from maskline.adapters.redis_jobs import RedisJobStore
from maskline.adapters.redis_keys import RedisKeyStore
from maskline.adapters.redis_models import RedisModelDirectory
from maskline.adapters.redis_webhooks import RedisEndpointStore, RedisOutbox
from maskline.adapters.s3_artifacts import S3ArtifactStore
from maskline.artifacts import Artifact, result_key
from maskline.catalog import load_catalog
from maskline.endpoint_records import EndpointRecords
from maskline.errors import ModelNotFound
from maskline.jobs import Job
from maskline.ports import (
    ArtifactStore,
    BatchStore,
    EndpointStore,
    JobStore,
    KeyStore,
    ModelDirectory,
    Outbox,
    SubmissionGate,
    TaskQueue,
)
from maskline.results import ModelCard, ResultDocument
from maskline.settings import Settings, SettingsError

_CACHED_RESULTS = 512
_CARDS_FRESH_S = 2.0


class Waiters:
    """Bounds the requests that wait, so that there are always threads left for those that don't."""

    def __init__(self, most: int) -> None:
        """``most``: that may wait at once."""
        self._free = threading.BoundedSemaphore(most)

    @contextmanager
    def seat(self) -> Iterator[bool]:
        """Whether there is room for one more; it is taken until the block ends."""
        seated = self._free.acquire(blocking=False)
        try:
            yield seated
        finally:
            if seated:
                self._free.release()


class Cards:
    """The models' cards, read again when they are older than a moment or a model is unknown."""

    def __init__(self, models: ModelDirectory) -> None:
        """``models``: where the workers publish them."""
        self._models = models
        self._cards: dict[str, ModelCard] = {}
        self._read_at = -math.inf

    def find(self, model: str) -> ModelCard:
        """The card of a model, by its id or one of its aliases.

        Raises:
            ModelNotFound: no worker has ever offered it.
        """
        if model not in self._cards or self._is_stale():
            self._read()
        if model not in self._cards:
            raise ModelNotFound(self._why_not(model))
        return self._cards[model]

    def all(self) -> list[ModelCard]:
        """Every card, in the order of the ids."""
        return [card for name, card in sorted(self.by_name().items()) if name == card.id]

    def by_name(self) -> dict[str, ModelCard]:
        """The card of each model by its id, and by each of its aliases."""
        if self._is_stale():
            self._read()
        return dict(self._cards)

    def _why_not(self, model: str) -> str:
        ids = dict.fromkeys(card.id for card in self._cards.values())
        known = ", ".join(ids) or "none yet, for no worker has started"
        if shipped := self._shipped.get(model):
            return (
                f"no worker offers the model {model!r}; what it needs is told by: "
                f"maskline models show {shipped}; there are: {known}"
            )
        return f"there is no model {model!r}; there are: {known}"

    @cached_property
    def _shipped(self) -> dict[str, str]:
        """The id of each model of the shipped catalog, by itself and by its aliases."""
        specs = load_catalog().values()
        return {name: spec.id for spec in specs for name in (*spec.aliases, spec.id)}

    def _is_stale(self) -> bool:
        return time.monotonic() - self._read_at > _CARDS_FRESH_S

    def _read(self) -> None:
        cards = self._models.cards()
        aliased = {alias: card for card in cards.values() for alias in card.aliases}
        self._cards, self._read_at = aliased | cards, time.monotonic()


@dataclass(frozen=True, kw_only=True)
class Services:
    """The stores and the queue behind the API."""

    settings: Settings
    jobs: JobStore
    artifacts: ArtifactStore
    queue: TaskQueue
    models: ModelDirectory
    keys: KeyStore
    batches: BatchStore
    gate: SubmissionGate
    endpoints: EndpointStore
    outbox: Outbox
    waiters: Waiters
    url_secret: str = field(repr=False)

    @classmethod
    def from_settings(cls, settings: Settings) -> "Services":
        """The real ones; nothing connects before it is used.

        Raises:
            SettingsError: the settings lack what artifact URLs are signed with.
        """
        connection = RedisConnection(settings.redis_url, settings.redis_prefix)
        celery = make_celery(settings.redis_url, settings.redis_prefix)
        return cls(
            settings=settings,
            jobs=RedisJobStore(
                connection,
                idempotency_expiry_s=settings.idempotency_expiry,
                make_message=CeleryHints(settings.redis_prefix),
            ),
            artifacts=S3ArtifactStore.from_settings(settings),
            queue=CeleryTaskQueue(celery),
            models=RedisModelDirectory(connection),
            keys=RedisKeyStore(connection),
            batches=RedisBatchStore(connection),
            gate=RedisSubmissionGate(connection),
            endpoints=RedisEndpointStore(connection),
            outbox=RedisOutbox(
                connection, keep_dead_s=settings.dead_letter_expiry, max_dead=settings.max_dead_letters
            ),
            waiters=Waiters(settings.max_waiters),
            url_secret=_url_secret(settings),
        )

    @cached_property
    def webhooks(self) -> EndpointRecords:
        """The webhook endpoints of all tenants."""
        return EndpointRecords(self.endpoints, self.artifacts)

    @cached_property
    def cards(self) -> Cards:
        """What the models can do."""
        return Cards(self.models)

    def result_of(self, job: Job) -> ResultDocument:
        """What a succeeded job's last attempt produced.

        Raises:
            ArtifactNotFound: the bucket lost it.
            ArtifactStoreUnavailable: the store does not answer.
        """
        return self._read_result(result_key(job.id, job.attempt, Artifact.PREDICTION))

    @cached_property
    def _read_result(self) -> Callable[[str], ResultDocument]:
        # A key is written once, so what was read from it stays true.
        @lru_cache(maxsize=_CACHED_RESULTS)
        def read(key: str) -> ResultDocument:
            return ResultDocument.model_validate_json(self.artifacts.get(key))

        return read


def _url_secret(settings: Settings) -> str:
    if settings.url_secret is not None:
        return settings.url_secret.get_secret_value()
    if settings.s3_secret_key is not None:
        key = settings.s3_secret_key.get_secret_value().encode()
        return hmac.new(key, b"maskline artifact URLs", hashlib.sha256).hexdigest()
    raise SettingsError("MASKLINE_URL_SECRET: set it to a long random text; artifact URLs are signed with it")
