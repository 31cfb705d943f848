"""The folder that the results of a data set go into, and what is kept there to go on after an interruption.

results.jsonl     the results, without the masks
errors.jsonl      the items that failed
review.jsonl      the items that somebody should look at
summary.json      what came of all
.maskline/        what is needed to go on
    labelling.json    the service, the batch, and what was asked for
    uploaded.jsonl    what each part has
    downloaded.json   number of the last chunk whose results are here
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from pydantic import Field
from pydantic_core import from_json

from maskline.batch_resources import NewBatch
from maskline.wire import WireModel

_STATE = ".maskline"
RESULTS, ERRORS, REVIEW, SUMMARY = "results.jsonl", "errors.jsonl", "review.jsonl", "summary.json"


class NotResumable(OSError):
    """There is nothing to go on with in the folder, or what is there is something else."""


class LabellingDocument(WireModel):
    """What was asked for."""

    source: str
    """As it was given."""
    idempotency_key: str
    """By which the batch is made once."""
    batch: NewBatch
    """As it is made."""
    prompts: str
    """What the labels of the source become."""
    images: str | None = None
    """Folder of a COCO document's images."""
    formats: tuple[str, ...] = ()
    """Of the labels."""
    polygons: bool = False
    """Whether outlines are wanted in place of masks."""
    is_local: bool = False
    """Whether a service is started for it, over a folder in this one."""


class UploadedPart(WireModel):
    """What is in a part."""

    part: int
    """Its number."""
    pack: int
    """Number of the pack with its images."""
    ids: tuple[str, ...] = Field(repr=False)
    """Of its items."""


class OutputFolder:
    """A folder of results."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._state = path / _STATE

    def begin(self, document: LabellingDocument) -> None:
        """Claim the folder, which is empty or not there.

        Raises:
            FileExistsError: there is something in it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        if any(self.path.iterdir()):
            remedy = "go on with it by --resume" if self._document.exists() else "give another"
            raise FileExistsError(f"the folder {self.path} is not empty; {remedy}")
        self._state.mkdir()
        self._document.write_text(document.to_json(), "utf-8")

    def resume(self) -> LabellingDocument:
        """What was asked for when the folder was begun.

        Raises:
            NotResumable: it never was.
        """
        try:
            return LabellingDocument.model_validate_json(self._document.read_text("utf-8"))
        except FileNotFoundError as error:
            raise NotResumable(f"there is nothing to go on with in {self.path}") from error
        except ValueError as error:
            raise NotResumable(f"{self._document} is damaged: {error}") from error

    @property
    def _document(self) -> Path:
        return self._state / "labelling.json"

    # -- what was uploaded

    def note_part(self, part: UploadedPart) -> None:
        """Note what a part has, before it is uploaded."""
        with (self._state / "uploaded.jsonl").open("a", encoding="utf-8") as log:
            log.write(part.to_json() + "\n")
            log.flush()
            os.fsync(log.fileno())

    def uploaded(self) -> list[UploadedPart]:
        """What was noted; of a part that was noted twice the latest counts."""
        noted = map(UploadedPart.model_validate_json, _whole_lines(self._state / "uploaded.jsonl"))
        return list({part.part: part for part in noted}.values())

    # -- what was downloaded

    @property
    def downloaded(self) -> int:
        """Number of the last chunk whose results are here."""
        return self._come().chunk

    def add_chunk(self, chunk: int, lines: Mapping[str, Iterable[str]]) -> None:
        """Add a chunk's lines to the files of these names: all of them, or after an interruption anew."""
        come = self._come()
        ends = dict(come.ends)
        for name, more in lines.items():
            with (self.path / name).open("ab") as file:
                file.truncate(ends.get(name, 0))
                file.write("".join(line + "\n" for line in more).encode())
                ends[name] = file.tell()
        replace_file(self._state / "downloaded.json", _Come(chunk=chunk, ends=ends).to_json().encode())

    def result_ids(self) -> Iterator[str]:
        """The ids of the items whose results are here, in their order."""
        end = self._come().ends.get(RESULTS, 0)
        if end:
            with (self.path / RESULTS).open("rb") as file:
                while file.tell() < end:
                    yield str(from_json(file.readline())["id"])

    def _come(self) -> "_Come":
        try:
            return _Come.model_validate_json((self._state / "downloaded.json").read_text("utf-8"))
        except FileNotFoundError:
            return _Come()


class _Come(WireModel):
    """What has come."""

    chunk: int = 0
    """Number of the last chunk whose results are here."""
    ends: dict[str, int] = Field(default_factory=dict)
    """Where its lines end in each file."""


def replace_file(path: Path, content: bytes) -> None:
    """Write a file wholly or not at all."""
    new = path.with_name(path.name + ".new")
    new.write_bytes(content)
    new.replace(path)


def _whole_lines(path: Path) -> Iterator[str]:
    """The lines that have an end: the last one may have been cut off."""
    if not path.exists():
        return
    with path.open(encoding="utf-8", newline="\n") as file:
        for line in file:
            if line.endswith("\n"):
                yield line
