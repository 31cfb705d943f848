"""How good masks are: predicted category masks held against true ones, pixel by pixel.

The intersection over union of a class is that of the whole data set: its pixels that are right, by those that
are of it in either mask, over all images together.
"""

import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated

from PIL import Image
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from maskline.image_header import DAMAGE
from maskline.plain_words import tell
from maskline.png_chunks import SIGNATURE
from maskline.wire import WireModel

_FEW_PAIRS = 1 << 16  # of ids in two masks; the most that two of 8 bits can have
_DEPTH_AT = (
    len(SIGNATURE) + 16
)  # in a PNG: bits of a sample, then its colour type (PNG specification, 11.2.1)
_PALETTE = 3
_CATEGORY_MASKS = {"1", "L", "P", "I;16"}  # Pillow's modes


class NoNames(Exception):
    """A file of names can't be read; the message says what would be right."""


class NotComparable(Exception):
    """Two masks can't be held against each other; the message says why."""


class ClassScore(WireModel):
    """How good one class is."""

    id: int
    """Pixel value in the masks."""
    name: str | None = None
    """None: none was given."""
    iou: Annotated[float, Field(ge=0, le=1)] | None
    """Intersection over union; None: the class is in no mask, and not part of the mean."""
    right_pixels: int
    """That are of the class in both masks."""
    true_pixels: int
    """That are of the class in the true mask."""
    predicted_pixels: int
    """That are of the class in the predicted mask."""


class Evaluation(WireModel):
    """How good the masks of a data set are."""

    images: int
    """That were compared."""
    faults: int
    """Images that could not be compared."""
    pixels: int
    """That were compared."""
    pixel_accuracy: Annotated[float, Field(ge=0, le=1)] | None
    """Part of the pixels that are right; None: there are none."""
    mean_iou: Annotated[float, Field(ge=0, le=1)] | None
    """Mean over the classes that are in any mask, background included; None: there are none."""
    classes: tuple[ClassScore, ...]
    """By id: those that are in any mask, or have a name."""


class Evaluator:
    """Counts pixels over any number of images; memory grows with the number of pairs of classes alone."""

    def __init__(self, ignored: Collection[int] = ()) -> None:
        """``ignored``: ids in the true mask whose pixels do not count, whatever was predicted there."""
        self._ignored = frozenset(ignored)
        self._pairs: Counter[tuple[int, int]] = Counter()
        self._images = 0
        self._faults = 0

    def compare(self, predicted: Path, true: Path) -> None:
        """Count the pixels of two masks.

        Raises:
            NotComparable: one is missing or no category mask, or they have different sizes; that is counted.
        """
        try:
            counts = count_pairs(read_mask(true), read_mask(predicted))
        except NotComparable:
            self._faults += 1
            raise
        self._images += 1
        self._pairs.update({pair: count for pair, count in counts.items() if pair[0] not in self._ignored})

    def evaluation(self, names: Mapping[int, str] | None = None) -> Evaluation:
        """What was counted so far; ``names`` are those of the classes."""
        names = names or {}
        true: Counter[int] = Counter()
        predicted: Counter[int] = Counter()
        for (true_id, predicted_id), count in self._pairs.items():
            true[true_id] += count
            predicted[predicted_id] += count
        classes = tuple(
            _score(id, names.get(id), self._pairs[id, id], true[id], predicted[id])
            for id in sorted((true.keys() | predicted.keys() | names.keys()) - self._ignored)
        )
        pixels = true.total()
        ious = [one.iou for one in classes if one.iou is not None]
        return Evaluation(
            images=self._images,
            faults=self._faults,
            pixels=pixels,
            pixel_accuracy=sum(one.right_pixels for one in classes) / pixels if pixels else None,
            mean_iou=sum(ious) / len(ious) if ious else None,
            classes=classes,
        )


def _score(id: int, name: str | None, right: int, true: int, predicted: int) -> ClassScore:
    union = true + predicted - right
    return ClassScore(
        id=id,
        name=name,
        iou=right / union if union else None,
        right_pixels=right,
        true_pixels=true,
        predicted_pixels=predicted,
    )


def read_mask(path: Path) -> Image.Image:
    """The category mask in a PNG, palette or grayscale: an image of mode ``L`` or ``I;16``, its pixels ids.

    Raises:
        NotComparable: there is no such file, or it is none.
    """
    try:
        with path.open("rb") as file:
            start = file.read(_DEPTH_AT + 2)
            file.seek(0)
            image = Image.open(file, formats=["PNG"])
            image.load()
    except FileNotFoundError as error:
        raise NotComparable(f"{path} is missing") from error
    except DAMAGE as error:
        raise NotComparable(f"{path} is no PNG that can be read: {error}") from error
    if image.mode not in _CATEGORY_MASKS:
        raise NotComparable(
            f"{path} has {len(image.getbands())} channels; a category mask is a palette or grayscale PNG"
        )
    if image.mode == "I;16":
        return image
    depth, color_type = start[_DEPTH_AT:]
    if color_type == _PALETTE:
        return Image.frombytes("L", image.size, image.tobytes())
    whitest = (1 << depth) - 1  # Pillow spreads fewer than 8 bits over 0 to 255
    return image.convert("L").point([level * whitest // 255 for level in range(256)])


def count_pairs(true: Image.Image, predicted: Image.Image) -> dict[tuple[int, int], int]:
    """How many pixels have each pair of true and predicted id, in two images of ``read_mask``.

    Raises:
        NotComparable: they have different sizes.
    """
    if true.size != predicted.size:
        sizes = [f"{width} x {height}" for width, height in (predicted.size, true.size)]
        raise NotComparable(f"the predicted mask has {sizes[0]} pixels, the true one {sizes[1]}")
    # One picture of four channels has all bytes of both masks; Pillow counts its colours.
    both = Image.merge("CMYK", (*_low_and_high(true), *_low_and_high(predicted)))
    colors = both.getcolors(_FEW_PAIRS) or both.getcolors(both.width * both.height) or []
    pairs = {}
    for count, color in colors:
        assert isinstance(color, tuple)  # noqa: S101 (for mypy: a picture of several channels)
        low, high, predicted_low, predicted_high = map(int, color)
        pairs[low | high << 8, predicted_low | predicted_high << 8] = count
    return pairs


def _low_and_high(mask: Image.Image) -> tuple[Image.Image, ...]:
    """The low and the high byte of each id."""
    if mask.mode == "L":
        return mask, Image.new("L", mask.size)
    return Image.frombytes("LA", mask.size, mask.tobytes()).split()


def mask_names(predictions: Path, truths: Path) -> Iterator[str]:
    """The paths, from either folder, of the PNGs that are in one of them or both; sorted within a folder."""
    for name in _pngs(truths):
        yield name
    for name in _pngs(predictions):
        if not (truths / name).exists():
            yield name


def _pngs(folder: Path) -> Iterator[str]:
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if name.lower().endswith(".png") and not name.startswith("."):
                yield (Path(place) / name).relative_to(folder).as_posix()


class _Spec(BaseModel):
    id: int
    display_name: str = Field(alias="displayName")


_SPECS = TypeAdapter(list[_Spec])


def read_names(path: Path) -> dict[int, str]:
    """The names of classes by their ids.

    A file ``.json`` holds a list of annotation specs (``id``, ``displayName``); any other the name of class 0
    in its first line, that of class 1 in its second, and so on.

    Raises:
        NoNames: it is no such file.
        OSError: it can't be opened.
    """
    text = path.read_bytes()
    try:
        if path.suffix.lower() == ".json":
            return {spec.id: spec.display_name for spec in _SPECS.validate_json(text)}
        return dict(_named(text.decode("utf-8-sig").splitlines()))
    except ValidationError as error:
        raise NoNames(f"{path}: {tell(error)}") from error
    except UnicodeDecodeError as error:
        raise NoNames(f"{path} is no text in UTF-8") from error


def _named(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    return ((id, line.strip()) for id, line in enumerate(lines) if line.strip())
