"""Starts servers again that end by themselves."""

import math
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from maskline.local.process import Process

_LOOK_S = 0.2
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 10.0
_STEADY_S = 30.0  # who ran that long did not end for the reason of the last time


@dataclass
class _Watched:
    process: Process
    pause_s: float = _FIRST_PAUSE_S
    started: float = -math.inf
    due: float | None = None

    def notice_end(self, now: float) -> None:
        """Set the time for a new start: soon, and later each time while it keeps ending early."""
        is_steady = now - self.started > _STEADY_S
        self.pause_s = _FIRST_PAUSE_S if is_steady else min(2 * self.pause_s, _LONGEST_PAUSE_S)
        self.due = now + self.pause_s

    def start(self, now: float) -> None:
        self.started, self.due = now, None
        self.process.start()


class Watcher:
    """Looks after processes, in a thread of its own.

    Linux ends a child with the *thread* that started it. So the thread stays until ``close``, which is
    called when the processes are stopped.
    """

    def __init__(self, processes: Sequence[Process], on_restart: Callable[[str], None]) -> None:
        """``on_restart``: called with the name of each process that ended."""
        self._watched = [_Watched(process) for process in processes]
        self._on_restart = on_restart
        self._suspended, self._idle, self._closed = threading.Event(), threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)
        self._thread.start()

    def suspend(self) -> None:
        """Return when nothing is started any more."""
        self._suspended.set()
        self._idle.wait()

    def close(self) -> None:
        """End the thread, and with it whatever it started that still runs."""
        self.suspend()
        self._closed.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._suspended.wait(_LOOK_S):
            for watched in self._watched:
                with suppress(OSError):  # no memory, or nowhere to print: the next look tries again
                    self._look_at(watched, time.monotonic())
        self._idle.set()
        self._closed.wait()

    def _look_at(self, watched: _Watched, now: float) -> None:
        if watched.process.is_alive:
            return
        if watched.due is None:
            watched.notice_end(now)
            self._on_restart(watched.process.name)
        elif now >= watched.due:
            watched.start(now)
