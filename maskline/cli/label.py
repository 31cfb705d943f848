"""``maskline label``: a data set in, its labels out."""

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated
from uuid import uuid4

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from maskline.batch_resources import BatchResource, BatchSource, NewBatch
from maskline.batch_results import ReviewThresholds
from maskline.cli.context import ApiKey, Json, Url, connect, print_json, print_table, remark, to_people
from maskline.cli.jobs import pairs
from maskline.cli.prompts import read_prompts
from maskline.datasets.source import Effect, PromptSource
from maskline.labelling.folder import LabellingDocument, OutputFolder
from maskline.labelling.labelling import MASKS, Labelling, Report
from maskline.labelling.sources import SourceForm, form_of, is_remote
from maskline.local import Stack
from maskline.requests import Subtask

_SHOWN = 10


def command(
    source: Annotated[
        str | None,
        typer.Argument(
            help="A folder or glob of images, a manifest (.jsonl), a COCO document (.json), a YOLO data set "
            "(a folder with data.yaml), or s3://BUCKET/PREFIX."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the results, empty or not there yet.")] = Path(
        "labels"
    ),
    formats: Annotated[
        list[str] | None,
        typer.Option("--format", help=f"{MASKS}, or an export format; may be given more than once."),
    ] = None,
    polygons: Annotated[
        bool, typer.Option("--polygons", help="Outlines in place of masks, in formats that have both.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with what was begun in the folder.")
    ] = False,
    model: Annotated[str | None, typer.Option(help="Id of the model; else the service's default.")] = None,
    subtask: Annotated[Subtask | None, typer.Option(help="What kind of segmentation.")] = None,
    box: Annotated[list[str] | None, typer.Option(help="LABEL:xMin,yMin,xMax,yMax for every image.")] = None,
    point: Annotated[list[str] | None, typer.Option(help="LABEL:x,y on the object, for every image.")] = None,
    param: Annotated[list[str] | None, typer.Option(help="NAME=VALUE; the value is JSON.")] = None,
    prompts: Annotated[
        PromptSource, typer.Option(help="What the labels of a COCO or YOLO data set become.")
    ] = PromptSource.BOXES,
    images: Annotated[
        Path | None, typer.Option(help="Folder of a COCO document's images; else its own.", exists=True)
    ] = None,
    min_confidence: Annotated[
        float | None, typer.Option(help="Items below this mean confidence are flagged.", min=0, max=1)
    ] = None,
    min_segment_area: Annotated[
        float | None, typer.Option(help="Segments that cover less of the image are flagged.", min=0, max=1)
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the batch, for people.")] = "",
    local: Annotated[
        bool, typer.Option("--local", help="Start a service for this, and stop it afterwards.")
    ] = False,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Label a data set; what Ctrl-C or a failure interrupts is gone on with by --resume."""
    folder = OutputFolder(out)
    if resume:
        document = folder.resume()
        if source is not None and source != document.source:
            raise typer.BadParameter(f"{out} is of {document.source}; leave the source out")
    elif source is None:
        raise typer.BadParameter("give a source, or --resume")
    else:
        thresholds = {"min_confidence": min_confidence, "min_segment_area": min_segment_area}
        batch = NewBatch(
            model=model,
            subtask=subtask,
            prompts=read_prompts(box or (), point or (), (), None),
            parameters=pairs(param),
            review=ReviewThresholds(**{key: value for key, value in thresholds.items() if value is not None}),
            display_name=name or source[-128:],
            source=_remote(source, prompts),
        )
        document = LabellingDocument(
            source=source if is_remote(source) else str(Path(source).absolute()),
            idempotency_key=str(uuid4()),
            batch=batch,
            prompts=prompts,
            images=str(images.absolute()) if images else None,
            formats=tuple(formats or (MASKS,)),
            polygons=polygons,
            is_local=local,
        )
        form_of(document.source)
        folder.begin(document)
    with ExitStack() as stack:
        if document.is_local:
            service = stack.enter_context(Stack(out / ".maskline" / "service"))
            url, api_key = service.url, service.api_key
        client = stack.enter_context(connect(url, api_key))
        report = _run(Labelling(client, document, folder))
    _show(report, out, as_json)
    if not report.has_all_succeeded:
        raise typer.Exit(1)


def _remote(source: str, prompts: PromptSource) -> BatchSource | None:
    """What the service reads by itself."""
    if not is_remote(source):
        return None
    field = "manifest" if form_of(source) is SourceForm.MANIFEST else form_of(source).value
    return BatchSource.model_validate({field: source, "prompts": prompts})


def _run(labelling: Labelling) -> Report:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[pace]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=to_people) as progress:
        task = progress.add_task("labelling", total=None, pace="")
        return labelling.run(lambda batch: _tell(progress, task, batch))


def _tell(progress: Progress, task: TaskID, batch: BatchResource) -> None:
    counts = batch.counts
    pace = f"{batch.items_per_second:.1f} images/s" if batch.items_per_second else ""
    failed = f", {counts.failed} failed" if counts.failed else ""
    progress.update(
        task,
        description=f"{batch.id} is {batch.state}{failed}",
        completed=counts.succeeded + counts.failed,
        total=batch.items or None,
        pace=pace,
    )


def _show(report: Report, out: Path, as_json: bool) -> None:
    summary = report.summary
    for problem in report.problems:
        if problem.effect is not Effect.PASSED_OVER:
            remark(f"{problem.where}: {problem.message}")
    passed_over = sum(problem.effect is Effect.PASSED_OVER for problem in report.problems)
    if passed_over:
        remark(f"{passed_over} files or annotations were passed over")
    if as_json:
        print_json(summary)
        return
    print_table(
        ("what", "how many"),
        (
            ("items", str(summary.items + report.left_out)),
            ("succeeded", str(summary.succeeded)),
            ("failed", str(summary.failed + report.left_out)),
            ("to be looked at", str(summary.flagged)),
            *((f"failed: {code}", str(count)) for code, count in sorted(summary.errors.items())),
        ),
    )
    if summary.categories:
        print_table(
            ("category", "images", "segments", "pixels"),
            (
                (one.display_name, str(one.items), str(one.segments), str(one.pixels))
                for one in summary.categories[:_SHOWN]
            ),
        )
    if summary.slowest:
        print_table(
            ("slowest", "line", "ms"),
            ((one.id, str(one.line), f"{one.milliseconds:.0f}") for one in summary.slowest[:_SHOWN]),
        )
    confidence = f"; mean confidence {summary.mean_confidence:.3f}" if summary.mean_confidence else ""
    pace = f", {summary.items / summary.seconds:.1f} images a second" if summary.seconds else ""
    remark(f"{summary.seconds:.0f} s{pace}{confidence}; saved in {out.resolve()}")
