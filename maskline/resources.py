"""The native API's answers, as the API writes them and the client reads them."""

from datetime import datetime
from typing import Annotated

from pydantic import Field, JsonValue

from maskline.jobs import Failure, JobState, Timings
from maskline.keys import DEFAULT_SCOPES, DEFAULT_TENANT, Scope, Tenant
from maskline.requests import MAX_EXPIRES_IN_S, MIN_EXPIRES_IN_S, Output, Priority, Prompt, Subtask
from maskline.results import AnnotationSpec, ModelCard, Prediction
from maskline.wire import WireModel


class JobResource(WireModel):
    """A job, as its client sees it."""

    id: str
    """Name of the job."""
    state: JobState
    """Where it is in its life."""
    version: int
    """Grows with every change of the state."""
    model: str
    """Id of the model."""
    subtask: Subtask
    """What it does."""
    prompts: tuple[Prompt, ...] | None = None
    """As submitted; left out of listings."""
    parameters: dict[str, JsonValue] = Field(default_factory=dict)
    """As submitted."""
    outputs: tuple[Output, ...]
    """What is made."""
    priority: Priority
    """Which queue it waits in."""
    metadata: dict[str, JsonValue] = Field(default_factory=dict)
    """As submitted."""
    created_at: datetime
    """When it was accepted."""
    started_at: datetime | None = None
    """When the current attempt began."""
    finished_at: datetime | None = None
    """When it ended."""
    expires_at: datetime
    """When it and its artifacts are removed."""
    attempt: int
    """How many times a worker has taken it."""
    place: Annotated[int, Field(ge=1)] | None = None
    """While queued: its place in the queue, 1 is next."""
    timings: Timings | None = None
    """When succeeded: where the time went."""
    width: int | None = None
    """Of the image and its masks, in pixels."""
    height: int | None = None
    """Of the image and its masks, in pixels."""
    prediction: Prediction | None = None
    """When succeeded: the masks, as URLs, ``s3://`` URIs or base64 (see ``masks``)."""
    annotation_specs: tuple[AnnotationSpec, ...] | None = None
    """When succeeded: what the pixel values of the category mask mean."""
    bit_depth: int | None = None
    """Of the category mask: 8 (palette) or 16 (grayscale, when there are more than 255 categories)."""
    segment_count: int | None = None
    """When succeeded: how many segments there are."""
    error: Failure | None = None
    """When failed: why."""


class JobPage(WireModel):
    """One page of a listing, newest jobs first, whose jobs lack their prompts, masks and annotation specs."""

    jobs: tuple[JobResource, ...]
    """The jobs."""
    next_page_token: str | None = None
    """Give it as ``pageToken`` to get the next page; absent on the last one."""


class ModelResource(ModelCard):
    """A model card, and whether the model can run now."""

    available: bool
    """Whether a worker that offers it is alive."""


class ModelPage(WireModel):
    """All models."""

    models: tuple[ModelResource, ...]
    """By id."""
    default_model: str
    """Id of the model that is taken when a request names none."""


class NewKey(WireModel):
    """What an API key is made of."""

    name: Annotated[str, Field(min_length=1, max_length=128)]
    """For people."""
    tenant: Tenant = DEFAULT_TENANT
    """Whose jobs it reaches; a tenant is there as soon as a key names it."""
    scopes: Annotated[tuple[Scope, ...], Field(min_length=1)] = DEFAULT_SCOPES
    """What it may do: ``submit`` (make, cancel, delete), ``read`` (look), ``admin`` (all tenants' keys); none
    includes another."""
    expires_in: Annotated[int, Field(ge=MIN_EXPIRES_IN_S, le=MAX_EXPIRES_IN_S)] | None = None
    """Seconds; left out: it does not expire."""


class KeyResource(WireModel):
    """An API key, without its secret."""

    id: str
    """For revoking it."""
    name: str
    """For people."""
    tenant: str
    """Whose jobs it reaches."""
    scopes: tuple[Scope, ...]
    """What it may do."""
    created_at: datetime
    """When it was made."""
    expires_at: datetime | None = None
    """When it stops working."""


class CreatedKey(KeyResource):
    """A new API key with its secret, which is shown this once."""

    key: str
    """Send it as ``Authorization: Bearer KEY`` or ``X-API-Key: KEY``."""


class KeyPage(WireModel):
    """All API keys."""

    keys: tuple[KeyResource, ...]
    """Oldest first."""


class HealthResource(WireModel):
    """Whether the service, or each server that it stands on, answers."""

    status: str
    """``ok`` or ``unavailable``."""
    dependencies: dict[str, str] = Field(default_factory=dict)
    """Name to ``ok``, or to what is wrong."""
    workers: int | None = None
    """Workers alive now."""


class FaultResource(WireModel):
    """One fault of a request."""

    pointer: str | None = None
    """JSON pointer (RFC 6901) of the faulty value in the body."""
    parameter: str | None = None
    """Name of the faulty query parameter."""
    detail: str
    """What is wrong with it, and what would be right."""


class Problem(WireModel):
    """An error, as RFC 9457 writes it (``application/problem+json``)."""

    type: str
    """URI that names the kind of problem."""
    title: str
    """The HTTP status in words."""
    status: int
    """The HTTP status."""
    code: str
    """Stable name of the error, for programs."""
    detail: str
    """What was wrong, and what would be right."""
    instance: str | None = None
    """Id of the request, as in the service's logs."""
    errors: tuple[FaultResource, ...] | None = None
    """For invalid requests: every fault."""
