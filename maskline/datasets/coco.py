"""Data sets with labels as COCO's instances files have them: one JSON document for all images.

The format is that of https://cocodataset.org/#format-data (object detection): lists of ``images``,
``annotations`` and ``categories``, in any order. The document is read once, as a stream; what is needed of it
waits on disk until it has been read whole, so memory is flat over documents of any size.
"""

import json
import sqlite3
from collections.abc import Iterator
from typing import Annotated, Any, BinaryIO

import ijson
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from maskline.batches import PromptSource
from maskline.datasets.outlines import fill_polygons
from maskline.datasets.scratch import scratch_database
from maskline.datasets.source import (
    DatasetFiles,
    Effect,
    NotADataset,
    Problem,
    Sourced,
    SourcedItem,
    too_many_prompts,
)
from maskline.plain_words import tell
from maskline.requests import Label, Prompt
from maskline.run_lengths import MAX_SIDE, RunLengthMask, Side

_TABLES = """
    CREATE TABLE image (
        position INTEGER PRIMARY KEY, id INTEGER UNIQUE, name TEXT UNIQUE, width INT, height INT
    );
    CREATE TABLE category (id INTEGER PRIMARY KEY, name TEXT);
    CREATE TABLE annotation (
        position INTEGER PRIMARY KEY, id INTEGER UNIQUE, image INT, category INT, shape TEXT
    );
    CREATE INDEX of_image ON annotation (image)
"""

_MAX_IMAGE_SIDE = 65535  # no setting takes a longer one; outlines are followed column by column
_Id = Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)]
_Number = Annotated[float, Field(ge=-MAX_SIDE, le=MAX_SIDE)]
_Box = tuple[_Number, _Number, _Number, _Number]


class _RunLengths(BaseModel):
    size: tuple[Side, Side]
    counts: str | list[Annotated[int, Field(ge=0)]]


_Polygons = Annotated[list[Annotated[list[_Number], Field(min_length=6)]], Field(min_length=1)]


class _Image(BaseModel):
    id: _Id
    file_name: Annotated[str, Field(min_length=1)]
    width: Annotated[int, Field(ge=1, le=_MAX_IMAGE_SIDE)]
    height: Annotated[int, Field(ge=1, le=_MAX_IMAGE_SIDE)]


class _Category(BaseModel):
    id: _Id
    name: Label


class _Annotation(BaseModel):
    id: _Id | None = None
    image_id: _Id
    category_id: _Id
    iscrowd: bool = False


class _BoxAnnotation(_Annotation):
    bbox: _Box

    def shape(self) -> object:
        return self.bbox


class _MaskAnnotation(_Annotation):
    segmentation: _RunLengths | _Polygons

    def shape(self) -> object:
        outline = self.segmentation
        return outline.model_dump() if isinstance(outline, _RunLengths) else outline


_SEGMENTATION: TypeAdapter[_RunLengths | _Polygons] = TypeAdapter(_RunLengths | _Polygons)


class _Refused(Exception):
    """A record of the document can't be taken."""


def read_coco(
    document: BinaryIO, files: DatasetFiles, *, prompts: PromptSource = PromptSource.BOXES
) -> Iterator[Sourced]:
    """The images of a COCO document, in its order, with their annotations as prompts.

    Boxes are cut off at the image's edges. A prompt's label is its category's name; an item's id is its
    image's ``file_name``, its metadata have the image's id as ``cocoImageId``. Crowds, and images without a
    prompt, are passed over.

    Args:
        document: of which ``read`` is all that is used.
        files: where the images are, by their ``file_name``.
        prompts: what of an annotation becomes the prompt.

    Raises:
        NotADataset: it is no whole JSON document, or none with images, annotations and categories.
    """
    with scratch_database(_TABLES) as database:
        shelf = _Shelf(database, prompts)
        yield from shelf.fill(document)
        yield from shelf.strays()
        for position, image_id, name, width, height in shelf.images():
            found: list[Prompt] = []
            for annotation, label, shape in shelf.annotations(image_id):
                try:
                    found.append(_prompt(label, shape, prompts, width, height))
                except ValueError as error:
                    yield _without_prompt(annotation, str(error))
            where = f"image {image_id}"
            try:
                image = files.address(name)
            except FileNotFoundError:
                yield Problem(where=where, message=f"there is no file {name!r}", effect=Effect.ITEM_LEFT_OUT)
                continue
            if not found:
                yield Problem(
                    where=where,
                    message=f"{name!r} has no annotation to make a prompt of",
                    effect=Effect.PASSED_OVER,
                )
            elif fault := too_many_prompts(len(found)):
                yield Problem(where=where, message=fault, effect=Effect.ITEM_LEFT_OUT)
            else:
                yield SourcedItem(
                    position=position,
                    id=name,
                    image=image,
                    prompts=tuple(found),
                    metadata={"cocoImageId": image_id},
                )


class _Shelf:
    """What is needed of a document, by image."""

    def __init__(self, database: sqlite3.Connection, prompts: PromptSource) -> None:
        self._database = database
        self._annotation = _BoxAnnotation if prompts is PromptSource.BOXES else _MaskAnnotation

    def fill(self, document: BinaryIO) -> Iterator[Problem]:
        """Read the document; yields what of it can't be taken."""
        put = {
            "images": (self._put_image, "image", Effect.ITEM_LEFT_OUT),
            "categories": (self._put_category, "category", Effect.PROMPT_LEFT_OUT),
            "annotations": (self._put_annotation, "annotation", Effect.PROMPT_LEFT_OUT),
        }
        count = dict.fromkeys(put, 0)
        for section, record in _records(document, count):
            count[section] += 1
            put_record, kind, effect = put[section]
            try:
                problem = put_record(count[section], record)
            except ValidationError as error:
                problem = Problem(
                    where=_name(kind, count[section], record), message=tell(error), effect=effect
                )
            except _Refused as error:
                problem = Problem(
                    where=_name(kind, count[section], record), message=str(error), effect=effect
                )
            if problem:
                yield problem
        if missing := [section for section, number in count.items() if not number]:
            raise NotADataset(
                f"the document has no {', '.join(missing)}; a COCO instances file has lists of images, "
                "annotations and categories"
            )

    def _put_image(self, position: int, record: object) -> None:
        image = _Image.model_validate(record)
        row = (position, image.id, image.file_name, image.width, image.height)
        try:
            self._database.execute("INSERT INTO image VALUES (?, ?, ?, ?, ?)", row)
        except sqlite3.IntegrityError as error:
            raise _Refused(
                f"an earlier image has its id, or its file_name {image.file_name!r}, too"
            ) from error

    def _put_category(self, position: int, record: object) -> None:
        category = _Category.model_validate(record)
        try:
            self._database.execute("INSERT INTO category VALUES (?, ?)", (category.id, category.name))
        except sqlite3.IntegrityError as error:
            raise _Refused(f"an earlier category has this id too; {category.name!r} is left out") from error

    def _put_annotation(self, position: int, record: object) -> Problem | None:
        if _Annotation.model_validate(record).iscrowd:
            return Problem(
                where=_name("annotation", position, record),
                message="it is a crowd",
                effect=Effect.PASSED_OVER,
            )
        one = self._annotation.model_validate(record)
        row = (position, one.id, one.image_id, one.category_id, json.dumps(one.shape()))
        try:
            self._database.execute("INSERT INTO annotation VALUES (?, ?, ?, ?, ?)", row)
        except sqlite3.IntegrityError as error:
            raise _Refused("an earlier annotation has this id too") from error
        return None

    def strays(self) -> Iterator[Problem]:
        """The annotations that are of no image, or of no category."""
        rows = self._database.execute(
            "SELECT position, id, image, category, image IN (SELECT id FROM image) FROM annotation "
            "WHERE image NOT IN (SELECT id FROM image) OR category NOT IN (SELECT id FROM category) "
            "ORDER BY position"
        )
        for position, id, image, category, has_image in rows:
            missing = f"category {category}" if has_image else f"image {image}"
            yield _without_prompt(
                _name("annotation", position, {"id": id}),
                f"it is of {missing}, which is not in the document or was left out",
            )

    def images(self) -> Iterator[tuple[int, int, str, int, int]]:
        """Position, id, name, width and height of each, in the document's order."""
        return self._database.execute("SELECT position, id, name, width, height FROM image ORDER BY position")

    def annotations(self, image: int) -> Iterator[tuple[str, str, Any]]:
        """Name, label and shape of each of an image, in the document's order."""
        rows = self._database.execute(
            "SELECT position, annotation.id, name, shape FROM annotation "
            "JOIN category ON category = category.id WHERE image = ? ORDER BY position",
            (image,),
        )
        for position, id, label, shape in rows:
            yield _name("annotation", position, {"id": id}), label, json.loads(shape)


def _records(document: BinaryIO, sections: dict[str, int]) -> Iterator[tuple[str, object]]:
    """The elements of these lists, each with the name of its list.

    All lists are read in one go: their elements look to ijson as if they were of one.
    """
    section = ""

    def events() -> Iterator[tuple[str, str, object]]:
        nonlocal section
        elements = {f"{name}.item" for name in sections}
        for prefix, event, value in ijson.parse(document, use_float=True):
            if event == "map_key" and not prefix:
                section = str(value)
            yield "element" if prefix in elements else prefix, event, value

    try:
        for element in ijson.items(events(), "element"):
            yield section, element
    except ijson.JSONError as error:
        reason = str(error).partition("\n")[0].strip()
        raise NotADataset(f"the document is no whole JSON document: {reason}") from error


def _name(kind: str, position: int, record: object) -> str:
    """What a record is called: by its id, or where it has none by its place in its list, from 1."""
    id = record.get("id") if isinstance(record, dict) else None
    return f"{kind} {id}" if isinstance(id, int) else f"{kind} number {position}"


def _without_prompt(annotation: str, message: str) -> Problem:
    return Problem(where=annotation, message=message, effect=Effect.PROMPT_LEFT_OUT)


def _prompt(label: str, shape: Any, prompts: PromptSource, width: int, height: int) -> Prompt:  # noqa: ANN401 (JSON)
    """The prompt of an annotation.

    Raises:
        ValueError: it makes none; in words for the caller.
    """
    if prompts is PromptSource.MASKS:
        return Prompt(label=label, mask=_mask(shape, width, height))
    x, y, box_width, box_height = shape
    box = (max(x, 0.0), max(y, 0.0), min(x + box_width, float(width)), min(y + box_height, float(height)))
    if not (box[0] < box[2] and box[1] < box[3]):
        raise ValueError(f"its bbox {shape} has no area on the image of {width} x {height} pixels")
    return Prompt(label=label, box=box)


def _mask(shape: Any, width: int, height: int) -> RunLengthMask:  # noqa: ANN401 (JSON)
    outline = _SEGMENTATION.validate_python(shape)
    if not isinstance(outline, _RunLengths):
        if any(len(polygon) % 2 for polygon in outline):
            raise ValueError("a polygon has an odd number of coordinates; give [x1, y1, x2, y2, …]")
        mask = fill_polygons(outline, width, height)
        lengths = mask.run_lengths()
    else:
        if outline.size != (height, width):
            raise ValueError(
                f"its size {list(outline.size)} is not [height, width] of the image, {[height, width]}"
            )
        if isinstance(outline.counts, str):
            mask = RunLengthMask(size=outline.size, counts=outline.counts)
            lengths = mask.run_lengths()
        else:
            lengths = outline.counts
            mask = RunLengthMask.of_run_lengths(height, width, lengths)
    if not any(lengths[1::2]):
        raise ValueError("its segmentation has no pixel on the image")
    return mask
