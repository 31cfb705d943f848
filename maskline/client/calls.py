"""The calls of the native API, one function each."""

from collections.abc import Sequence
from urllib.parse import quote

from maskline.client.requests import Call
from maskline.keys import Scope
from maskline.resources import NewKey
from maskline.webhook_resources import NewWebhook, Replay, SecretRotation, WebhookChange
from maskline.wire import WireModel

_PAGE_SIZE = 100
_WEBHOOKS = "/v1/webhooks"
_DEAD_LETTERS = f"{_WEBHOOKS}/deadLetters"


def get_job(job_id: str, wait_s: float, masks: str) -> Call:
    """Look at a job, or wait for its end."""
    params = {"masks": masks} | ({"wait": f"{wait_s:g}"} if wait_s else {})
    return Call(method="GET", path=_job(job_id), params=params, wait_s=wait_s)


def list_jobs(state: str | None, model: str | None, token: str) -> Call:
    """A page of jobs."""
    given = {"state": state, "model": model, "pageToken": token, "pageSize": str(_PAGE_SIZE)}
    params = {name: value for name, value in given.items() if value}
    return Call(method="GET", path="/v1/jobs", params=params)


def cancel_job(job_id: str) -> Call:
    """Cancel a job."""
    return Call(method="POST", path=f"{_job(job_id)}:cancel")


def delete_job(job_id: str) -> Call:
    """Remove a job."""
    return Call(method="DELETE", path=_job(job_id))


def get_events(job_id: str) -> Call:
    """The stream of a job's changes."""
    return Call(method="GET", path=f"{_job(job_id)}/events")


def get_result(job_id: str, name: str, masks: str | None = None) -> Call:
    """One of a job's results."""
    return Call(
        method="GET", path=f"{_job(job_id)}/{name}", params={"masks": masks} if masks else {}, wait_s=30
    )


def list_models() -> Call:
    """All models."""
    return Call(method="GET", path="/v1/models")


def get_model(model_id: str) -> Call:
    """One model."""
    return Call(method="GET", path=f"/v1/models/{quote(model_id)}")


def create_key(name: str, tenant: str, scopes: Sequence[Scope | str], expires_in: int | None) -> Call:
    """Make an API key."""
    key = NewKey.model_validate(
        {"name": name, "tenant": tenant, "scopes": tuple(scopes), "expires_in": expires_in}
    )
    headers = {"Content-Type": "application/json"}
    content = key.model_dump_json(by_alias=True, exclude_defaults=True).encode()
    # Sent again, it would make a second key, and nobody would know the first.
    return Call(method="POST", path="/v1/keys", headers=headers, content=content, is_repeatable=False)


def list_keys() -> Call:
    """All API keys."""
    return Call(method="GET", path="/v1/keys")


def revoke_key(key_id: str) -> Call:
    """Revoke an API key."""
    return Call(method="DELETE", path=f"/v1/keys/{quote(key_id, safe='')}")


def create_webhook(webhook: NewWebhook) -> Call:
    """Register a webhook."""
    # Sent again, it would make a second one, and nobody would know the first one's secret.
    return _with_body("POST", _WEBHOOKS, webhook, is_repeatable=False)


def list_webhooks() -> Call:
    """All webhooks."""
    return Call(method="GET", path=_WEBHOOKS)


def get_webhook(webhook_id: str) -> Call:
    """One webhook."""
    return Call(method="GET", path=_webhook(webhook_id))


def change_webhook(webhook_id: str, change: WebhookChange) -> Call:
    """Change a webhook."""
    return _with_body("PATCH", _webhook(webhook_id), change)


def remove_webhook(webhook_id: str) -> Call:
    """Remove a webhook."""
    return Call(method="DELETE", path=_webhook(webhook_id))


def rotate_webhook(webhook_id: str, rotation: SecretRotation) -> Call:
    """Give a webhook a new secret."""
    return _with_body("POST", f"{_webhook(webhook_id)}:rotate", rotation, is_repeatable=False)


def test_webhook(webhook_id: str) -> Call:
    """Send a test event to a webhook."""
    return Call(method="POST", path=f"{_webhook(webhook_id)}:test", wait_s=60, is_repeatable=False)


def list_dead_letters(webhook_id: str | None, token: str) -> Call:
    """A page of dead letters."""
    given = {"webhook": webhook_id, "pageToken": token, "pageSize": str(_PAGE_SIZE)}
    params = {name: value for name, value in given.items() if value}
    return Call(method="GET", path=_DEAD_LETTERS, params=params)


def replay_dead_letter(letter_id: str) -> Call:
    """Send a dead letter again."""
    return Call(method="POST", path=f"{_DEAD_LETTERS}/{quote(letter_id, safe='')}:replay")


def replay_dead_letters(replay: Replay) -> Call:
    """Send the dead letters of a time again."""
    return _with_body("POST", f"{_DEAD_LETTERS}:replay", replay)


def get_readiness() -> Call:
    """Whether the service and what it stands on answer."""
    return Call(method="GET", path="/readyz")


def _with_body(method: str, path: str, body: WireModel, *, is_repeatable: bool = True) -> Call:
    headers = {"Content-Type": "application/json"}
    content = body.to_json().encode()
    return Call(method=method, path=path, headers=headers, content=content, is_repeatable=is_repeatable)


def _webhook(webhook_id: str) -> str:
    return f"{_WEBHOOKS}/{quote(webhook_id, safe='')}"


def _job(job_id: str) -> str:
    return f"/v1/jobs/{quote(job_id, safe='')}"
