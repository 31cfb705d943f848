"""Waiting for a job to change: one subscription for a process, however many wait."""

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

    def __init__(self, connection: RedisConnection) -> None:
        """Subscribes when somebody waits for the first time."""
        self._connection = connection
        self._lock = threading.Lock()
        self._waiting: defaultdict[str, set[threading.Event]] = defaultdict(set)
        self._thread: threading.Thread | None = None
        self._subscribed = threading.Event()
        self._closing = threading.Event()

    def wait(self, job_id: str, read: Callable[[], T], is_enough: Callable[[T], bool], timeout_s: float) -> T:
        """What ``read`` gives as soon as it is enough, or when the time is over."""
        deadline = time.monotonic() + timeout_s
        changed = threading.Event()
        self._start()
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
        self._subscribed.wait(_POLL_S)

    def _listen(self) -> None:
        while not self._closing.is_set():
            try:
                with self._connection.redis.pubsub(ignore_subscribe_messages=True) as subscription:
                    subscription.subscribe(f"{self._connection.prefix}changes")
                    self._subscribed.set()
                    while not self._closing.is_set():
                        message = subscription.get_message(timeout=_POLL_S)
                        if message is not None:
                            self._wake(message["data"])
            except redis.RedisError:
                self._subscribed.clear()
                self._closing.wait(_POLL_S)

    def _wake(self, job_id: str) -> None:
        with self._lock:
            for changed in self._waiting.get(job_id, ()):
                changed.set()
