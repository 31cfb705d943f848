"""The client that blocks."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Self

import httpx
from pydantic import JsonValue

from maskline.client import calls
from maskline.client.batches import Batches
from maskline.client.connection import POLL_S, settings_of
from maskline.client.errors import ConnectionFailed, JobDidNotSucceed, WaitTimeout
from maskline.client.requests import (
    POLL_PAUSE_S,
    Call,
    EventParser,
    ImageInput,
    is_done,
    parse,
    parse_health,
    poll_delay,
    retry_delay,
    submission,
)
from maskline.jobs import JobState
from maskline.keys import DEFAULT_SCOPES, DEFAULT_TENANT, Scope
from maskline.requests import Output, Priority, Prompt, Subtask, Webhook
from maskline.resources import (
    CreatedKey,
    HealthResource,
    JobPage,
    JobResource,
    KeyPage,
    KeyResource,
    ModelPage,
    ModelResource,
)
from maskline.results import Prediction, SegmentList
from maskline.webhook_resources import (
    KEEP_OLD_S,
    CreatedWebhook,
    DeadLetterListing,
    DeadLetterResource,
    NewWebhook,
    Replay,
    ReplayResource,
    SecretRotation,
    WebhookChange,
    WebhookPage,
    WebhookResource,
    WebhookTestResource,
)
from maskline.webhooks import EndpointEvent


class Client:
    """A client of the native API.

    Every call is repeated when the service can't be reached or is busy; a submission is safe to repeat
    because it carries an idempotency key. Every method raises ``ApiError`` when the service refuses,
    ``Unavailable`` when it stays busy, and ``ConnectionFailed`` when it can't be reached.
    """

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        timeout: float = 30.0,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """``base_url`` and ``api_key``: left out, ``MASKLINE_URL`` and ``MASKLINE_API_KEY`` say them;
        ``timeout``: seconds without a sign of the service."""
        self._timeout = timeout
        self._sleep = sleep
        self._http = httpx.Client(transport=transport, **settings_of(base_url, api_key))
        self.batches = Batches(self._http, self._send, timeout=timeout, transport=transport, sleep=sleep)
        """Data sets that are labelled as one."""

    def __enter__(self) -> Self:
        """The client itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self.batches.close()
        self._http.close()

    def submit(
        self,
        image: ImageInput,
        *,
        model: str | None = None,
        prompts: Sequence[Prompt] = (),
        parameters: Mapping[str, JsonValue] | None = None,
        subtask: Subtask | str | None = None,
        outputs: Sequence[Output | str] | None = None,
        auto_orient: bool = True,
        use_cache: bool = True,
        priority: Priority | str = Priority.INTERACTIVE,
        webhook: Webhook | None = None,
        expires_in: int | None = None,
        metadata: Mapping[str, JsonValue] | None = None,
        idempotency_key: str | None = None,
        wait: float | None = None,
    ) -> JobResource:
        """The job, queued; with ``wait`` (seconds) the ended job, if it ends in time.

        Raises:
            pydantic.ValidationError: a value is wrong by itself.
        """
        call = submission(
            image,
            model=model,
            prompts=prompts,
            parameters=parameters,
            subtask=subtask,
            outputs=outputs,
            auto_orient=auto_orient,
            use_cache=use_cache,
            priority=priority,
            webhook=webhook,
            expires_in=expires_in,
            metadata=metadata,
            idempotency_key=idempotency_key,
            wait=wait,
        )
        return parse(self._send(call), JobResource)

    def get(self, job_id: str, *, wait: float = 0, masks: str = "url") -> JobResource:
        """The job as it is, or as it is at its end if that comes within ``wait`` seconds.

        ``masks``: ``url``, ``uri`` or ``inline``.
        """
        return parse(self._send(calls.get_job(job_id, wait, masks)), JobResource)

    def wait(
        self,
        job_id: str,
        *,
        timeout: float | None = None,
        on_update: Callable[[JobResource], None] | None = None,
        masks: str = "url",
    ) -> JobResource:
        """The job when it has succeeded; ``on_update`` is called with each look at it.

        Raises:
            JobDidNotSucceed: it ended otherwise.
            WaitTimeout: it has not ended after ``timeout`` seconds.
        """
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        wait_s = POLL_S if timeout is None else min(timeout, POLL_S)
        if on_update is not None:
            wait_s = 0.0  # who watches wants to see something at once
        while True:
            asked_at = time.monotonic()
            job = self.get(job_id, wait=wait_s, masks=masks)
            if on_update is not None:
                on_update(job)
            if job.state.is_final:
                break
            if pause := poll_delay(wait_s, time.monotonic() - asked_at):
                self._sleep(pause)
            left = deadline - time.monotonic()
            if left <= 0:
                raise WaitTimeout(job)
            wait_s = min(left, POLL_S)
        if job.state is not JobState.SUCCEEDED:
            raise JobDidNotSucceed(job)
        return job

    def list(self, *, state: JobState | str | None = None, model: str | None = None) -> Iterator[JobResource]:
        """All jobs, newest first, without masks and annotation specs."""
        token: str | None = ""
        while token is not None:
            page = parse(self._send(calls.list_jobs(state, model, token)), JobPage)
            yield from page.jobs
            token = page.next_page_token

    def cancel(self, job_id: str) -> JobResource:
        """The job, cancelled; one that has ended stays as it is."""
        return parse(self._send(calls.cancel_job(job_id)), JobResource)

    def delete(self, job_id: str) -> None:
        """Remove the job and its artifacts."""
        self._send(calls.delete_job(job_id))

    def events(self, job_id: str) -> Iterator[JobResource]:
        """The job now and at each change, until it ends."""
        call = calls.get_events(job_id)
        seen: JobResource | None = None
        attempt = 0
        while seen is None or not seen.state.is_final:  # a stream that broke off is opened again
            refusal = failure = None
            try:
                with self._http.stream(call.method, call.path, timeout=self._timeout) as response:
                    if response.is_success:
                        parser = EventParser()
                        for chunk in response.iter_bytes():
                            for job in parser.feed(chunk):
                                attempt = 0
                                if seen is None or job.version != seen.version:
                                    seen = job
                                    yield job
                    else:
                        response.read()
                        refusal = response
            except httpx.RequestError as error:
                failure = self._failure(error)
            if seen is None or not seen.state.is_final:
                self._sleep(max(POLL_PAUSE_S, retry_delay(call, attempt, refusal, failure)))
                attempt += 1

    def prediction(self, job_id: str, *, masks: str = "inline") -> Prediction:
        """The Vertex result object; ``masks``: ``inline`` (base64), ``url`` or ``uri``."""
        return parse(self._send(calls.get_result(job_id, "prediction", masks)), Prediction)

    def segments(self, job_id: str) -> SegmentList:
        """The segments with their COCO run lengths."""
        return parse(self._send(calls.get_result(job_id, "segments")), SegmentList)

    def category_mask(self, job_id: str) -> bytes:
        """The category mask, a PNG."""
        return self._send(calls.get_result(job_id, "categoryMask.png")).content

    def confidence_mask(self, job_id: str) -> bytes:
        """The confidence mask, a PNG."""
        return self._send(calls.get_result(job_id, "confidenceMask.png")).content

    def overlay(self, job_id: str) -> bytes:
        """The image with the categories painted over it, a PNG."""
        return self._send(calls.get_result(job_id, "overlay.png")).content

    def models(self) -> ModelPage:
        """The models, and which is the default."""
        return parse(self._send(calls.list_models()), ModelPage)

    def model(self, model_id: str) -> ModelResource:
        """A model with its annotation specs and the schema of its parameters."""
        return parse(self._send(calls.get_model(model_id)), ModelResource)

    def create_key(
        self,
        name: str,
        *,
        tenant: str = DEFAULT_TENANT,
        scopes: Sequence[Scope | str] = DEFAULT_SCOPES,
        expires_in: int | None = None,
    ) -> CreatedKey:
        """A new API key; needs one with the scope ``admin``."""
        call = calls.create_key(name, tenant, scopes, expires_in)
        return parse(self._send(call), CreatedKey)

    def keys(self) -> Sequence[KeyResource]:
        """The API keys, without their secrets; needs one with the scope ``admin``."""
        return parse(self._send(calls.list_keys()), KeyPage).keys

    def revoke_key(self, key_id: str) -> None:
        """Revoke an API key; needs one with the scope ``admin``."""
        self._send(calls.revoke_key(key_id))

    def create_webhook(
        self,
        url: str,
        *,
        events: Sequence[EndpointEvent | str] | None = None,
        description: str = "",
        secret: str | None = None,
    ) -> CreatedWebhook:
        """A new webhook, with its secret, which is not shown again.

        ``events``: left out, every end of a job or a batch; ``secret``: left out, one is made.

        Raises:
            pydantic.ValidationError: a value is wrong by itself.
        """
        chosen = {} if events is None else {"events": tuple(events)}
        asked = NewWebhook.model_validate({"url": url, "description": description, "secret": secret} | chosen)
        return parse(self._send(calls.create_webhook(asked)), CreatedWebhook)

    def webhooks(self) -> Sequence[WebhookResource]:
        """The webhooks, oldest first, without their secrets."""
        return parse(self._send(calls.list_webhooks()), WebhookPage).webhooks

    def webhook(self, webhook_id: str) -> WebhookResource:
        """A webhook, without its secret."""
        return parse(self._send(calls.get_webhook(webhook_id)), WebhookResource)

    def change_webhook(
        self,
        webhook_id: str,
        *,
        url: str | None = None,
        events: Sequence[EndpointEvent | str] | None = None,
        description: str | None = None,
        enabled: bool | None = None,
    ) -> WebhookResource:
        """The webhook, changed; what is left out stays.

        Raises:
            pydantic.ValidationError: a value is wrong by itself.
        """
        change = WebhookChange.model_validate(
            {
                "url": url,
                "events": None if events is None else tuple(events),
                "description": description,
                "enabled": enabled,
            }
        )
        return parse(self._send(calls.change_webhook(webhook_id, change)), WebhookResource)

    def rotate_webhook(
        self, webhook_id: str, *, secret: str | None = None, keep_old_for: int = KEEP_OLD_S
    ) -> CreatedWebhook:
        """The webhook with a new secret; the old one signs too for ``keep_old_for`` seconds.

        Raises:
            pydantic.ValidationError: a value is wrong by itself.
        """
        rotation = SecretRotation(secret=secret, keep_old_for=keep_old_for)
        return parse(self._send(calls.rotate_webhook(webhook_id, rotation)), CreatedWebhook)

    def remove_webhook(self, webhook_id: str) -> None:
        """Remove a webhook; what is on its way to it is dropped."""
        self._send(calls.remove_webhook(webhook_id))

    def test_webhook(self, webhook_id: str) -> WebhookTestResource:
        """What a test event that is sent to the webhook now was answered with."""
        return parse(self._send(calls.test_webhook(webhook_id)), WebhookTestResource)

    def dead_letters(self, *, webhook_id: str | None = None) -> Iterator[DeadLetterResource]:
        """The events that could not be delivered, latest first; ``webhook_id``: to this one alone."""
        token: str | None = ""
        while token is not None:
            page = parse(self._send(calls.list_dead_letters(webhook_id, token)), DeadLetterListing)
            yield from page.dead_letters
            token = page.next_page_token

    def replay_dead_letter(self, letter_id: str) -> None:
        """Send a dead letter again."""
        self._send(calls.replay_dead_letter(letter_id))

    def replay_dead_letters(
        self, since: datetime, until: datetime | None = None, *, webhook_id: str | None = None
    ) -> int:
        """Send again what was given up from ``since`` to before ``until`` (left out: now), both with their
        time zones; how many these were. ``webhook_id``: to this one alone.

        Raises:
            pydantic.ValidationError: a value is wrong by itself.
        """
        replay = Replay(since=since, until=until, webhook=webhook_id)
        return parse(self._send(calls.replay_dead_letters(replay)), ReplayResource).replayed

    def health(self) -> HealthResource:
        """Whether the service and what it stands on answer; an unavailable service is no error here."""
        response = self._once(calls.get_readiness())
        return parse_health(response)

    def _send(self, call: Call) -> httpx.Response:
        attempt = 0
        while True:
            response = failure = None
            try:
                response = self._once(call)
            except ConnectionFailed as error:
                failure = error
            if response is not None and is_done(call, attempt, response):
                return response
            self._sleep(retry_delay(call, attempt, response, failure))
            attempt += 1

    def _once(self, call: Call) -> httpx.Response:
        try:
            return self._http.request(
                call.method,
                call.path,
                params=call.params,
                headers=call.headers,
                files=call.files,
                content=call.content,
                timeout=self._timeout + call.wait_s,
            )
        except httpx.RequestError as error:
            raise self._failure(error) from error

    def _failure(self, error: httpx.RequestError) -> ConnectionFailed:
        reason = str(error) or type(error).__name__
        return ConnectionFailed(f"{self._http.base_url} can't be reached: {reason}")
