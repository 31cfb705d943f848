"""Sources become parts: what is elsewhere is written down as lines in Maskline's own bucket, once, so that a
batch stays what it was when it is read again."""

import json
import re
from collections.abc import Generator, Iterator
from contextlib import closing, nullcontext
from dataclasses import replace
from functools import partial
from io import BytesIO
from tempfile import SpooledTemporaryFile, TemporaryFile
from typing import IO, BinaryIO, cast

from pydantic import ValidationError

from maskline.artifact_operations import exists, put_once
from maskline.batch_artifacts import part_key, problems_key
from maskline.batch_results import PromptProblem
from maskline.batches import Batch, ItemForm, NotedLine, Source, SourceKind
from maskline.datasets.coco import read_coco
from maskline.datasets.folder import read_folder
from maskline.datasets.source import Effect, NotADataset, Problem, Sourced, SourcedItem
from maskline.datasets.yolo import read_yolo
from maskline.errors import ArtifactNotFound, MalformedRequest, RequestError
from maskline.image_header import ImageLimits, read_header
from maskline.jobs import Failure
from maskline.plain_words import tell
from maskline.ports import ArtifactStore

_MEDIA_TYPE = "application/jsonl"
_IN_MEMORY_BYTES = 1 << 23
_PROBLEM = "unusable_item"
_WILD = {"*": "[^/]*", "?": "[^/]"}
_SET = re.compile(r"\[!?[^]\\\\]+\]")
_SET_OR_ONE = re.compile(rf"{_SET.pattern}|.", re.DOTALL)
_HEAD_BYTES = 1 << 18  # of an image, in which its size almost always is


class BucketFiles:
    """The files of a data set in a bucket, by what follows a prefix."""

    def __init__(
        self, artifacts: ArtifactStore, bucket: str, prefix: str, *, pattern: str = "", limits: ImageLimits
    ) -> None:
        """``pattern``: of the names that are listed, as ``Path.glob`` takes it; ``limits``: of images."""
        self._artifacts = artifacts
        self._bucket = bucket
        self._prefix = prefix
        self._matches = re.compile(_expression(pattern)).fullmatch if pattern else None
        self._limits = limits

    def names(self) -> Iterator[str]:
        """All files but hidden ones, sorted."""
        for one in self._artifacts.objects(self._prefix, bucket=self._bucket):
            name = one.key.removeprefix(self._prefix)
            is_hidden = any(part.startswith(".") for part in name.split("/"))
            if not is_hidden and (self._matches is None or self._matches(name)):
                yield name

    def open(self, name: str) -> BinaryIO:
        """A file, to be read from its beginning."""
        try:
            chunks = self._artifacts.stream(self._prefix + name, bucket=self._bucket)[1]
        except ArtifactNotFound as error:
            raise FileNotFoundError(f"there is no object {self._prefix + name!r}") from error
        file = cast(BinaryIO, SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES))  # noqa: SIM115 (the reader's)
        file.writelines(chunks)
        file.seek(0)
        return file

    def address(self, name: str) -> str:
        """The URI of an image, which may not be there."""
        return f"s3://{self._bucket}/{self._prefix}{name}"

    def image_size(self, name: str) -> tuple[int, int]:
        """Width and height of an image in pixels, once it is upright."""
        try:
            chunks = self._artifacts.stream(self._prefix + name, bucket=self._bucket)[1]
        except ArtifactNotFound as error:
            raise FileNotFoundError(f"there is no object {self._prefix + name!r}") from error
        head = b""
        with closing(chunks) if isinstance(chunks, Generator) else nullcontext():
            for chunk in chunks:
                head += chunk
                if len(head) >= _HEAD_BYTES:
                    break
        try:
            return read_header(BytesIO(head), self._limits).size
        except RequestError:
            with self.open(name) as file:
                return read_header(BytesIO(file.read()), self._limits).size


def _expression(pattern: str) -> str:
    """The regular expression of a glob, in which ``**`` stands for any folders, and ``*`` for no slash."""
    parts = pattern.lstrip("/").split("/")
    *folders, last = ("(?:[^/]+/)*" if part == "**" else _of_part(part) + "/" for part in parts)
    return "/?" + "".join(folders) + ("(?:[^/]+/)*[^/]+" if parts[-1] == "**" else last.removesuffix("/"))


def _of_part(part: str) -> str:
    return "".join(map(_of_piece, _SET_OR_ONE.findall(part)))


def _of_piece(piece: str) -> str:
    if piece in _WILD:
        return _WILD[piece]
    if not _SET.fullmatch(piece):
        return re.escape(piece)
    is_other = piece.startswith("[!")
    wanted = piece[1 + is_other : -1].replace("[", r"\[").replace("^", r"\^")
    return f"[{'^' if is_other else ''}{wanted}]"


def import_source(batch: Batch, number: int, artifacts: ArtifactStore, limits: ImageLimits) -> None:
    """Store a source, from 1, as the part of the same number, and what was wrong with its prompts, unless
    they are there.

    Raises:
        ArtifactNotFound: the source is not there, or refuses.
        MalformedRequest: it is no data set of its kind.
        ArtifactStoreUnavailable: the store does not answer.
    """
    key = part_key(batch.id, number)
    if exists(artifacts, key):
        return
    source = batch.request.sources[number - 1]
    with TemporaryFile() as part, TemporaryFile() as problems:
        try:
            part.writelines(_pieces(source, artifacts, limits, problems))
        except NotADataset as error:
            raise MalformedRequest(str(error)) from error
        except FileNotFoundError as error:
            raise ArtifactNotFound(str(error)) from error
        if problems.tell():
            put_once(artifacts, problems_key(batch.id, number), problems, _MEDIA_TYPE)
        put_once(artifacts, key, part, _MEDIA_TYPE)  # last: where it is all is


def _pieces(
    source: Source, artifacts: ArtifactStore, limits: ImageLimits, problems: IO[bytes]
) -> Iterator[bytes]:
    """The lines of the part; what was wrong with prompts goes to ``problems``."""
    if source.kind is SourceKind.LINES:
        yield from artifacts.stream(source.key, bucket=source.bucket)[1]
        return
    for sourced in _read(source, artifacts, limits):
        if not isinstance(sourced, Problem):
            yield _line(sourced)
        elif sourced.effect is Effect.PROMPT_LEFT_OUT:
            problem = PromptProblem(where=sourced.where, message=sourced.message)
            problems.write(problem.to_json().encode() + b"\n")
        elif sourced.effect is Effect.ITEM_LEFT_OUT:
            failure = Failure(code=_PROBLEM, message=f"{sourced.where}: {sourced.message}")
            yield _noted(1, f'{{"id": {_quoted(sourced.where)}}}', failure)


def _read(source: Source, artifacts: ArtifactStore, limits: ImageLimits) -> Iterator[Sourced]:
    files = partial(BucketFiles, artifacts, source.bucket, limits=limits)
    if source.kind is SourceKind.IMAGES:
        yield from read_folder(files(source.key, pattern=source.pattern))
    elif source.kind is SourceKind.YOLO:
        yield from read_yolo(files(source.key), prompts=source.prompts)
    else:
        with files("").open(source.key) as document:
            yield from read_coco(document, files(source.images), prompts=source.prompts)


def _line(sourced: SourcedItem) -> bytes:
    """The line of an item, or of what should be one."""
    try:
        return _noted(
            sourced.position,
            replace(sourced, id=sourced.id.lstrip("/")).at(str(sourced.image)).to_short_json(),
            None,
        )
    except ValidationError as error:
        failure = Failure(code=_PROBLEM, message=tell(error))
        return _noted(sourced.position, f'{{"id": {_quoted(sourced.id)}}}', failure)


def _noted(line: int, text: str, failure: Failure | None) -> bytes:
    noted = NotedLine(line=line, form=ItemForm.ITEM, text=text, failure=failure)
    return noted.to_json().encode() + b"\n"


def _quoted(text: str) -> str:
    return json.dumps(text)
