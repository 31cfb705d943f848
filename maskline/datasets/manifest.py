"""Manifests: a file with an item of ``maskline.batch_items`` as JSON in each line.

An image can also be given by its path from the manifest's folder: ``{"image": "photos/a7.jpg"}``.
"""

import re
from collections.abc import Iterator
from typing import BinaryIO

from pydantic import TypeAdapter, ValidationError

from maskline.batch_items import MAX_ITEM_BYTES, BatchItem, ImageAddress
from maskline.datasets.scratch import KnownIds, scratch_database
from maskline.datasets.source import DatasetFiles, Effect, Problem, Sourced, SourcedItem
from maskline.plain_words import tell

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_SCHEME = re.compile(r"(s3|gs|https?)://", re.IGNORECASE)
_ADDRESS: TypeAdapter[str] = TypeAdapter(ImageAddress)


class _Line(BatchItem):
    image: str


class _Refused(Exception):
    """The line is no item."""


def read_manifest(manifest: BinaryIO, files: DatasetFiles) -> Iterator[Sourced]:
    """The items of a manifest, line by line; empty lines are none.

    Memory is flat over any number of lines.
    """
    with scratch_database(KnownIds.TABLES) as database:
        known = KnownIds(database)
        for number, line in _lines(manifest):
            try:
                item = _item(number, line, files)
                if (earlier := known.add(item.id, number)) is not None:
                    raise _Refused(f"the id {item.id!r} is that of line {earlier} too; each is for one item")
            except _Refused as error:
                yield Problem(where=f"line {number}", message=str(error), effect=Effect.ITEM_LEFT_OUT)
            else:
                yield item


def _lines(manifest: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Lines with their numbers, none much longer than an item may be."""
    number = 1
    while line := manifest.readline(MAX_ITEM_BYTES + 2):
        if number == 1:
            line = line.removeprefix(_BYTE_ORDER_MARK)
        if line.strip():
            yield number, line
        while line and not line.endswith(b"\n"):
            line = manifest.readline(MAX_ITEM_BYTES)
        number += 1


def _item(number: int, line: bytes, files: DatasetFiles) -> SourcedItem:
    if len(line.rstrip(b"\r\n")) > MAX_ITEM_BYTES:
        raise _Refused(f"the line is longer than the {MAX_ITEM_BYTES} bytes that an item may have")
    try:
        item = _Line.model_validate_json(line)
        image = _ADDRESS.validate_python(item.image) if _SCHEME.match(item.image) else None
    except ValidationError as error:
        cut = "" if line.endswith(b"\n") else "; the manifest ends in the middle of this line"
        is_cut = error.errors(include_url=False)[0]["type"] == "json_invalid"
        raise _Refused(tell(error) + cut * is_cut) from error
    try:
        found = image or files.address(item.image)
    except FileNotFoundError as error:
        raise _Refused(
            f"there is no image {item.image!r}; give its path from the manifest's folder, or its address"
        ) from error
    return SourcedItem(
        position=number,
        id=item.id or str(number),
        image=found,
        prompts=item.prompts,
        subtask=item.subtask,
        parameters=item.parameters,
        auto_orient=item.auto_orient,
        metadata=item.metadata,
    )
