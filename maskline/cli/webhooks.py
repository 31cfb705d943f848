"""``maskline webhooks``."""

from datetime import UTC, datetime
from itertools import islice
from typing import Annotated

import typer

from maskline.cli.context import ApiKey, Json, Url, connect, print_json, print_table, remark, results
from maskline.webhook_resources import KEEP_OLD_S, CreatedWebhook, WebhookResource
from maskline.webhooks import EndpointEvent

app = typer.Typer(help="Who is told of jobs and batches.", no_args_is_help=True)

WebhookId = Annotated[str, typer.Argument(help="Id of the webhook.")]
Of = Annotated[str | None, typer.Option("--webhook", help="Only those of this webhook, by its id.")]
_NOT_DELIVERED = 1


def _time(text: str) -> datetime:
    """A time as ISO 8601 has it; UTC, if it has no zone."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no time; give one as 2026-01-31T10:00:00Z") from error
    return time.replace(tzinfo=time.tzinfo or UTC)


@app.command("add")
def add_webhook(
    receiver: Annotated[str, typer.Argument(help="URL that events are posted to.")],
    event: Annotated[
        list[EndpointEvent] | None, typer.Option(help="Which; left out: every end of a job or a batch.")
    ] = None,
    description: Annotated[str, typer.Option(help="For people.")] = "",
    secret: Annotated[str | None, typer.Option(help="whsec_…; left out: one is made.")] = None,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Register a webhook; print its id and its secret, this once."""
    with connect(url, api_key) as client:
        created = client.create_webhook(receiver, events=event, description=description, secret=secret)
    _show_secret(created, as_json)


@app.command("list")
def list_webhooks(url: Url = None, api_key: ApiKey = None, as_json: Json = False) -> None:
    """List the webhooks, without their secrets."""
    with connect(url, api_key) as client:
        webhooks = client.webhooks()
    if as_json:
        print_json(webhooks)
        return
    print_table(
        ("id", "url", "events", "state", "description"),
        ((one.id, one.url, ", ".join(one.events), _state(one), one.description) for one in webhooks),
    )


@app.command("show")
def show_webhook(
    webhook_id: WebhookId, url: Url = None, api_key: ApiKey = None, as_json: Json = False
) -> None:
    """Look at a webhook."""
    with connect(url, api_key) as client:
        _show(client.webhook(webhook_id), as_json)


@app.command("rotate")
def rotate_webhook(
    webhook_id: WebhookId,
    secret: Annotated[str | None, typer.Option(help="whsec_…; left out: one is made.")] = None,
    keep_old_for: Annotated[int, typer.Option(help="Seconds for which the old one signs too.")] = KEEP_OLD_S,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Give a webhook a new secret, and print that, this once."""
    with connect(url, api_key) as client:
        rotated = client.rotate_webhook(webhook_id, secret=secret, keep_old_for=keep_old_for)
    _show_secret(rotated, as_json)


@app.command("enable")
def enable_webhook(
    webhook_id: WebhookId, url: Url = None, api_key: ApiKey = None, as_json: Json = False
) -> None:
    """Send events to a webhook again."""
    with connect(url, api_key) as client:
        _show(client.change_webhook(webhook_id, enabled=True), as_json)


@app.command("disable")
def disable_webhook(
    webhook_id: WebhookId, url: Url = None, api_key: ApiKey = None, as_json: Json = False
) -> None:
    """Send no events to a webhook."""
    with connect(url, api_key) as client:
        _show(client.change_webhook(webhook_id, enabled=False), as_json)


@app.command("remove")
def remove_webhook(webhook_id: WebhookId, url: Url = None, api_key: ApiKey = None) -> None:
    """Remove a webhook."""
    with connect(url, api_key) as client:
        client.remove_webhook(webhook_id)


@app.command("test")
def send_test(webhook_id: WebhookId, url: Url = None, api_key: ApiKey = None, as_json: Json = False) -> None:
    """Send a test event, and tell what it was answered with."""
    with connect(url, api_key) as client:
        test = client.test_webhook(webhook_id)
    if as_json:
        print_json(test)
    else:
        told = f"delivered: status {test.status}" if test.delivered else f"not delivered: {test.problem}"
        results.print(told, highlight=False, markup=False, soft_wrap=True)
    if not test.delivered:
        raise typer.Exit(_NOT_DELIVERED)


@app.command("deadletters")
def list_dead_letters(
    webhook: Of = None,
    limit: Annotated[int, typer.Option(help="At most so many.", min=1)] = 20,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """List the events that could not be delivered, latest first."""
    with connect(url, api_key) as client:
        letters = list(islice(client.dead_letters(webhook_id=webhook), limit))
    if as_json:
        print_json(letters)
        return
    print_table(
        ("id", "event", "given up", "tries", "problem"),
        (
            (one.id, one.type, f"{one.buried_at:%Y-%m-%d %H:%M:%S}", str(one.tries), one.problem)
            for one in letters
        ),
    )


@app.command("replay")
def replay(
    dead_letter: Annotated[str | None, typer.Argument(help="Id of a dead letter.")] = None,
    since: Annotated[
        datetime | None,
        typer.Option(parser=_time, metavar="TIME", help="All given up from then on; UTC, if it has no zone."),
    ] = None,
    until: Annotated[
        datetime | None,
        typer.Option(parser=_time, metavar="TIME", help="Until before then; left out: until now."),
    ] = None,
    webhook: Of = None,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Send a dead letter again, or all those of a time."""
    if (dead_letter is None) == (since is None):
        raise typer.BadParameter("give the id of a dead letter, or --since")
    with connect(url, api_key) as client:
        if dead_letter is not None:
            client.replay_dead_letter(dead_letter)
            replayed = 1
        else:
            assert since is not None  # noqa: S101 (one of the two is given)
            replayed = client.replay_dead_letters(since, until, webhook_id=webhook)
    remark(f"{replayed} sent again")


def _state(webhook: WebhookResource) -> str:
    return f"disabled: {webhook.disabled.note}" if webhook.disabled else "enabled"


def _show(webhook: WebhookResource, as_json: bool) -> None:
    if as_json:
        print_json(webhook)
        return
    lines = [f"{webhook.id}  {_state(webhook)}", f"  {webhook.url}", f"  {', '.join(webhook.events)}"]
    if webhook.description:
        lines.append(f"  {webhook.description}")
    if webhook.old_secret_ends_at:
        lines.append(f"  an old secret signs too until {webhook.old_secret_ends_at:%Y-%m-%d %H:%M} UTC")
    results.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)


def _show_secret(webhook: CreatedWebhook, as_json: bool) -> None:
    if as_json:
        print_json(webhook)
        return
    results.print(f"{webhook.id}  {webhook.secret}", highlight=False, markup=False, soft_wrap=True)
    remark("Keep the secret: it is not shown again.")
