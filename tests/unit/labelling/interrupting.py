"""Breaking a program off between any two of its lines, as Ctrl-C does."""

import sys
from types import FrameType, TracebackType
from typing import Any, Self

PACKAGE = "/maskline/labelling/"


class Interrupted(BaseException):
    """The program was broken off."""


class Interruption:
    """Raises ``Interrupted`` in this thread before line number ``at`` of the package's that runs in it."""

    def __init__(self, at: int) -> None:
        self._at = at
        self.lines = 0
        """That have run."""
        self.has_come = False

    def __enter__(self) -> Self:
        self._trace_before = sys.gettrace()
        sys.settrace(self._enter)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        sys.settrace(self._trace_before)
        return isinstance(error, Interrupted)

    def _enter(self, frame: FrameType, event: str, argument: Any) -> Any:
        return self._line if PACKAGE in frame.f_code.co_filename else None

    def _line(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line":
            self.lines += 1
            if self.lines == self._at:
                self.has_come = True
                raise Interrupted
        return self._line
