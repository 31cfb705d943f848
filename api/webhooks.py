"""Routes by which a tenant registers webhooks, tests them, and replays what they could not be given."""

import time
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated

from flask import Blueprint, Response, g, request
from pydantic import Field

from api.body import Model, read_body, read_json
from api.openapi import operation
from api.services import Services
from maskline.clock import time_ms
from maskline.errors import (
    CapacityError,
    DeadLetterNotFound,
    Fault,
    InvalidRequest,
    TooManySecrets,
    WebhookDisabled,
    WebhookNotFound,
    WebhookNotTested,
)
from maskline.keys import Scope
from maskline.webhook_resources import (
    CreatedWebhook,
    DeadLetterListing,
    DeadLetterResource,
    DisabledResource,
    NewWebhook,
    Replay,
    ReplayResource,
    SecretRotation,
    WebhookChange,
    WebhookPage,
    WebhookResource,
    WebhookTestResource,
)
from maskline.webhooks import (
    MAX_SECRETS,
    OWN,
    DeadLetter,
    DeliveryOutcome,
    Disabled,
    DisabledReason,
    Endpoint,
    SigningSecret,
    new_endpoint_id,
    new_secret,
    receiver_of,
)
from maskline.wire import WireModel

_JSON = "application/json"
_WEBHOOKS_PATH = "/v1/webhooks"
_DEAD_PATH = f"{_WEBHOOKS_PATH}/deadLetters"
_MAX_BODY_BYTES = 1 << 16
_TEST_WAIT_S = 40.0  # longer than a call may take
_TEST_LOOK_S = 0.05


class DeadLetterQuery(WireModel):
    """Query of the dead letters."""

    webhook: str | None = None
    """Only those of this webhook, by its id."""
    page_size: Annotated[int, Field(ge=1, le=200)] = 50
    """Most dead letters on a page."""
    page_token: Annotated[str, Field(pattern=r"^[0-9]{1,16}\.[A-Za-z0-9_.]+$", max_length=256)] | None = None
    """``nextPageToken`` of the page before."""


def make_blueprint(services: Services) -> Blueprint:
    """``/v1/webhooks``."""
    views = _WebhookViews(services)
    blueprint = Blueprint("webhooks", __name__)
    for rule, method, view in (
        (_WEBHOOKS_PATH, "POST", views.create_webhook),
        (_WEBHOOKS_PATH, "GET", views.list_webhooks),
        (f"{_WEBHOOKS_PATH}/<webhook_id>", "GET", views.get_webhook),
        (f"{_WEBHOOKS_PATH}/<webhook_id>", "PATCH", views.change_webhook),
        (f"{_WEBHOOKS_PATH}/<webhook_id>", "DELETE", views.remove_webhook),
        (f"{_WEBHOOKS_PATH}/<webhook_id>:rotate", "POST", views.rotate_secret),
        (f"{_WEBHOOKS_PATH}/<webhook_id>:test", "POST", views.test_webhook),
        (_DEAD_PATH, "GET", views.list_dead_letters),
        (f"{_DEAD_PATH}:replay", "POST", views.replay_dead_letters),
        (f"{_DEAD_PATH}/<letter_id>:replay", "POST", views.replay_dead_letter),
    ):
        blueprint.add_url_rule(rule, view.__name__, view, methods=[method])

    @blueprint.before_request
    def reads_too() -> None:
        g.caller.require(Scope.READ)  # for a webhook is told of all that its tenant does

    return blueprint


class _WebhookViews:
    def __init__(self, services: Services) -> None:
        self._services = services
        self._records = services.webhooks
        self._outbox = services.outbox

    @operation(
        "Register a webhook; its secret is shown this once",
        tag="webhooks",
        bodies={_JSON: NewWebhook},
        answers={201: {_JSON: CreatedWebhook}},
        problems=(400, 409, 413, 422),
    )
    def create_webhook(self) -> Response:
        asked = _read(NewWebhook)
        secret = asked.secret or new_secret()
        endpoint = Endpoint(
            id=new_endpoint_id(),
            tenant=g.caller.tenant,
            url=asked.url,
            events=asked.events,
            description=asked.description,
            secrets=(SigningSecret(secret=secret),),
            created_ms=time_ms(),
        )
        self._records.add(endpoint)
        response = _answer(_created(endpoint), HTTPStatus.CREATED)
        response.headers["Location"] = f"{_WEBHOOKS_PATH}/{endpoint.id}"
        return response

    @operation("List the webhooks", tag="webhooks", answers={200: {_JSON: WebhookPage}})
    def list_webhooks(self) -> Response:
        endpoints = self._services.endpoints.all(g.caller.tenant)
        return _answer(WebhookPage(webhooks=tuple(map(_resource, endpoints))))

    @operation("A webhook", tag="webhooks", answers={200: {_JSON: WebhookResource}}, problems=(404,))
    def get_webhook(self, webhook_id: str) -> Response:
        return _answer(_resource(self._records.get(g.caller.tenant, webhook_id)))

    @operation(
        "Change a webhook; disable it, or enable it again",
        tag="webhooks",
        bodies={_JSON: WebhookChange},
        answers={200: {_JSON: WebhookResource}},
        problems=(400, 404, 413, 422),
    )
    def change_webhook(self, webhook_id: str) -> Response:
        asked = _read(WebhookChange)
        changes = asked.model_dump(exclude_none=True, include={"url", "events", "description"})

        def change(endpoint: Endpoint) -> Endpoint:
            disabled = endpoint.disabled
            if asked.enabled is True:
                disabled = None
            elif asked.enabled is False and disabled is None:
                disabled = Disabled(
                    reason=DisabledReason.CLIENT, note="it was disabled by the API", at_ms=time_ms()
                )
            return endpoint.model_copy(update=changes | {"disabled": disabled})

        return _answer(_resource(self._records.change(g.caller.tenant, webhook_id, change)))

    @operation(
        "Remove a webhook; what is on its way to it is dropped",
        tag="webhooks",
        answers={204: {}},
        problems=(404,),
    )
    def remove_webhook(self, webhook_id: str) -> Response:
        self._records.remove(g.caller.tenant, webhook_id)
        return Response(status=HTTPStatus.NO_CONTENT)

    @operation(
        "Give a webhook a new secret, shown this once; for a while the old one signs too",
        tag="webhooks",
        bodies={_JSON: SecretRotation},
        needs_body=False,
        answers={200: {_JSON: CreatedWebhook}},
        problems=(400, 404, 409, 413, 422),
    )
    def rotate_secret(self, webhook_id: str) -> Response:
        asked = _read(SecretRotation, default=b"{}")
        secret, now_ms = asked.secret or new_secret(), time_ms()

        def rotate(endpoint: Endpoint) -> Endpoint:
            current, *older = endpoint.valid_secrets(now_ms)
            until_ms = now_ms + asked.keep_old_for * 1000
            kept = [current.model_copy(update={"until_ms": until_ms}), *older] if asked.keep_old_for else []
            if len(kept) >= MAX_SECRETS:
                ends = _time(min(one.until_ms for one in older if one.until_ms is not None))
                raise TooManySecrets(
                    f"{MAX_SECRETS} secrets sign already; give keepOldFor 0, which ends them all at once, or "
                    f"rotate after {ends:%Y-%m-%dT%H:%M:%SZ}, when the first of them ends"
                )
            return endpoint.model_copy(update={"secrets": (SigningSecret(secret=secret), *kept)})

        return _answer(_created(self._records.change(g.caller.tenant, webhook_id, rotate)))

    @operation(
        "Send a signed test event now, and tell what it was answered with",
        tag="webhooks",
        answers={200: {_JSON: WebhookTestResource}},
        problems=(404,),
    )
    def test_webhook(self, webhook_id: str) -> Response:
        endpoint = self._records.get(g.caller.tenant, webhook_id)
        with self._services.waiters.seat() as seated:
            if not seated:
                raise CapacityError("too many requests wait already; try again later")
            event_id = self._outbox.send_test(endpoint)
            outcome = self._wait_for(event_id)
        return _answer(
            WebhookTestResource(
                event_id=event_id,
                delivered=outcome.problem is None,
                status=outcome.status,
                problem=outcome.problem,
            )
        )

    @operation(
        "List the events that could not be delivered, latest first",
        tag="webhooks",
        query=DeadLetterQuery,
        answers={200: {_JSON: DeadLetterListing}},
        problems=(422,),
    )
    def list_dead_letters(self, query: DeadLetterQuery) -> Response:
        page = self._outbox.dead_letters(
            g.caller.tenant, endpoint_id=query.webhook, size=query.page_size, token=query.page_token
        )
        return _answer(
            DeadLetterListing(dead_letters=tuple(map(_letter, page.letters)), next_page_token=page.next_token)
        )

    @operation(
        "Send the dead letters of a time again",
        tag="webhooks",
        bodies={_JSON: Replay},
        answers={200: {_JSON: ReplayResource}},
        problems=(400, 404, 409, 413, 422),
    )
    def replay_dead_letters(self) -> Response:
        asked = _read(Replay)
        until = asked.until or datetime.now(UTC)
        if asked.since >= until:
            raise InvalidRequest([Fault("/since", "it is not before until, or now; give an earlier time")])
        if asked.webhook is not None:
            self._require_listening(asked.webhook)
            receivers = {asked.webhook}
        else:
            endpoints = self._services.endpoints.all(g.caller.tenant)
            receivers = {OWN, *(one.id for one in endpoints if one.disabled is None)}
        replayed = self._outbox.replay_between(
            g.caller.tenant,
            receivers=receivers,
            since_ms=int(asked.since.timestamp() * 1000),
            until_ms=int(until.timestamp() * 1000) + (asked.until is None),
        )
        return _answer(ReplayResource(replayed=replayed))

    @operation(
        "Send one dead letter again",
        tag="webhooks",
        answers={200: {_JSON: ReplayResource}},
        problems=(404, 409),
    )
    def replay_dead_letter(self, letter_id: str) -> Response:
        if (receiver := receiver_of(letter_id)) != OWN:
            try:
                self._require_listening(receiver)
            except WebhookNotFound as error:
                raise DeadLetterNotFound(f"there is no dead letter {letter_id!r} of a webhook") from error
        if not self._outbox.replay(g.caller.tenant, letter_id):
            raise DeadLetterNotFound(f"there is no dead letter {letter_id!r}")
        return _answer(ReplayResource(replayed=1))

    def _require_listening(self, webhook_id: str) -> None:
        """Return if events are sent to the webhook: else it would be in vain, and cost the dead letter.

        Raises:
            WebhookNotFound: there is none, or none any more.
            WebhookDisabled: it is disabled.
        """
        if self._records.get(g.caller.tenant, webhook_id).disabled is not None:
            raise WebhookDisabled(f"the webhook {webhook_id} is disabled; enable it first")

    def _wait_for(self, event_id: str) -> DeliveryOutcome:
        wait_s = min(_TEST_WAIT_S, self._services.settings.max_wait)
        deadline = time.monotonic() + wait_s
        while time.monotonic() < deadline:
            if outcome := self._outbox.test_outcome(event_id):
                return outcome
            time.sleep(_TEST_LOOK_S)
        raise WebhookNotTested(
            f"no worker has sent the test event within {wait_s:g} s; see /readyz for workers"
        )


def _read(model: type[Model], default: bytes = b"") -> Model:
    return read_json(read_body(request, _MAX_BODY_BYTES) or default, model)


def _answer(resource: WireModel, status: HTTPStatus = HTTPStatus.OK) -> Response:
    return Response(resource.to_json(), status, mimetype=_JSON)


def _resource(endpoint: Endpoint) -> WebhookResource:
    disabled = endpoint.disabled
    old = [one.until_ms for one in endpoint.valid_secrets(time_ms()) if one.until_ms is not None]
    return WebhookResource(
        id=endpoint.id,
        url=endpoint.url,
        events=endpoint.events,
        description=endpoint.description,
        enabled=disabled is None,
        disabled=DisabledResource(reason=disabled.reason, note=disabled.note, at=_time(disabled.at_ms))
        if disabled
        else None,
        created_at=_time(endpoint.created_ms),
        old_secret_ends_at=_time(max(old)) if old else None,
    )


def _created(endpoint: Endpoint) -> CreatedWebhook:
    return CreatedWebhook(**dict(_resource(endpoint)), secret=endpoint.secrets[0].secret)


def _letter(letter: DeadLetter) -> DeadLetterResource:
    delivery = letter.delivery
    return DeadLetterResource(
        id=delivery.id,
        event_id=delivery.event_id,
        type=delivery.type,
        webhook=delivery.endpoint,
        subject=delivery.subject,
        version=delivery.version,
        happened_at=_time(delivery.timestamp_ms),
        buried_at=_time(letter.buried_ms),
        tries=delivery.tries,
        problem=delivery.problem or "",
    )


def _time(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
