"""Work that a worker does beside its jobs, again and again."""

import threading
import time
from collections.abc import Callable

import structlog

logger = structlog.get_logger(module=__name__)


class Periodic:
    """A daemon thread that calls a function at a fixed interval, and survives its errors."""

    def __init__(self, name: str, interval_s: float, work: Callable[[], object]) -> None:
        """``work`` is first called at ``start``, in the new thread."""
        self._interval_s = interval_s
        self._work = work
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, after the call that is under way."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                self._work()
            except Exception:
                logger.exception("periodic work failed", work=self._thread.name)
            self._stopping.wait(max(0.0, self._interval_s - (time.monotonic() - began)))
