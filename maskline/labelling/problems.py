"""What in a data set became no item or no prompt: kept in a file, for there may be many."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from maskline.datasets.source import Effect, Problem
from maskline.jobs import Failure
from maskline.wire import WireModel

UNUSABLE = "unusable_item"  #: the code of an item that the data set does not give; the service has it too


class ProblemLine(WireModel):
    """A problem of a data set, as a line of JSON."""

    where: str
    """Such as ``line 12``, ``annotation 7`` or ``labels/a.txt, line 3``."""
    message: str
    """What was wrong, and what would be right."""
    effect: Effect
    """What is left out for it."""


class LeftOutItem(WireModel):
    """An item of the data set that never reached the service, as a line of the errors."""

    where: str
    """Where in the data set."""
    error: Failure
    """What was wrong, and what would be right."""


class ProblemLog:
    """Notes the problems of one reading of a data set, in place of those of an earlier one."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8", buffering=1)  # so that a line is there once it is noted

    def __enter__(self) -> Self:
        """The log."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self._file.close()

    def add(self, problem: Problem) -> None:
        """Note a problem. Of names of files, what can't be written or shown is escaped."""
        line = ProblemLine(
            where=printable(problem.where), message=printable(problem.message), effect=problem.effect
        )
        self._file.write(line.to_json() + "\n")


def read_problems(path: Path) -> Iterator[ProblemLine]:
    """What was noted; none where there is no file."""
    if path.exists():
        with path.open("rb") as file:
            yield from map(ProblemLine.model_validate_json, file)


def left_out_items(path: Path) -> Iterator[LeftOutItem]:
    """Those that are items."""
    for one in read_problems(path):
        if one.effect is Effect.ITEM_LEFT_OUT:
            yield LeftOutItem(where=one.where, error=Failure(code=UNUSABLE, message=one.message))


def count_effects(path: Path) -> Counter[Effect]:
    """How many there are with each effect."""
    return Counter(one.effect for one in read_problems(path))


def printable(text: str) -> str:
    """The text with everything escaped that is no visible character."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)
