"""Data sets in the layout of Ultralytics: ``data.yaml``, images below ``images/``, labels below ``labels/``.

The format is that of https://docs.ultralytics.com/datasets/detect/ and ``/segment/``: a text file for each
image, and a line for each object, ``CLASS x y width height`` (the box's centre and size) or
``CLASS x1 y1 x2 y2 x3 y3 …`` (its outline), all as parts of the image's width and height.
"""

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

import yaml
from pydantic import BaseModel, ValidationError

from maskline.batches import PromptSource
from maskline.datasets.folder import is_image_name
from maskline.datasets.outlines import fill_polygons
from maskline.datasets.source import (
    DatasetFiles,
    Effect,
    NotADataset,
    Problem,
    Sourced,
    SourcedItem,
    too_many_prompts,
)
from maskline.errors import RequestError
from maskline.plain_words import tell
from maskline.requests import Label, Prompt

DATA_FILE = "data.yaml"
_MAX_LABEL_BYTES = 16 << 20  # of the labels of one image
_TOLERANCE = 0.01  # beyond the image's edge; the same as that of Ultralytics


class _DataFile(BaseModel):
    names: list[Label] | dict[int, Label]


class _Refused(Exception):
    """The image can't be taken."""


def read_yolo(files: DatasetFiles, *, prompts: PromptSource = PromptSource.BOXES) -> Iterator[Sourced]:
    """The images of a data set below any folder ``images``, with the lines of their labels as prompts.

    The box of an outline is the smallest around it. An item's id is its image's path. Images without a file
    of labels, or with an empty one, are passed over.

    Args:
        files: from the folder that has ``data.yaml``.
        prompts: what of a line becomes the prompt.

    Raises:
        NotADataset: there is no ``data.yaml``, or it has no ``names``.
    """
    names = _read_names(files)
    images = (name for name in files.names() if is_image_name(name) and labels_of(name))
    for position, name in enumerate(images, 1):
        found: list[Prompt] = []
        try:
            lines = _label_lines(files, name)
            size = files.image_size(name) if lines else (0, 0)
            for number, line in lines:
                try:
                    found.append(_prompt(line, names, prompts, size))
                except ValueError as error:
                    yield Problem(
                        where=f"{labels_of(name)}, line {number}",
                        message=str(error),
                        effect=Effect.PROMPT_LEFT_OUT,
                    )
            if fault := too_many_prompts(len(found)):
                raise _Refused(fault)
        except (RequestError, FileNotFoundError, _Refused) as error:
            yield Problem(where=name, message=str(error), effect=Effect.ITEM_LEFT_OUT)
            continue
        if found:
            yield SourcedItem(position=position, id=name, image=files.address(name), prompts=tuple(found))
        else:
            yield Problem(
                where=name, message="it has no label to make a prompt of", effect=Effect.PASSED_OVER
            )


def labels_of(image: str) -> str | None:
    """Where the labels of an image are; None: it is below no folder ``images``."""
    path = PurePosixPath(image)
    folders = list(path.parts[:-1])
    if "images" not in folders:
        return None
    last = len(folders) - 1 - folders[::-1].index("images")
    folders[last] = "labels"
    return str(PurePosixPath(*folders, path.stem + ".txt"))


def _read_names(files: DatasetFiles) -> Mapping[int, str]:
    try:
        with files.open(DATA_FILE) as file:
            names = _DataFile.model_validate(yaml.safe_load(file)).names
    except FileNotFoundError as error:
        raise NotADataset(f"there is no {DATA_FILE}; it gives the names of the classes") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise NotADataset(f"{DATA_FILE} is no YAML: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        raise NotADataset(f"{DATA_FILE}: {tell(error)}") from error
    return names if isinstance(names, dict) else dict(enumerate(names))


def _label_lines(files: DatasetFiles, image: str) -> list[tuple[int, str]]:
    """The lines of an image's labels that are not empty, with their numbers."""
    name = labels_of(image) or ""
    try:
        with files.open(name) as file:
            text = file.read(_MAX_LABEL_BYTES + 1)
    except FileNotFoundError:
        return []
    if len(text) > _MAX_LABEL_BYTES:
        raise _Refused(f"{name} is longer than {_MAX_LABEL_BYTES} bytes")
    lines = enumerate(text.decode("utf-8", "replace").removeprefix("\ufeff").split("\n"), 1)
    return [(number, line) for number, line in lines if line.strip()]


def _prompt(line: str, names: Mapping[int, str], prompts: PromptSource, size: tuple[int, int]) -> Prompt:
    """The prompt of a line.

    Raises:
        ValueError: it makes none; in words for the caller.
    """
    try:
        number, *parts = map(float, line.split())
    except ValueError:
        raise ValueError(f"{line.strip()[:80]!r} is not made of numbers") from None
    if number not in names:
        raise ValueError(f"there is no class {number:g}; {DATA_FILE} names {len(names)}")
    label = names[int(number)]
    is_box = len(parts) == 4
    if not is_box and (len(parts) < 6 or len(parts) % 2):
        raise ValueError(
            f"it has {len(parts)} numbers behind the class; give 4 for a box, "
            "or 2 for each corner of an outline, of which there are 3 or more"
        )
    if not all(-_TOLERANCE <= part <= 1 + _TOLERANCE for part in parts):
        raise ValueError("a number is not between 0 and 1; give parts of the image's width and height")
    width, height = size
    if prompts is PromptSource.BOXES:
        return Prompt(label=label, box=_box(parts, width, height))
    if is_box:
        raise ValueError("it is a box, without the outline that a mask needs")
    mask = fill_polygons(
        [[part * side for part, side in zip(parts, (width, height) * len(parts), strict=False)]],
        width,
        height,
    )
    if not any(mask.run_lengths()[1::2]):
        raise ValueError("its outline has no pixel on the image")
    return Prompt(label=label, mask=mask)


def _box(parts: list[float], width: int, height: int) -> tuple[float, float, float, float]:
    """The box of a line in pixels, cut off at the image's edges."""
    if len(parts) == 4:
        x, y, box_width, box_height = parts
        edges = (x - box_width / 2, y - box_height / 2, x + box_width / 2, y + box_height / 2)
    else:
        edges = (min(parts[::2]), min(parts[1::2]), max(parts[::2]), max(parts[1::2]))
    left, top, right, bottom = (min(max(edge, 0.0), 1.0) for edge in edges)
    if not (left < right and top < bottom):
        raise ValueError("its box has no area on the image")
    return left * width, top * height, right * width, bottom * height
