"""``maskline evaluate``."""

from pathlib import Path
from typing import Annotated

import typer

from maskline.cli.context import Json, print_json, print_table, remark
from maskline.evaluation import Evaluator, NoNames, NotComparable, mask_names, read_names


def command(
    predictions: Annotated[
        Path, typer.Argument(metavar="PRED", help="Folder of predicted masks.", exists=True, file_okay=False)
    ],
    truths: Annotated[
        Path, typer.Argument(metavar="GT", help="Folder of true masks.", exists=True, file_okay=False)
    ],
    ignore: Annotated[
        list[int] | None,
        typer.Option(help="Leave out pixels with this id in the true mask, such as 255; may come again."),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="Names of the classes: one in a line from id 0, or annotation specs in a .json.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Hold category masks (PNG) against true ones of the same names: IoU of each class, mean, accuracy."""
    try:
        names = read_names(labels) if labels else {}
    except NoNames as error:
        raise typer.BadParameter(str(error), param_hint="--labels") from error
    evaluator = Evaluator(ignore or ())
    for name in mask_names(predictions, truths):
        try:
            evaluator.compare(predictions / name, truths / name)
        except NotComparable as error:
            remark(f"{name}: {error}")
    evaluation = evaluator.evaluation(names)
    if as_json:
        print_json(evaluation)
    else:
        print_table(
            ("id", "class", "IoU", "right pixels", "true pixels", "predicted pixels"),
            (
                (
                    str(one.id),
                    one.name or "",
                    _percent(one.iou),
                    *(f"{n}" for n in (one.right_pixels, one.true_pixels, one.predicted_pixels)),
                )
                for one in evaluation.classes
            ),
        )
        remark(
            f"{evaluation.images} compared, {evaluation.faults} not; "
            f"mIoU {_percent(evaluation.mean_iou)}, pixel accuracy {_percent(evaluation.pixel_accuracy)}"
        )
    if evaluation.faults or not evaluation.images:
        raise typer.Exit(1)


def _percent(part: float | None) -> str:
    return "-" if part is None else f"{part:.2%}"
