"""The whole service on one machine: started in order, watched, and ended in the reverse order."""

import fcntl
import json
import shutil
import sys
import sysconfig
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import httpx

from maskline.local.ports import HOST, free_port
from maskline.local.process import Process, StackError
from maskline.local.redis_server import redis_process
from maskline.local.s3_server import s3_process
from maskline.local.secrets import load_secrets, write_private

SERVICE_FILE = "service.json"
BUCKET = "maskline"
IMPORT_BUCKET = "imports"
_START_TIMEOUT_S = 60.0
_WATCH_S = 0.2
_RESTART_AFTER_S = 0.5
_WORKER_GRACE_S = 60.0
_API_GRACE_S = 5.0
_TIMEOUT_S = 2.0

__all__ = ["Stack", "StackError"]


class Stack:
    """Redis, S3, workers and the API over one folder. A server that dies is started again."""

    def __init__(
        self,
        data_dir: Path,
        *,
        port: int | None = None,
        workers: int = 1,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """``data_dir``: keeps everything; ``port``: of the API, None for a free one; ``environment``: further
        settings of Maskline's, by their variables."""
        self._data_dir = data_dir.resolve()
        self._port = port or free_port()
        self._workers = workers
        self._environment = dict(environment or {})
        self._lock: IO[str] | None = None
        self._stopping = threading.Event()
        self._watcher: threading.Thread | None = None
        self.on_restart: Callable[[str], None] = lambda name: None
        self.processes: list[Process] = []
        self.environment: dict[str, str] = {}
        self.url = f"http://{HOST}:{self._port}"
        self.api_key = ""

    @property
    def log_dir(self) -> Path:
        """Where the servers' logs are."""
        return self._data_dir / "logs"

    def __enter__(self) -> Self:
        """Start everything, and return when the service is ready.

        Raises:
            StackError: another stack uses the folder, a server is not installed, or does not start.
        """
        try:
            self._take_folder()
            self.processes = self._plan()
            for process in self.processes:
                process.start()
                process.wait_until_ready(_START_TIMEOUT_S)
        except BaseException:
            self._end()
            raise
        write_private(
            self._data_dir / SERVICE_FILE, json.dumps({"url": self.url, "apiKey": self.api_key}, indent=2)
        )
        self._watcher = threading.Thread(target=self._watch, name="stack", daemon=True)
        self._watcher.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End everything."""
        self._end()

    def process(self, name: str) -> Process:
        """The process ``redis``, ``s3``, ``worker-1`` … or ``api``."""
        return next(process for process in self.processes if process.name == name)

    def suspend_watch(self) -> None:
        """Let what dies stay dead from now on."""
        self._stopping.set()
        if self._watcher is not None:
            self._watcher.join()

    def _take_folder(self) -> None:
        self.log_dir.mkdir(parents=True, exist_ok=True)
        self._lock = (self._data_dir / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StackError(
                f"another stack runs on {self._data_dir}; stop it, or choose another folder with --data-dir"
            ) from error

    def _plan(self) -> list[Process]:
        secrets = load_secrets(self._data_dir / "secrets.json")
        redis_port, s3_port = free_port(), free_port()
        self.api_key = secrets.admin_key
        self.environment = {
            "MASKLINE_REDIS_URL": f"redis://{HOST}:{redis_port}/0",
            "MASKLINE_S3_ENDPOINT": f"http://{HOST}:{s3_port}",
            "MASKLINE_S3_BUCKET": BUCKET,
            "MASKLINE_S3_ACCESS_KEY": secrets.s3_access_key,
            "MASKLINE_S3_SECRET_KEY": secrets.s3_secret_key,
            "MASKLINE_IMPORT_BUCKETS": IMPORT_BUCKET,
            "MASKLINE_ADMIN_KEY": secrets.admin_key,
            "MASKLINE_URL_SECRET": secrets.url_secret,
            "MASKLINE_WEBHOOK_SECRET": secrets.webhook_secret,
            "MASKLINE_PUBLIC_URL": self.url,
            "MASKLINE_SHUTDOWN_GRACE": str(_WORKER_GRACE_S),
            **self._environment,
        }
        redis = redis_process(redis_port, self._data_dir / "redis", self.log_dir / "redis.log")
        s3 = s3_process(
            s3_port,
            self._data_dir / "s3",
            (BUCKET, IMPORT_BUCKET),
            access_key=secrets.s3_access_key,
            secret_key=secrets.s3_secret_key,
            log_file=self.log_dir / "s3.log",
        )
        api = Process(
            name="api",
            command=[
                _script("gunicorn"),
                "-c",
                "python:api.gunicorn_config",
                "--bind",
                f"{HOST}:{self._port}",
                "api.wsgi:app",
            ],
            environment=self.environment,
            is_ready=self._is_ready,
            log_file=self.log_dir / "api.log",
            grace_s=_API_GRACE_S,
        )
        return [redis, s3, *(self._worker(i) for i in range(1, self._workers + 1)), api]

    def _worker(self, number: int) -> Process:
        return Process(
            name=f"worker-{number}",
            command=[sys.executable, "-m", "worker"],
            environment=self.environment,
            is_ready=lambda: True,  # the API says when the workers are there
            log_file=self.log_dir / f"worker-{number}.log",
            grace_s=float(self.environment["MASKLINE_SHUTDOWN_GRACE"]) + 5,
        )

    def _is_ready(self) -> bool:
        for process in self.processes:
            process.check_alive()
        try:
            answer = httpx.get(f"{self.url}/readyz", timeout=_TIMEOUT_S, trust_env=False)
        except httpx.HTTPError:
            return False
        return answer.is_success and answer.json().get("workers", 0) >= self._workers

    def _watch(self) -> None:
        while not self._stopping.wait(_WATCH_S):
            for process in self.processes:
                if not process.is_alive and not self._stopping.is_set():
                    self.on_restart(process.name)
                    self._stopping.wait(_RESTART_AFTER_S)
                    process.start()

    def _end(self) -> None:
        self.suspend_watch()
        for process in reversed(self.processes):
            process.stop()
        if self._lock is not None:
            self._lock.close()


def _script(name: str) -> str:
    found = shutil.which(name, path=sysconfig.get_path("scripts")) or shutil.which(name)
    if found is None:
        raise StackError(f"{name} is not installed; get it with: pip install 'maskline[local]'")
    return found
