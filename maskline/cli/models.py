"""``maskline models``."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer
from pydantic import ValidationError
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from maskline.catalog import ModelSpec, add_to_catalog, load_catalog
from maskline.cli.context import ApiKey, Json, Url, connect, print_json, print_table, results, to_people
from maskline.plain_words import tell
from maskline.requests import Subtask
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


class Family(StrEnum):
    """The families whose models have weights."""

    SAM = "sam"
    TRANSFORMERS = "transformers"


class ModelHere(ModelSpec):
    """An entry of the catalog, and how its weights are on this machine."""

    weights_state: Literal["none needed", "here", "missing"]
    """Whether they are there."""


app = typer.Typer(help="The models of the service, and their weights on this machine.", no_args_is_help=True)


@app.command("list")
def list_models(
    url: Url = None,
    api_key: ApiKey = None,
    as_json: Json = False,
    here: Annotated[
        bool, typer.Option("--here", help="The catalog's models and their weights on this machine instead.")
    ] = False,
    catalog: Catalog = None,
    folder: Folder = DEFAULT_FOLDER,
) -> None:
    """List the service's models."""
    if here:
        _list_here(load_catalog(catalog), WeightStore(folder), as_json=as_json)
        return
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


def _list_here(specs: Mapping[str, ModelSpec], store: WeightStore, *, as_json: bool) -> None:
    def state(spec: ModelSpec) -> Literal["none needed", "here", "missing"]:
        if spec.weights is None:
            return "none needed"
        return "here" if store.place(spec).exists() else "missing"

    if as_json:
        print_json(
            ModelHere(
                **{name: getattr(spec, name) for name in ModelSpec.model_fields}, weights_state=state(spec)
            )
            for spec in specs.values()
        )
        return
    print_table(
        ("id", "family", "weights", "licence", "description"),
        ((spec.id, spec.family, state(spec), spec.license, spec.description) for spec in specs.values()),
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


@app.command("add")
def add_model(
    model_id: Annotated[str, typer.Argument(help="Id of the new model, as requests will name it.")],
    family: Annotated[Family, typer.Option(help="What runs it.")],
    catalog: Annotated[
        Path, typer.Option(envvar="MASKLINE_CATALOG_FILE", help="The catalog of yours; made if need be.")
    ],
    path: Annotated[Path | None, typer.Option(help="Its weights: a file or folder.")] = None,
    hub: Annotated[str | None, typer.Option(help="Its weights: name on the Hugging Face hub.")] = None,
    revision: Annotated[str | None, typer.Option(help="Commit, tag or branch on the hub.")] = None,
    weights_url: Annotated[str | None, typer.Option(help="Its weights: URL of a file.")] = None,
    sha256: Annotated[str | None, typer.Option(help="Of the file at that URL.")] = None,
    display_name: Annotated[str | None, typer.Option("--name", help="For people; else the id.")] = None,
    labels: Annotated[str | None, typer.Option(help="Its classes: ade20k or coco_panoptic.")] = None,
    variant: Annotated[str | None, typer.Option(help="For sam: vit_b, vit_l or vit_h.")] = None,
    subtask: Annotated[
        list[Subtask] | None, typer.Option(help="For transformers: what it does; may come again.")
    ] = None,
) -> None:
    """Put a model of yours into your catalog. The workers read it when they start."""
    if variant is not None and family is not Family.SAM:
        raise typer.BadParameter("--variant is for sam")
    if subtask and family is not Family.TRANSFORMERS:
        raise typer.BadParameter("--subtask is for transformers")
    entry = {
        "id": model_id,
        "family": family.value,
        "displayName": display_name or model_id,
        "weights": {
            "path": str(path.resolve()) if path else None,
            "hub": hub,
            "revision": revision,
            "url": weights_url,
            "sha256": sha256,
        },
        "labels": labels,
        "options": {"variant": variant, "subtasks": [one.value for one in subtask] if subtask else None},
    }
    try:
        add_to_catalog(catalog, ModelSpec.model_validate(_without_none(entry)))
    except ValidationError as error:
        raise typer.BadParameter(tell(error)) from error
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    results.print(f"{model_id} is in {catalog}", highlight=False, soft_wrap=True)


def _without_none(value: Mapping[str, object]) -> dict[str, object]:
    return {
        name: _without_none(item) if isinstance(item, dict) else item
        for name, item in value.items()
        if item is not None
    }


def _spec(model_id: str, catalog: Path | None) -> ModelSpec:
    known = load_catalog(catalog)
    if model_id not in known:
        raise typer.BadParameter(f"the catalog has no {model_id!r}; it has: {', '.join(known)}")
    return known[model_id]
