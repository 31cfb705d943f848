"""``maskline keys``; needs the administrator's key."""

from typing import Annotated

import typer

from maskline.cli.context import ApiKey, Json, Url, connect, print_json, print_table, results, to_people

app = typer.Typer(help="API keys of the service.", no_args_is_help=True)


@app.command("create")
def create_key(
    name: Annotated[str, typer.Argument(help="Name, for people.")],
    expires_in: Annotated[int | None, typer.Option(help="Seconds; left out: it does not expire.")] = None,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Make a key and print it, this once."""
    with connect(url, api_key) as client:
        created = client.create_key(name, expires_in=expires_in)
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
        ("id", "name", "created", "expires"),
        (
            (
                key.id,
                key.name,
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
