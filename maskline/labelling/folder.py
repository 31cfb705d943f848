"""The folder that the results of a data set go into, and what is kept there to go on after an interruption.

results.jsonl     the results, without the masks
errors.jsonl      the items that failed, and those of the data set that became none
review.jsonl      the items that somebody should look at
problems.jsonl    what in the data set became no item or no prompt
summary.json      what came of all
.maskline/        what is needed to go on
    labelling.json    what was asked for
    batch.json        the batch
    uploaded.jsonl    what each part has
    pending.pack      the images of the latest part
    pending.jsonl     its items
    downloaded.json   number of the last chunk whose results are here
    exported.json     the exports that are here
"""

import fcntl
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, NamedTuple, Self, TypeVar

from pydantic import Field
from pydantic_core import from_json

from maskline.batch_resources import NewBatch
from maskline.batches import PromptSource
from maskline.wire import WireModel

_STATE = ".maskline"
RESULTS, ERRORS, REVIEW, SUMMARY = "results.jsonl", "errors.jsonl", "review.jsonl", "summary.json"
PROBLEMS = "problems.jsonl"

_Document = TypeVar("_Document", bound=WireModel)


class NotResumable(OSError):
    """There is nothing to go on with in the folder, or what is there is something else."""


class FolderInUse(OSError):
    """Another command works in the folder."""


class LabellingDocument(WireModel):
    """What was asked for."""

    source: str
    """As it was given."""
    idempotency_key: str
    """By which the batch is made once."""
    batch: NewBatch
    """As it is made."""
    prompts: PromptSource
    """What the labels of the source become."""
    images: str | None = None
    """Folder of a COCO document's images."""
    formats: tuple[str, ...] = ()
    """Of the labels."""
    polygons: bool = False
    """Whether outlines are wanted in place of masks."""
    is_local: bool = False
    """Whether a service is started for it, over a folder in this one."""
    service: str | None = None
    """URL of the service, if one was given."""


class UploadedPart(WireModel):
    """What is in a part; the pack with its images has the same number."""

    part: int
    """Its number."""
    ids: tuple[str, ...] = Field(repr=False)
    """Of its items."""


class PendingPart(NamedTuple):
    """A part on its way."""

    part: int
    """Its number."""
    images: bytes
    """One after the other; empty: its items name none of a pack."""
    lines: bytes
    """Its items."""


class OutputFolder:
    """A folder of results. One command at a time works in it: from ``begin`` or ``resume`` on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._state = path / _STATE
        self._lock: IO[bytes] | None = None

    def __enter__(self) -> Self:
        """The folder."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let others work in the folder."""
        self.close()

    def close(self) -> None:
        """Let others work in the folder."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def begin(self, document: LabellingDocument) -> None:
        """Claim the folder, which is empty or not there.

        Raises:
            FileExistsError: there is something in it.
            FolderInUse: another command works in it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        if self._document.exists() or any(one != self._state for one in self.path.iterdir()):
            remedy = "go on with it by --resume" if self._document.exists() else "give another"
            raise FileExistsError(f"the folder {self.path} is not empty; {remedy}")
        self._state.mkdir(exist_ok=True)
        self._take()
        replace_file(self._document, document.to_json().encode())

    def resume(self) -> LabellingDocument:
        """What was asked for when the folder was begun.

        Raises:
            NotResumable: it never was.
            FolderInUse: another command works in it.
        """
        if not self._document.exists():
            raise NotResumable(f"there is nothing to go on with in {self.path}")
        self._take()
        try:
            document = LabellingDocument.model_validate_json(self._document.read_bytes())
        except ValueError as error:
            raise NotResumable(f"{self._document} is damaged: {error}") from error
        _cut_to_whole_lines(self._log)
        return document

    def abandon(self) -> None:
        """Leave the folder as it was before it was begun."""
        (self.path / PROBLEMS).unlink(missing_ok=True)
        shutil.rmtree(self._state)

    def _take(self) -> None:
        self._lock = (self._state / "lock").open("ab")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.close()
            raise FolderInUse(f"another command works in {self.path}; wait for its end") from error

    @property
    def _document(self) -> Path:
        return self._state / "labelling.json"

    # -- the batch

    @property
    def batch_id(self) -> str | None:
        """Of the batch; None: it was not made yet, or nobody knows."""
        return _read(self._state / "batch.json", _Known).batch

    def note_batch(self, batch_id: str) -> None:
        """Note the batch, once it is made."""
        replace_file(self._state / "batch.json", _Known(batch=batch_id).to_json().encode())

    # -- what was uploaded

    @property
    def _log(self) -> Path:
        return self._state / "uploaded.jsonl"

    def note_part(self, part: PendingPart, ids: Iterable[str]) -> None:
        """Keep a part with its images, before it is uploaded, so that it can be sent again to the letter."""
        replace_file(self._state / "pending.pack", part.images, is_durable=True)
        replace_file(self._state / "pending.jsonl", part.lines, is_durable=True)
        with self._log.open("ab") as log:
            log.write(UploadedPart(part=part.part, ids=tuple(ids)).to_json().encode() + b"\n")
            log.flush()
            os.fsync(log.fileno())

    def uploaded(self) -> list[UploadedPart]:
        """The parts that were noted; all but the last one were uploaded."""
        if not self._log.exists():
            return []
        with self._log.open("rb") as log:
            return [UploadedPart.model_validate_json(line) for line in log]

    def pending(self, part: int) -> PendingPart:
        """The part that was noted last, which has this number."""
        images, lines = (self._state / name for name in ("pending.pack", "pending.jsonl"))
        return PendingPart(part=part, images=images.read_bytes(), lines=lines.read_bytes())

    # -- what was downloaded

    @property
    def downloaded(self) -> int:
        """Number of the last chunk whose results are here."""
        return self._come().chunk

    @property
    def rounds(self) -> int:
        """How often failed items were tried anew before the errors here."""
        return self._come().rounds

    def add_chunk(self, chunk: int, lines: Mapping[str, Iterable[str]]) -> None:
        """Add a chunk's lines to the files of these names: all of them, or after an interruption anew."""
        come = self._come()
        ends = {name: self._put_after(name, come.ends.get(name, 0), more) for name, more in lines.items()}
        self._note_come(come.model_copy(update={"chunk": chunk, "ends": come.ends | ends}))

    def replace_errors(self, rounds: int, lines: Iterable[str]) -> None:
        """Put the errors that are left after so many rounds of trying anew in place of those here."""
        new = self._state / ERRORS
        with new.open("wb") as file:
            file.writelines(line.encode() + b"\n" for line in lines)
            end = file.tell()
        new.replace(self.path / ERRORS)
        come = self._come()
        self._note_come(come.model_copy(update={"rounds": rounds, "ends": come.ends | {ERRORS: end}}))

    def end_errors(self, lines: Iterable[str]) -> None:
        """Put these lines after those of all chunks, in place of any that are there."""
        self._put_after(ERRORS, self._come().ends.get(ERRORS, 0), lines)

    def result_ids(self) -> Iterator[str]:
        """The ids of the items whose results are here, in their order."""
        end = self._come().ends.get(RESULTS, 0)
        if end:
            with (self.path / RESULTS).open("rb") as file:
                while file.tell() < end:
                    yield str(from_json(file.readline())["id"])

    def _put_after(self, name: str, start: int, lines: Iterable[str]) -> int:
        """Where the file ends, with these lines from ``start`` on."""
        path = self.path / name
        path.touch()
        with path.open("rb+") as file:
            file.seek(min(start, path.stat().st_size))
            file.truncate()
            file.writelines(line.encode() + b"\n" for line in lines)
            return file.tell()

    def _come(self) -> "_Come":
        return _read(self._state / "downloaded.json", _Come)

    def _note_come(self, come: "_Come") -> None:
        replace_file(self._state / "downloaded.json", come.to_json().encode())

    # -- what was exported

    def has_export(self, name: str, rounds: int) -> bool:
        """Whether an export is here, as it was after so many rounds of trying anew."""
        return self._exported().rounds.get(name) == rounds

    def new_export(self) -> Path:
        """An empty folder for an export on its way."""
        folder = self._state / "export"
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir()
        return folder

    def keep_export(self, name: str, rounds: int) -> None:
        """Put what is in the folder for an export to its place, instead of an earlier one."""
        place = self.path / name
        if place.exists():
            shutil.rmtree(place)
        (self._state / "export").rename(place)
        exported = self._exported().rounds | {name: rounds}
        replace_file(self._state / "exported.json", _Exported(rounds=exported).to_json().encode())

    def _exported(self) -> "_Exported":
        return _read(self._state / "exported.json", _Exported)


class _Known(WireModel):
    """The batch, once it is made."""

    batch: str | None = None


class _Come(WireModel):
    """What has come."""

    chunk: int = 0
    """Number of the last chunk whose results are here."""
    ends: dict[str, int] = Field(default_factory=dict)
    """Where its lines end in each file."""
    rounds: int = 0
    """How often failed items were tried anew before the errors."""


class _Exported(WireModel):
    """What was exported."""

    rounds: dict[str, int] = Field(default_factory=dict)
    """By the name of the format: after how many rounds of trying anew."""


def replace_file(path: Path, content: bytes, *, is_durable: bool = False) -> None:
    """Write a file wholly or not at all. ``is_durable``: it is on the disk then, whatever happens."""
    new = path.with_name(path.name + ".new")
    with new.open("wb") as file:
        file.write(content)
        if is_durable:
            file.flush()
            os.fsync(file.fileno())
    new.replace(path)


def _read(path: Path, model: type[_Document]) -> _Document:
    """What the file holds; without one, what is so by default."""
    try:
        return model.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return model()


def _cut_to_whole_lines(path: Path) -> None:
    """Take away the last line if it has no end: it was cut off, and another must not be put behind it."""
    if path.exists():
        with path.open("rb+") as file:
            end = sum(len(line) for line in file if line.endswith(b"\n"))
            file.truncate(end)
