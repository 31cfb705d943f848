"""The labelling configuration of a project: which of its controls Maskline fills in."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring

from maskline.errors import Fault, InvalidRequest

Shape = Literal["brushlabels", "polygonlabels", "rectanglelabels"]
_SHAPES: tuple[Shape, ...] = get_args(Shape)  # the first that a configuration has is filled in
_MOST_CHARACTERS = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Control:
    """What is filled in."""

    shape: Shape
    """As which kind of region."""
    from_name: str
    """Name of the control."""
    to_name: str
    """Name of the image that it belongs to."""
    data_key: str
    """Under which the tasks' data have the image."""
    labels: tuple[str, ...]
    """As results name them, in the configuration's order; at least one."""
    names: Mapping[str, str]
    """How a model may name a label, in small letters, to the label."""

    def label_of(self, name: str) -> str | None:
        """The label that a model's category means; None if the configuration has none for it."""
        return self.names.get(name.casefold())


def find_control(text: str, pointer: str) -> Control:
    """The control of a configuration that is filled in. ``pointer``: where the request has the text.

    As in Label Studio's own parser a label is called by its ``alias``, if it has one.

    Raises:
        InvalidRequest: it is no XML, or has no such control.
    """
    tags = list(_parse(text, pointer).iter())
    images = {tag.get("name"): tag for tag in tags if _is(tag, "image")}
    for shape in _SHAPES:
        for tag in tags:
            to_name = next((name for name in tag.get("toName", "").split(",") if name in images), None)
            if _is(tag, shape) and tag.get("name") and to_name is not None:
                return _control(shape, tag, to_name, images[to_name].get("value", ""), pointer)
    raise InvalidRequest(
        [Fault(pointer, "there is no BrushLabels, PolygonLabels or RectangleLabels whose toName is an Image")]
    )


def _parse(text: str, pointer: str) -> Any:  # noqa: ANN401 (an element; defusedxml has no types)
    if len(text) > _MOST_CHARACTERS:
        raise InvalidRequest([Fault(pointer, f"more than {_MOST_CHARACTERS} characters")])
    try:
        return fromstring(text, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError) as error:
        told = str(error) or type(error).__name__
        raise InvalidRequest([Fault(pointer, f"this is no labelling configuration: {told}")]) from error


def _is(tag: Any, name: str) -> bool:  # noqa: ANN401
    return isinstance(tag.tag, str) and tag.tag.lower() == name


def _control(shape: Shape, tag: Any, to_name: str, value: str, pointer: str) -> Control:  # noqa: ANN401
    name = tag.get("name")
    if not value.startswith("$") or len(value) == 1:
        detail = f'the value of the Image {to_name!r} is {value!r}; name a field of the tasks, as "$image"'
        raise InvalidRequest([Fault(pointer, detail)])
    found = [one for one in tag.iter() if _is(one, "label") and (one.get("alias") or one.get("value"))]
    labels = tuple(dict.fromkeys(one.get("alias") or one.get("value") for one in found))
    if not labels:
        detail = f"{tag.tag} {name!r} has no Label of its own; labels that come with each task are not taken"
        raise InvalidRequest([Fault(pointer, detail)])
    return Control(
        shape=shape,
        from_name=name,
        to_name=to_name,
        data_key=value[1:],
        labels=labels,
        names=_names((one.get("value"), one.get("alias")) for one in found),
    )


def _names(found: Iterable[tuple[str | None, str | None]]) -> Mapping[str, str]:
    """Of each label by its value and by its alias; the first that has a name keeps it."""
    names: dict[str, str] = {}
    for value, alias in found:
        for name in (alias, value):
            if name:
                names.setdefault(name.casefold(), alias or name)
    return names
