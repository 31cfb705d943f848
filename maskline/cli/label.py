"""``maskline label``: a data set in, its labels out."""

import re
import shlex
from collections.abc import Container, Iterator
from contextlib import ExitStack, contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Annotated
from uuid import uuid4

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from maskline.batch_resources import EXPORT_FORMAT, BatchResource, NewBatch
from maskline.batch_results import ReviewThresholds
from maskline.batches import PromptSource
from maskline.cli.context import ApiKey, Json, Url, connect, print_json, print_table, remark, to_people
from maskline.cli.jobs import pairs
from maskline.cli.prompts import read_prompts
from maskline.client import ApiError, BatchDidNotSucceed, Client, MasklineError
from maskline.datasets.source import Effect, NotADataset
from maskline.labelling.folder import PROBLEMS, LabellingDocument, OutputFolder
from maskline.labelling.labelling import MASKS, Labelling, Report, UnknownFormat
from maskline.labelling.sources import is_remote, kind_of, remote_source
from maskline.local import Stack
from maskline.requests import Subtask

_SHOWN = 10


def command(
    context: typer.Context,
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
    retry: Annotated[
        bool, typer.Option("--retry", help="With --resume: try the items anew that failed.")
    ] = False,
    name: Annotated[str, typer.Option(help="Name of the batch, for people.")] = "",
    local: Annotated[
        bool, typer.Option("--local", help="Start a service for this, and stop it afterwards.")
    ] = False,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Label a data set; what Ctrl-C or a failure interrupts is gone on with by --resume."""
    with OutputFolder(out) as folder:
        if resume:
            _require_alone(context, {"out", "resume", "retry", "url", "api_key", "as_json"})
            document = folder.resume()
        elif source is None or retry:
            raise typer.BadParameter("give a source, or --resume; --retry goes with --resume")
        else:
            thresholds = {"min_confidence": min_confidence, "min_segment_area": min_segment_area}
            chosen = {key: value for key, value in thresholds.items() if value is not None}
            batch = NewBatch(
                model=model,
                subtask=subtask,
                prompts=read_prompts(box or (), point or (), (), None),
                parameters=pairs(param),
                review=ReviewThresholds(**chosen),
                display_name=name or source[-128:],
                source=remote_source(source, prompts) if is_remote(source) else None,
            )
            document = LabellingDocument(
                source=source if is_remote(source) else str(Path(source).absolute()),
                idempotency_key=str(uuid4()),
                batch=batch,
                prompts=prompts,
                images=str(images.absolute()) if images else None,
                formats=tuple(map(_format, formats or (MASKS,))),
                polygons=polygons,
                is_local=local,
                service=url,
            )
            kind_of(document.source)
            folder.begin(document)
        try:
            with _client(document, out, url, api_key) as client:
                labelling = Labelling(client, document, folder)
                if not resume:  # what is gone on with may have begun already
                    labelling.require_formats()
                report = _run(labelling, is_retry=retry)
        except NotADataset:
            if not resume:
                folder.abandon()
            raise
        except BatchDidNotSucceed:
            remark(f"What came is kept in {out}; label it anew in another folder.")
            raise
        except (KeyboardInterrupt, MasklineError, OSError) as error:
            if not resume and folder.batch_id is None and _is_refusal(error):
                folder.abandon()
                raise
            remark(f"What came is kept; go on with: maskline label --resume --out {shlex.quote(str(out))}")
            raise
    _show(report, out, as_json)
    if report.failed_exports:
        raise typer.Exit(3)
    if not report.has_all_succeeded:
        raise typer.Exit(1)


def _is_refusal(error: BaseException) -> bool:
    """Whether the service would answer the same to the same request."""
    passing = (HTTPStatus.UNAUTHORIZED, HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)
    if isinstance(error, ApiError):
        return error.status < 500 and error.status not in passing
    return isinstance(error, UnknownFormat)


def _require_alone(context: typer.Context, allowed: Container[str]) -> None:
    """Return if no other option was given: everything else is as it was when the folder was begun.

    Raises:
        typer.BadParameter: one was.
    """
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if source is not None and source.name == "COMMANDLINE" and parameter.name not in allowed:
            raise typer.BadParameter(
                "it is as it was at the beginning; leave it out with --resume", param_hint=parameter.opts[0]
            )


def _format(name: str) -> str:
    """A name that a format could have; which ones there are, the service knows."""
    if not re.fullmatch(EXPORT_FORMAT, name):
        raise typer.BadParameter(f"{name!r} is no name of a format", param_hint="--format")
    return name


@contextmanager
def _client(document: LabellingDocument, out: Path, url: str | None, api_key: str | None) -> Iterator[Client]:
    """A client of the service that labels."""
    with ExitStack() as stack:
        if document.is_local:
            service = stack.enter_context(Stack(out / ".maskline" / "service"))
            url, api_key = service.url, service.api_key
        yield stack.enter_context(connect(url or document.service, api_key))


def _run(labelling: Labelling, *, is_retry: bool) -> Report:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[pace]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=to_people) as progress:
        task = progress.add_task("labelling", total=None, pace="")
        return labelling.run(lambda batch: _tell(progress, task, batch), is_retry=is_retry)


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
        remark(f"{problem.where}: {problem.message}")
    mattering = report.left_out + report.effects[Effect.PROMPT_LEFT_OUT]
    if mattering > len(report.problems):
        remark(f"{mattering - len(report.problems)} more are in {out / PROBLEMS}")
    if passed_over := report.effects[Effect.PASSED_OVER]:
        remark(f"{passed_over} files or annotations were passed over")
    for name, why in report.failed_exports.items():
        remark(f"there is no {name}: {why}")
    if as_json:
        print_json(summary)
        return
    print_table(
        ("what", "how many"),
        (
            ("items", str(summary.items)),
            ("succeeded", str(summary.succeeded)),
            ("failed", str(summary.failed)),
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
    confidence = (
        f"; mean confidence {summary.mean_confidence:.3f}" if summary.mean_confidence is not None else ""
    )
    pace = f", {summary.items / summary.seconds:.1f} images a second" if summary.seconds else ""
    remark(f"{summary.seconds:.0f} s{pace}{confidence}; saved in {out.resolve()}")
