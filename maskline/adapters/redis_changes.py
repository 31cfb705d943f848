"""Learning that a job has changed: one subscription for a process, however many wait."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable
from typing import TypeVar

import redis

from maskline.adapters.redis_connection import RedisConnection

T = TypeVar("T")

_RECHECK_S = 2.0  # messages of Redis can be missed (a reconnect); the record can't
_POLL_S = 1.0


class ChangeListener:
    """Wakes those who wait for a job when a message says that it changed."""

    def __init__(
        self, connection: RedisConnection, on_change: Callable[[str], None], on_gap: Callable[[], None]
    ) -> None:
        """Subscribes when it is used for the first time. ``on_change`` is called with the id of each job that
        changes, ``on_gap`` when changes may have been missed."""
        self._connection = connection
        self._on_change = on_change
        self._on_gap = on_gap
        self._lock = threading.Lock()
        self._waiting: defaultdict[str, set[threading.Event]] = defaultdict(set)
        self._thread: threading.Thread | None = None
        self._subscribed = threading.Event()
        self._closing = threading.Event()

    @property
    def is_subscribed(self) -> bool:
        """Whether changes are told from now on; if not, they soon will be."""
        if self._thread is None:
            self._start()
        return self._subscribed.is_set()

    def wait(self, job_id: str, read: Callable[[], T], is_enough: Callable[[T], bool], timeout_s: float) -> T:
        """What ``read`` gives as soon as it is enough, or when the time is over."""
        deadline = time.monotonic() + timeout_s
        changed = threading.Event()
        self._start()
        self._subscribed.wait(_POLL_S)
        with self._lock:
            self._waiting[job_id].add(changed)
        try:
            while True:
                changed.clear()
                seen = read()
                left = deadline - time.monotonic()
                if is_enough(seen) or left <= 0:
                    return seen
                changed.wait(min(left, _RECHECK_S))
        finally:
            with self._lock:
                self._waiting[job_id].discard(changed)
                if not self._waiting[job_id]:
                    del self._waiting[job_id]

    def close(self) -> None:
        """End the subscription."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join()

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._listen, name="changes", daemon=True)
                self._thread.start()

    def _listen(self) -> None:
        while not self._closing.is_set():
            try:
                with self._connection.redis.pubsub() as subscription:
                    subscription.subscribe(f"{self._connection.prefix}changes")
                    while not self._closing.is_set():
                        self._take(subscription.get_message(timeout=_POLL_S))
            except (redis.RedisError, OSError, TypeError):  # the last: the library, of a link that just broke
                self._subscribed.clear()
                self._on_gap()
                self._closing.wait(_POLL_S)

    def _take(self, message: dict[str, str] | None) -> None:
        if message is None:
            return
        if message["type"] == "message":
            self._wake(message["data"])
        else:  # the subscription stands, perhaps after the library has renewed it
            self._on_gap()
            self._subscribed.set()

    def _wake(self, job_id: str) -> None:
        self._on_change(job_id)
        with self._lock:
            for changed in self._waiting.get(job_id, ()):
                changed.set()
