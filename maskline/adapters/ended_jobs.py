"""Ended jobs, kept in the process for a moment.

The record of a job that has ended changes no more but by a deletion or a new expiry, and Redis tells of both.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from maskline.jobs import Job

_MOST = 512
_FOR_S = 2.0  # should a message be missed


class EndedJobs:
    """The jobs read last that have ended. Safe to use from many threads."""

    def __init__(
        self, keeps: Callable[[Job], bool] = lambda _: True, *, most: int = _MOST, for_s: float = _FOR_S
    ) -> None:
        """``keeps``: says which are small enough; ``most``: jobs at once; ``for_s``: how long one is good."""
        self._keeps = keeps
        self._most = most
        self._for_s = for_s
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, tuple[float, Job]] = OrderedDict()
        self._reading: dict[str, object] = {}

    def find(self, job_id: str) -> Job | None:
        """The job, if it is here and good."""
        kept = self._kept.get(job_id)
        return kept[1] if kept is not None and kept[0] > time.monotonic() else None

    def read(self, job_id: str, read: Callable[[], Job | None]) -> Job | None:
        """What ``read`` gives, kept if it has ended and no change was told meanwhile."""
        mine = object()
        until = time.monotonic() + self._for_s
        with self._lock:
            self._reading[job_id] = mine
        try:
            job = read()
        except BaseException:
            self.drop(job_id)
            raise
        with self._lock:
            if self._reading.get(job_id) is mine:
                del self._reading[job_id]
                if job is not None and job.state.is_final and self._keeps(job):
                    self._kept[job_id] = until, job
                    self._kept.move_to_end(job_id)
                    if len(self._kept) > self._most:
                        self._kept.popitem(last=False)
        return job

    def drop(self, job_id: str) -> None:
        """Keep this job no longer."""
        with self._lock:
            self._kept.pop(job_id, None)
            self._reading.pop(job_id, None)

    def drop_all(self) -> None:
        """Keep none of them any longer."""
        with self._lock:
            self._kept.clear()
            self._reading.clear()
