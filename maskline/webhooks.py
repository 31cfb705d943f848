"""Webhooks: the endpoints that a tenant registers once, and events on their way to these or to a job's own.

Every receiver of an event gets it under the event's one id, which follows from the job or batch and from what
happened to it, so that an event which is made again is still the same.
"""

import base64
import secrets
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from pydantic import Field

from maskline.batches import Batch, BatchState, Progress
from maskline.clock import time_ms
from maskline.requests import EventType
from maskline.wire import WireModel

MAX_ENDPOINTS = 50  # of a tenant; each of its events is looked at for each of them
MAX_SECRETS = 5  # of an endpoint that are valid at once
FAILING_GAP_S = 2 * 24 * 3600.0  # longer than any pause between two tries; after it failures count anew
TEST_EVENT = "webhook.test"
OWN = "own"  #: stands for a job's own webhook, where an endpoint has its id
ENDPOINTS = "webhooks/"  #: what the keys of all endpoints begin with
_SECRET_BYTES = 32


class EndpointEvent(StrEnum):
    """What an endpoint can be told of."""

    JOB_STARTED = EventType.STARTED.value
    JOB_SUCCEEDED = EventType.SUCCEEDED.value
    JOB_FAILED = EventType.FAILED.value
    JOB_CANCELLED = EventType.CANCELLED.value
    JOB_EXPIRED = EventType.EXPIRED.value
    BATCH_STARTED = "batch.started"
    BATCH_PROGRESSED = "batch.progressed"
    BATCH_SUCCEEDED = "batch.succeeded"
    BATCH_FAILED = "batch.failed"
    BATCH_CANCELLED = "batch.cancelled"


EVERY_END = tuple(event for event in EndpointEvent if not event.endswith((".started", ".progressed")))

_OF_BATCH = {
    BatchState.RUNNING: EndpointEvent.BATCH_STARTED,
    BatchState.SUCCEEDED: EndpointEvent.BATCH_SUCCEEDED,
    BatchState.FAILED: EndpointEvent.BATCH_FAILED,
    BatchState.CANCELLED: EndpointEvent.BATCH_CANCELLED,
}


class BatchEvent(NamedTuple):
    """What a batch tells of."""

    type: EndpointEvent
    number: int
    """Tells the event from others of its type; 0 the first."""


def batch_event(batch: Batch, progress: Progress) -> BatchEvent | None:
    """What a batch tells of that gets this progress; None: nothing."""
    if progress.state is not batch.progress.state:
        event = _OF_BATCH.get(progress.state)
        return BatchEvent(event, progress.rounds) if event else None
    if progress.tenths > batch.progress.tenths and progress.state is BatchState.RUNNING:
        return BatchEvent(EndpointEvent.BATCH_PROGRESSED, 100 * progress.rounds + 10 * progress.tenths)
    return None


class DisabledReason(StrEnum):
    """Why nothing is sent to an endpoint."""

    CLIENT = "client"  #: its owner wants it so
    GONE = "gone"  #: it answered with 410
    FAILING = "failing"  #: for days it took nothing


class Disabled(WireModel):
    """That nothing is sent to an endpoint."""

    reason: DisabledReason
    """For programs."""
    note: str
    """For people."""
    at_ms: int
    """Since when, in milliseconds since 1970."""


class SigningSecret(WireModel):
    """A secret that events are signed with."""

    secret: str
    """As Standard Webhooks writes it (``whsec_…``)."""
    until_ms: int | None = None
    """When it ends, in milliseconds since 1970; None: it is the current one."""


class Endpoint(WireModel):
    """A receiver of a tenant's events."""

    id: str
    """Ids sort by time."""
    tenant: str
    """Whose jobs and batches it is told of."""
    url: str
    """Where events are posted."""
    events: tuple[EndpointEvent, ...]
    """Which."""
    description: str = ""
    """For people."""
    secrets: tuple[SigningSecret, ...]
    """The current one first."""
    created_ms: int
    """In milliseconds since 1970."""
    disabled: Disabled | None = None
    """Why nothing is sent; None: events are."""
    version: int = Field(default=1, ge=1)
    """Grows by one with every change."""

    def valid_secrets(self, now_ms: int) -> tuple[SigningSecret, ...]:
        """Those that events are signed with now."""
        return tuple(one for one in self.secrets if one.until_ms is None or one.until_ms > now_ms)


class Delivery(WireModel):
    """An event on its way to one receiver. After a try that failed it holds all that the next one needs, for
    the job may be gone by then."""

    event_id: str
    """The same on every delivery, and for every receiver."""
    type: str
    """One of ``EndpointEvent``, or ``TEST_EVENT``."""
    tenant: str
    """Whose job, batch or endpoint it is about."""
    endpoint: str | None = None
    """Id of the receiver; None: the job's own webhook."""
    subject: str
    """Id of the job, batch or endpoint that it is about."""
    version: int = 0
    """Of the subject."""
    timestamp_ms: int
    """When it happened, in milliseconds since 1970."""
    tries: int = 0
    """That failed."""
    body: str | None = None
    """As it was sent first."""
    url: str | None = None
    """Of the job's own webhook."""
    secret: str | None = None
    """Of the job's own webhook."""
    problem: str | None = None
    """Why the latest try failed."""

    @property
    def id(self) -> str:
        """Names the event and its receiver."""
        return f"{self.event_id}.{self.endpoint or OWN}"


class DeadLetter(WireModel):
    """A delivery that is not tried any more, until somebody wants it to be."""

    delivery: Delivery
    """What could not be delivered."""
    buried_ms: int
    """When it was given up, in milliseconds since 1970."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DeadLetterPage:
    """A part of the dead letters, latest first."""

    letters: tuple[DeadLetter, ...]
    next_token: str | None


class DeliveryOutcome(WireModel):
    """What became of a test event."""

    status: int | None = None
    """That the receiver answered with; None: there was no answer."""
    problem: str | None = None
    """Why it was not delivered; None: it was."""


def new_endpoint_id() -> str:
    """A fresh id, in the order of time."""
    return f"wh_{time_ms():012x}{secrets.token_hex(6)}"


def new_secret() -> str:
    """A fresh secret, as Standard Webhooks writes it."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def endpoint_key(endpoint_id: str, version: int) -> str:
    """Key of an endpoint's record in Maskline's own bucket; each version has one of its own."""
    return f"{endpoint_prefix(endpoint_id)}{version:09d}.json"


def endpoint_prefix(endpoint_id: str) -> str:
    """What the keys of an endpoint's record begin with."""
    return f"{ENDPOINTS}{endpoint_id}/"


def is_of_endpoint(delivery_id: str, endpoint_id: str | None) -> bool:
    """Whether a delivery is to this endpoint; None: to any receiver."""
    return endpoint_id is None or receiver_of(delivery_id) == endpoint_id


def receiver_of(delivery_id: str) -> str:
    """Whom a delivery is to: an endpoint's id, or what stands for a job's own webhook."""
    return delivery_id.rpartition(".")[2]


def page_token(letter: DeadLetter) -> str:
    """What the page after this dead letter is asked for by."""
    return f"{letter.buried_ms}.{letter.delivery.id}"


def split_page_token(token: str) -> tuple[int, str]:
    """When the last dead letter of the page before was buried, and its id.

    Raises:
        ValueError: the token is of no page.
    """
    buried_ms, _, delivery_id = token.partition(".")
    return int(buried_ms), delivery_id
