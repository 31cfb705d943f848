"""``maskline keys``; needs a key with the scope ``admin``."""

from typing import Annotated

import typer

from maskline.cli.context import ApiKey, Json, Url, connect, print_json, print_table, results, to_people
from maskline.keys import DEFAULT_SCOPES, DEFAULT_TENANT, Scope

app = typer.Typer(help="API keys of the service.", no_args_is_help=True)


@app.command("create")
def create_key(
    name: Annotated[str, typer.Argument(help="Name, for people.")],
    tenant: Annotated[str, typer.Option(help="Whose jobs it reaches.")] = DEFAULT_TENANT,
    scope: Annotated[
        list[Scope] | None,
        typer.Option(help="What it may do, once for each; left out: submit and read."),
    ] = None,
    expires_in: Annotated[int | None, typer.Option(help="Seconds; left out: it does not expire.")] = None,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Make a key and print it, this once."""
    scopes = scope or DEFAULT_SCOPES
    with connect(url, api_key) as client:
        created = client.create_key(name, tenant=tenant, scopes=scopes, expires_in=expires_in)
    if as_json:
        print_json(created)
        return
    results.print(created.key, highlight=False, soft_wrap=True)
    to_people.print("Keep it: it is not shown again.")


@app.command("list")
def list_keys(url: Url = None, api_key: ApiKey = None, as_json: Json = False) -> None:
    """List the keys, without their secrets."""
    with connect(url, api_key) as client:
        keys = client.keys()
    if as_json:
        print_json(keys)
        return
    print_table(
        ("id", "name", "tenant", "scopes", "created", "expires"),
        (
            (
                key.id,
                key.name,
                key.tenant,
                ", ".join(key.scopes),
                f"{key.created_at:%Y-%m-%d %H:%M}",
                f"{key.expires_at:%Y-%m-%d %H:%M}" if key.expires_at else "never",
            )
            for key in keys
        ),
    )


@app.command("revoke")
def revoke_key(
    key_id: Annotated[str, typer.Argument(help="Id of the key.")], url: Url = None, api_key: ApiKey = None
) -> None:
    """Revoke a key."""
    with connect(url, api_key) as client:
        client.revoke_key(key_id)
