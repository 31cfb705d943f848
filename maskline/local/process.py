"""One server of the stack, as a child process."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

_READY_POLL_S = 0.02
_LOG_TAIL = 20  # lines shown when a server does not start
_KILL_WAIT_S = 5.0


class StackError(Exception):
    """The embedded stack can't start or go on; the message says why, and what to do."""


@dataclass(kw_only=True)
class Process:
    """A server: its command, when it counts as ready, and how long it may take to end."""

    name: str
    command: Sequence[str]
    is_ready: Callable[[], bool]
    log_file: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    grace_s: float = 10.0
    _child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Of the running child."""
        return self._child.pid if self._child is not None and self.is_alive else None

    @property
    def is_alive(self) -> bool:
        """Whether the child runs."""
        return self._child is not None and self._child.poll() is None

    def start(self) -> None:
        """Start the child in a session of its own: a Ctrl-C on the terminal is for the stack to handle.

        It ends with the thread that calls this, at the latest.
        """
        self._end_group()
        with self.log_file.open("ab") as log:
            self._child = subprocess.Popen(  # noqa: S603 (the stack's own command)
                [sys.executable, "-m", "maskline.local.child", str(os.getpid()), *self.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment},
                start_new_session=True,
            )

    def wait_until_ready(self, timeout_s: float) -> None:
        """Return when the server answers.

        Raises:
            StackError: it ended, or does not answer in time; with the end of its log.
        """
        deadline = time.monotonic() + timeout_s
        while not self.is_ready():
            self.check_alive()
            if time.monotonic() > deadline:
                raise StackError(f"{self.name} does not answer after {timeout_s:g} s; {self._end_of_log()}")
            time.sleep(_READY_POLL_S)

    def check_alive(self) -> None:
        """Return if the child runs.

        Raises:
            StackError: it ended; with the end of its log.
        """
        if not self.is_alive:
            raise StackError(f"{self.name} ended while it started; {self._end_of_log()}")

    def ask_to_stop(self) -> None:
        """Send SIGTERM, and return at once."""
        if self._child is not None and self.is_alive:
            self._child.terminate()

    def stop(self) -> None:
        """End the child: asked first, killed when its grace is over."""
        if self._child is None:
            return
        self.ask_to_stop()
        with suppress(subprocess.TimeoutExpired):
            self._child.wait(self.grace_s)
        self._end_group()
        self._child.wait(_KILL_WAIT_S)

    def _end_group(self) -> None:
        """Kill what is left of the child and of what it started; normally nothing is."""
        if self._child is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._child.pid, signal.SIGKILL)

    def _end_of_log(self) -> str:
        lines = self.log_file.read_text("utf-8", "replace").splitlines()[-_LOG_TAIL:]
        return "\n".join((f"the end of {self.log_file}:", *lines))
