"""``maskline batches``."""

from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from maskline.batch_resources import BatchResource
from maskline.cli.context import ApiKey, Json, Url, connect, print_json, print_table, remark, results

app = typer.Typer(help="Data sets that are labelled as one.", no_args_is_help=True)

BatchId = Annotated[str, typer.Argument(help="Id of the batch.")]


@app.command("list")
def list_batches(
    limit: Annotated[int, typer.Option(help="At most so many.", min=1)] = 20,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """List batches, newest first."""
    with connect(url, api_key) as client:
        batches = list(islice(client.batches.list(), limit))
    if as_json:
        print_json(batches)
        return
    print_table(
        ("id", "state", "model", "items", "succeeded", "failed", "created", "name"),
        (
            (
                one.id,
                one.state,
                one.model,
                str(one.items),
                str(one.counts.succeeded),
                str(one.counts.failed),
                f"{one.created_at:%Y-%m-%d %H:%M:%S}",
                one.display_name,
            )
            for one in batches
        ),
    )


@app.command("show")
def show_batch(batch_id: BatchId, url: Url = None, api_key: ApiKey = None, as_json: Json = False) -> None:
    """Look at a batch: its state, how many items are where, its pace and the time left."""
    with connect(url, api_key) as client:
        _show(client.batches.get(batch_id), as_json)


@app.command("pause")
def pause_batch(batch_id: BatchId, url: Url = None, api_key: ApiKey = None, as_json: Json = False) -> None:
    """Begin no more items until the batch is resumed; those in hand are ended."""
    with connect(url, api_key) as client:
        _show(client.batches.pause(batch_id), as_json)


@app.command("resume")
def resume_batch(batch_id: BatchId, url: Url = None, api_key: ApiKey = None, as_json: Json = False) -> None:
    """Go on with a batch that was paused."""
    with connect(url, api_key) as client:
        _show(client.batches.resume(batch_id), as_json)


@app.command("cancel")
def cancel_batch(batch_id: BatchId, url: Url = None, api_key: ApiKey = None, as_json: Json = False) -> None:
    """Cancel a batch; the results that there are stay."""
    with connect(url, api_key) as client:
        _show(client.batches.cancel(batch_id), as_json)


@app.command("retry")
def retry_batch(batch_id: BatchId, url: Url = None, api_key: ApiKey = None, as_json: Json = False) -> None:
    """Try the items anew that failed, of a batch that has succeeded with the others."""
    with connect(url, api_key) as client:
        _show(client.batches.retry(batch_id), as_json)


@app.command("delete")
def delete_batch(batch_id: BatchId, url: Url = None, api_key: ApiKey = None) -> None:
    """Remove a batch that has ended, and its results."""
    with connect(url, api_key) as client:
        client.batches.delete(batch_id)


@app.command("export")
def export_batch(
    batch_id: BatchId,
    export_format: Annotated[str, typer.Argument(metavar="FORMAT", help="Name of the export format.")],
    out: Annotated[Path, typer.Option(help="The ZIP file; it must not be there yet.")],
    polygons: Annotated[
        bool, typer.Option("--polygons", help="Outlines in place of masks, in formats that have both.")
    ] = False,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Save all results of a batch that has ended in the format of a trainer or a labelling tool."""
    if out.exists():
        raise typer.BadParameter(f"{out} is there already; give another name", param_hint="--out")
    with connect(url, api_key) as client, out.open("xb") as file:
        try:
            client.batches.export(batch_id, export_format, file, polygons=polygons)
        except BaseException:
            out.unlink()
            raise
    remark(f"saved {out.resolve()}")


def _show(batch: BatchResource, as_json: bool) -> None:
    if as_json:
        print_json(batch)
        return
    counts = batch.counts
    where = (
        f"{counts.queued} queued",
        f"{counts.running} running",
        f"{counts.succeeded} succeeded",
        f"{counts.failed} failed",
        f"{counts.cancelled} cancelled",
        f"{counts.flagged} to be looked at",
    )
    more = "" if batch.is_all_read else " or more"
    lines = [
        f"{batch.id}  {batch.state}  {batch.display_name}".rstrip(),
        f"  {batch.items}{more} items: {', '.join(where)}",
    ]
    if batch.items_per_second is not None:
        left = f"; {batch.seconds_left:.0f} s left" if batch.seconds_left is not None else ""
        lines.append(f"  {batch.items_per_second:.1f} items a second{left}")
    if batch.error:
        lines.append(f"  {batch.error.code}: {batch.error.message}")
    results.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)
