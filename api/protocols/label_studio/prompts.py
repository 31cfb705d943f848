"""What an annotator drew, as prompts."""

from collections.abc import Callable, Sequence

from pydantic import ValidationError

from api.protocols.label_studio.label_config import Control
from api.protocols.label_studio.messages import DrawnRegion
from maskline.errors import Fault, InvalidRequest
from maskline.plain_words import pointer, tell
from maskline.requests import Prompt

DRAWN = "/params/context/result"
"""Where a request has what was drawn."""
_BOXES = ("rectanglelabels", "rectangle")
_POINTS = ("keypointlabels", "keypoint")

Box = tuple[float, float, float, float]
Point = tuple[float, float, int]


def prompts_of(regions: Sequence[DrawnRegion], control: Control) -> tuple[Prompt, ...]:
    """A prompt for each object.

    The points of a label go with its rectangle. Several rectangles of one label are an object each, and then
    its points are one more.

    Raises:
        InvalidRequest: a region can't be a prompt.
    """
    boxes: dict[str, list[Box]] = {}
    points: dict[str, list[Point]] = {}
    for number, region in enumerate(regions):
        place = pointer("params", "context", "result", number)
        label = _label(region, control, place)
        if region.is_rotated:
            raise InvalidRequest(
                [Fault(place, "rotated images and rectangles are not taken; turn them back")]
            )
        if region.type in _BOXES:
            boxes.setdefault(label, []).append(_box(region, place))
        elif region.type in _POINTS:
            points.setdefault(label, []).append((*_point(region, place), int(region.is_positive)))
        else:
            detail = f"{region.type!r} is not taken as a prompt; draw a rectangle or a keypoint"
            raise InvalidRequest([Fault(f"{place}/type", detail)])
    return tuple(
        prompt
        for label in dict.fromkeys((*boxes, *points))
        for prompt in _of_label(label, boxes.get(label, []), points.get(label, []))
    )


def _of_label(label: str, boxes: list[Box], points: list[Point]) -> list[Prompt]:
    if len(boxes) == 1:
        return [_prompt(label, boxes[0], points)]
    prompts = [_prompt(label, box, []) for box in boxes]
    return [*prompts, _prompt(label, None, points)] if points else prompts


def _prompt(label: str, box: Box | None, points: list[Point]) -> Prompt:
    try:
        return Prompt(
            label=label,
            box=box,
            points=tuple((x, y) for x, y, _ in points),
            point_labels=tuple(is_on for _, _, is_on in points),
        )
    except ValidationError as error:
        raise InvalidRequest([Fault(DRAWN, tell(error))]) from error


def _label(region: DrawnRegion, control: Control, place: str) -> str:
    value = region.value
    given = next(iter((*value.rectanglelabels, *value.keypointlabels, *value.labels)), control.labels[0])
    label = control.label_of(given)
    if label is None:
        detail = (
            f"the label {given!r} is none of {control.from_name!r}, which has {', '.join(control.labels)}"
        )
        raise InvalidRequest([Fault(f"{place}/value", detail)])
    return label


def _box(region: DrawnRegion, place: str) -> Box:
    x, y = _percents(place, region.value.x, region.value.y)
    width, height = _percents(place, region.value.width, region.value.height)
    to_x, to_y = _scales(region)
    return to_x(x), to_y(y), to_x(x + width), to_y(y + height)


def _point(region: DrawnRegion, place: str) -> tuple[float, float]:
    x, y = _percents(place, region.value.x, region.value.y)
    to_x, to_y = _scales(region)
    return to_x(x), to_y(y)


def _percents(place: str, *given: float | None) -> list[float]:
    numbers = [number for number in given if number is not None]
    if len(numbers) < len(given):
        raise InvalidRequest([Fault(f"{place}/value", "give x and y, and of a rectangle width and height")])
    return numbers


def _scales(region: DrawnRegion) -> tuple[Callable[[float], float], Callable[[float], float]]:
    """From percent to pixels; what reaches over the image's edge, as it does by rounding, ends there."""

    def to(side: int) -> Callable[[float], float]:
        return lambda percent: min(max(percent, 0.0), 100.0) * side / 100

    return to(region.original_width), to(region.original_height)
