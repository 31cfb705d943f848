"""``maskline models``."""

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from maskline.catalog import ModelSpec, load_catalog
from maskline.cli.context import ApiKey, Json, Url, connect, print_json, print_table, results, to_people
from maskline.settings import Settings
from maskline.weights import WeightStore

DEFAULT_FOLDER = Path(Settings.model_fields["weights_dir"].default)

Catalog = Annotated[
    Path | None,
    typer.Option(
        envvar="MASKLINE_CATALOG_FILE", help="A catalog of yours, over the shipped one.", exists=True
    ),
]
Folder = Annotated[Path, typer.Option(envvar="MASKLINE_WEIGHTS_DIR", help="Folder of downloaded weights.")]

app = typer.Typer(help="The models of the service, and their weights on this machine.", no_args_is_help=True)


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


@app.command("pull")
def pull_model(
    model_id: Annotated[str, typer.Argument(help="Id of a model of the catalog.")],
    catalog: Catalog = None,
    folder: Folder = DEFAULT_FOLDER,
) -> None:
    """Download a model's weights to this machine, and check them; a download that broke off goes on."""
    spec = _spec(model_id, catalog)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=to_people, transient=True) as bar:
        task = bar.add_task(model_id, total=spec.weights.size if spec.weights else None)
        path = WeightStore(folder).pull(
            spec, lambda done, total: bar.update(task, completed=done, total=total or None)
        )
    results.print(str(path), highlight=False, soft_wrap=True)


@app.command("verify")
def verify_model(
    model_id: Annotated[str, typer.Argument(help="Id of a model of the catalog.")],
    catalog: Catalog = None,
    folder: Folder = DEFAULT_FOLDER,
) -> None:
    """Check a model's weights on this machine against the catalog's SHA-256."""
    results.print(str(WeightStore(folder).verify(_spec(model_id, catalog))), highlight=False, soft_wrap=True)


def _spec(model_id: str, catalog: Path | None) -> ModelSpec:
    known = load_catalog(catalog)
    if model_id not in known:
        raise typer.BadParameter(f"the catalog has no {model_id!r}; it has: {', '.join(known)}")
    return known[model_id]
