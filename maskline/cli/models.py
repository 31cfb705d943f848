"""``maskline models``."""

from collections.abc import Collection, Mapping, Sequence
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

from maskline.catalog import LabelList, ModelSpec, add_to_catalog, load_catalog
from maskline.cli.context import (
    ApiKey,
    Json,
    Url,
    connect,
    print_json,
    print_table,
    read_device,
    remark,
    results,
    to_people,
)
from maskline.local import StackError
from maskline.local.offer import left_out_here
from maskline.plain_words import tell
from maskline.requests import Subtask
from maskline.settings import Settings
from maskline.weights import Check, WeightStore

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


class Variant(StrEnum):
    """The sizes of Segment Anything."""

    VIT_B = "vit_b"
    VIT_L = "vit_l"
    VIT_H = "vit_h"


NOT_FOR = {
    Family.SAM: ("--hub", "--revision", "--labels", "--subtask"),
    Family.TRANSFORMERS: ("--weights-url", "--sha256", "--variant"),
}
"""Options of ``models add`` that mean nothing to a family."""


class ModelHere(ModelSpec):
    """An entry of the catalog, and how it is on this machine."""

    weights_state: Literal["none needed", "here", "missing"]
    """Whether its weights are there; ``models verify`` looks into them."""
    offered_here: bool | None
    """Whether a worker on this machine offers it, be its weights there or not; None: that is not known."""
    left_out: str | None
    """Why a worker does not."""


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
        _list_here(_models_here(catalog, WeightStore(folder)), as_json=as_json)
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


def _models_here(catalog: Path | None, store: WeightStore) -> list[ModelHere]:
    def state(spec: ModelSpec) -> Literal["none needed", "here", "missing"]:
        if spec.weights is None:
            return "none needed"
        return "here" if store.place(spec).exists() else "missing"

    specs = load_catalog(catalog)
    try:
        reasons, is_known = left_out_here(catalog), True
    except StackError as error:
        remark(str(error))
        reasons, is_known = {}, False
    return [
        ModelHere(
            **{name: getattr(spec, name) for name in ModelSpec.model_fields},
            weights_state=state(spec),
            offered_here=model not in reasons if is_known else None,
            left_out=reasons.get(model),
        )
        for model, spec in specs.items()
    ]


def _list_here(models: Sequence[ModelHere], *, as_json: bool) -> None:
    if as_json:
        print_json(models)
        return
    offered = {True: "yes", False: "no", None: "not known"}
    print_table(
        ("id", "family", "weights", "offered here", "licence", "description"),
        (
            (one.id, one.family, one.weights_state, offered[one.offered_here], one.license, one.description)
            for one in models
        ),
    )
    for reason in dict.fromkeys(one.left_out for one in models if one.left_out):
        remark(f"{', '.join(one.id for one in models if one.left_out == reason)}: {reason}")
    if any(one.weights_state == "here" for one in models):
        remark("Of weights that are here nothing else was checked; maskline models verify ID does so.")


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
    spec, store = _spec(model_id, catalog), WeightStore(folder)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    if _needs_none(spec):
        return
    with Progress(*columns, console=to_people, transient=True) as bar:
        task = bar.add_task(model_id, total=spec.weights.size if spec.weights else None)
        path = store.pull(spec, lambda done, total: bar.update(task, completed=done, total=total or None))
    _tell_checked(path, store.check_of(spec))


@app.command("verify")
def verify_model(
    model_id: Annotated[str, typer.Argument(help="Id of a model of the catalog.")],
    catalog: Catalog = None,
    folder: Folder = DEFAULT_FOLDER,
) -> None:
    """Check a model's weights on this machine against their SHA-256, as far as these are known."""
    spec, store = _spec(model_id, catalog), WeightStore(folder)
    if not _needs_none(spec):
        _tell_checked(store.verify(spec), store.check_of(spec))


def _needs_none(spec: ModelSpec) -> bool:
    """Whether the model needs no weights, which is told."""
    if spec.weights is None:
        remark(f"{spec.id} needs no weights")
    return spec.weights is None


def _tell_checked(path: Path, check: Check) -> None:
    remark(str(check))
    results.print(str(path), highlight=False, soft_wrap=True)


@app.command("add")
def add_model(
    model_id: Annotated[str, typer.Argument(help="Id of the new model, as requests will name it.")],
    family: Annotated[Family, typer.Option(help="What runs it.")],
    catalog: Annotated[
        Path, typer.Option(envvar="MASKLINE_CATALOG_FILE", help="The catalog of yours; made if need be.")
    ],
    path: Annotated[
        Path | None, typer.Option(help="Its weights: for sam a file, for transformers a folder.")
    ] = None,
    hub: Annotated[
        str | None, typer.Option(help="For transformers: its weights, by their name on the Hugging Face hub.")
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Commit, tag or branch on the hub.")] = None,
    weights_url: Annotated[
        str | None, typer.Option(help="For sam: its weights, by the URL of a file.")
    ] = None,
    sha256: Annotated[str | None, typer.Option(help="For sam: SHA-256 of that file.")] = None,
    display_name: Annotated[str | None, typer.Option("--name", help="For people; else the id.")] = None,
    license_id: Annotated[
        str | None, typer.Option("--license", help="Of the weights: an SPDX id, such as Apache-2.0.")
    ] = None,
    labels: Annotated[
        LabelList | None, typer.Option(help="For transformers: its classes; else its config.json names them.")
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            parser=read_device,
            metavar="DEVICE",
            help="Where it runs: cpu, mps, cuda or cuda:1; else where the worker's models do.",
        ),
    ] = None,
    variant: Annotated[Variant | None, typer.Option(help="For sam, which needs it: its size.")] = None,
    subtask: Annotated[
        list[Subtask] | None, typer.Option(help="For transformers: what it does; may come again.")
    ] = None,
) -> None:
    """Put a model of yours into your catalog. The workers read it when they start."""
    given = {
        "--hub": hub,
        "--revision": revision,
        "--labels": labels,
        "--subtask": subtask,
        "--weights-url": weights_url,
        "--sha256": sha256,
        "--variant": variant,
    }
    _check_options(family, {option for option, value in given.items() if value})
    if path is not None:
        _check_kind(family, path)
    entry = {
        "id": model_id,
        "family": family.value,
        "displayName": display_name or model_id,
        "license": license_id,
        "weights": {
            "path": str(path.resolve()) if path else None,
            "hub": hub,
            "revision": revision,
            "url": weights_url,
            "sha256": sha256,
        },
        "labels": labels,
        "options": {
            "variant": variant,
            "subtasks": [one.value for one in subtask] if subtask else None,
            "device": device,
        },
    }
    try:
        add_to_catalog(catalog, ModelSpec.model_validate(_without_none(entry)))
    except ValidationError as error:
        raise typer.BadParameter(tell(error)) from error
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    if model_id in load_catalog():
        remark(f"{model_id} takes the place of the shipped model with that id.")
    if path is not None and not path.exists():
        remark(f"There is nothing at {path} yet; put the weights there.")
    results.print(f"{model_id} is in {catalog}", highlight=False, soft_wrap=True)


def _check_options(family: Family, given: Collection[str]) -> None:
    for option in NOT_FOR[family]:
        if option in given:
            raise typer.BadParameter(f"{option} is not for {family}")
    if family is Family.SAM and "--variant" not in given:
        raise typer.BadParameter(f"a model of sam needs its --variant, one of {', '.join(Variant)}")


def _check_kind(family: Family, path: Path) -> None:
    if family is Family.SAM and path.is_dir():
        raise typer.BadParameter(f"{path} is a folder; the weights of sam are a file, its checkpoint")
    if family is Family.TRANSFORMERS and path.is_file():
        raise typer.BadParameter(
            f"{path} is a file; the weights of transformers are a folder, as save_pretrained writes it"
        )


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
