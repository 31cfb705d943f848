"""Prompts as the command line writes them: ``LABEL:x1,y1,x2,y2`` for a box, ``LABEL:x,y`` for a point.

Each box begins a prompt. A point belongs to the latest box of its label; without one, the points of a label
together make a prompt.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import typer
from pydantic import TypeAdapter, ValidationError

from maskline.plain_words import tell
from maskline.requests import Prompt

_PROMPTS = TypeAdapter(tuple[Prompt, ...])


@dataclass
class _Draft:
    label: str
    box: list[float] | None = None
    points: list[list[float]] = field(default_factory=list)
    point_labels: list[int] = field(default_factory=list)


def read_prompts(
    boxes: Sequence[str], points: Sequence[str], other_points: Sequence[str], file: Path | None
) -> tuple[Prompt, ...]:
    """The prompts of the options; ``file`` holds a JSON list as the API takes it.

    Raises:
        typer.BadParameter: an option is not of its form.
        pydantic.ValidationError: a prompt of the options is wrong.
    """
    drafts = []
    for text in boxes:
        label, numbers = _parse(text, 4, "LABEL:x1,y1,x2,y2")
        drafts.append(_Draft(label, numbers))
    for texts, point_label in ((points, 1), (other_points, 0)):
        for text in texts:
            label, numbers = _parse(text, 2, "LABEL:x,y")
            draft = next((draft for draft in reversed(drafts) if draft.label == label), None)
            if draft is None:
                drafts.append(draft := _Draft(label))
            draft.points.append(numbers)
            draft.point_labels.append(point_label)
    from_file = _read_file(file) if file else ()
    from_options = _PROMPTS.validate_python(
        [{"label": d.label, "box": d.box, "points": d.points, "pointLabels": d.point_labels} for d in drafts]
    )
    return from_file + from_options


def _read_file(file: Path) -> tuple[Prompt, ...]:
    try:
        return _PROMPTS.validate_json(file.read_bytes())
    except ValidationError as error:
        raise typer.BadParameter(f"{file} has to hold a JSON list of prompts: {tell(error)}") from error


def _parse(text: str, count: int, form: str) -> tuple[str, list[float]]:
    label, _, rest = text.rpartition(":")
    try:
        numbers = [float(part) for part in rest.split(",")]
    except ValueError:
        numbers = []
    if not label or len(numbers) != count:
        raise typer.BadParameter(f"{text!r} is not of the form {form}")
    return label, numbers
