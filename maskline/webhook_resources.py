"""What the native API takes and gives where webhooks are managed."""

from datetime import datetime
from typing import Annotated

from pydantic import AwareDatetime, Field, field_validator

from maskline.requests import WebhookUrl
from maskline.webhook_secret import WebhookSecret
from maskline.webhooks import EVERY_END, DisabledReason, EndpointEvent
from maskline.wire import WireModel

KEEP_OLD_S = 24 * 3600
MAX_KEEP_OLD_S = 7 * 24 * 3600

Events = Annotated[tuple[EndpointEvent, ...], Field(min_length=1)]
Description = Annotated[str, Field(max_length=256)]


def _once(events: tuple[EndpointEvent, ...]) -> tuple[EndpointEvent, ...]:
    return tuple(dict.fromkeys(events))


class NewWebhook(WireModel):
    """What a webhook is made of."""

    url: WebhookUrl
    """Where events are posted; http or https."""
    events: Events = EVERY_END
    """Which events; left out: every end of a job or a batch."""
    description: Description = ""
    """For people."""
    secret: WebhookSecret | None = None
    """Signing secret as Standard Webhooks writes it (``whsec_`` and base64 of 24 to 64 bytes).
    Left out: one is made."""

    _events_once = field_validator("events")(_once)


class WebhookChange(WireModel):
    """What is to be changed about a webhook; what is left out or null stays."""

    url: WebhookUrl | None = None
    """Where events are posted; http or https."""
    events: Events | None = None
    """Which events."""
    description: Description | None = None
    """For people."""
    enabled: bool | None = None
    """Whether events are sent."""

    @field_validator("events")
    @classmethod
    def _events_once(cls, events: tuple[EndpointEvent, ...] | None) -> tuple[EndpointEvent, ...] | None:
        return None if events is None else _once(events)


class SecretRotation(WireModel):
    """How a webhook gets another secret."""

    secret: WebhookSecret | None = None
    """The new secret; left out: one is made."""
    keep_old_for: Annotated[int, Field(ge=0, le=MAX_KEEP_OLD_S)] = KEEP_OLD_S
    """Seconds for which the old secret signs too."""


class DisabledResource(WireModel):
    """Why nothing is sent to a webhook."""

    reason: DisabledReason
    """For programs: ``client`` (as it was asked for), ``gone`` (it answered with 410), ``failing``."""
    note: str
    """For people."""
    at: datetime
    """Since when."""


class WebhookResource(WireModel):
    """A webhook, without its secret."""

    id: str
    """Name of the webhook."""
    url: str
    """Where events are posted."""
    events: tuple[EndpointEvent, ...]
    """Which events."""
    description: str
    """For people."""
    enabled: bool
    """Whether events are sent."""
    disabled: DisabledResource | None = None
    """If they are not: why."""
    created_at: datetime
    """When it was made."""
    old_secret_ends_at: datetime | None = None
    """While an old secret signs too: until when."""


class CreatedWebhook(WebhookResource):
    """A webhook with its new secret, which is shown this once."""

    secret: str
    """To verify events with."""


class WebhookPage(WireModel):
    """All webhooks."""

    webhooks: tuple[WebhookResource, ...]
    """Oldest first."""


class WebhookTestResource(WireModel):
    """What became of a test event."""

    event_id: str
    """Its ``webhook-id``."""
    delivered: bool
    """Whether the receiver took it."""
    status: int | None = None
    """That the receiver answered with; absent: there was no answer."""
    problem: str | None = None
    """If it was not delivered: why."""


class DeadLetterResource(WireModel):
    """An event that one receiver could not be given."""

    id: str
    """Name of the dead letter."""
    event_id: str
    """The event's ``webhook-id``."""
    type: str
    """Of the event."""
    webhook: str | None = None
    """Id of the receiver; absent: the job's own webhook."""
    subject: str
    """Id of the job or batch that it is about."""
    version: int
    """Of that."""
    happened_at: datetime
    """When it happened."""
    buried_at: datetime
    """When it was given up."""
    tries: int
    """That failed."""
    problem: str
    """Why the latest failed, or was not made."""


class DeadLetterListing(WireModel):
    """One page of the dead letters, latest first."""

    dead_letters: tuple[DeadLetterResource, ...]
    """The dead letters."""
    next_page_token: str | None = None
    """Give it as ``pageToken`` to get the next page; absent on the last one."""


class Replay(WireModel):
    """Which dead letters are to be sent again: those that were given up within a time."""

    since: AwareDatetime
    """From then on, as RFC 3339 writes times."""
    until: AwareDatetime | None = None
    """Until before then; left out: until now."""
    webhook: str | None = None
    """Of this one alone, by its id; left out: of all, and of jobs' own."""


class ReplayResource(WireModel):
    """What a replay came to."""

    replayed: int
    """Dead letters that are sent again now."""
