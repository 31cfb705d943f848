"""``maskline models``."""

from typing import Annotated

import typer

from maskline.cli.context import ApiKey, Json, Url, connect, print_json, print_table

app = typer.Typer(help="The models of the service.", no_args_is_help=True)


@app.command("list")
def list_models(url: Url = None, api_key: ApiKey = None, as_json: Json = False) -> None:
    """List the models."""
    with connect(url, api_key) as client:
        page = client.models()
    if as_json:
        print_json(page)
        return
    print_table(
        ("id", "family", "subtasks", "prompts", "available", "description"),
        (
            (
                f"{model.id} (default)" if model.id == page.default_model else model.id,
                model.family,
                ", ".join(model.subtasks),
                ", ".join(model.prompt_kinds) or "none",
                "yes" if model.available else "no worker",
                model.description,
            )
            for model in page.models
        ),
    )


@app.command("show")
def show_model(
    model_id: Annotated[str, typer.Argument(help="Id of the model.")],
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Print a model's card as JSON: annotation specs, colours, the schema of its parameters."""
    with connect(url, api_key) as client:
        print_json(client.model(model_id))
