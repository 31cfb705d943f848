"""The whole service on one machine: started in order, watched, and ended in the reverse order."""

import fcntl
import json
import os
import shutil
import sys
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import httpx

from maskline.catalog import load_catalog
from maskline.local.ports import HOST, free_port
from maskline.local.process import Process, StackError
from maskline.local.redis_server import redis_process
from maskline.local.s3_server import s3_process
from maskline.local.secrets import Secrets, load_secrets, write_private
from maskline.local.watcher import Watcher
from maskline.settings import Settings

SERVICE_FILE = "service.json"
BUCKET = "maskline"
IMPORT_BUCKET = "imports"
EXPORT_BUCKET = "exports"
_START_TIMEOUT_S = 60.0
_API_GRACE_S = 5.0
_WORKER_EXTRA_GRACE_S = 5.0  # over what the worker gives to its jobs: for its own end
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
        devices: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """``data_dir``: keeps everything; ``port``: of the API, None for a free one; ``devices``: where the
        workers' models run, handed out in turn; none: where the environment says; ``environment``: further
        settings of Maskline's, by their variables."""
        self._data_dir = data_dir.resolve()
        self._port = port or free_port()
        self._workers = workers
        self._devices = devices
        self._extra_environment = dict(environment or {})
        self._lock: IO[str] | None = None
        self._watcher: Watcher | None = None
        self._stages: list[list[Process]] = []
        self.on_restart: Callable[[str], None] = lambda name: None
        self.environment: dict[str, str] = {}
        self.url = f"http://{HOST}:{self._port}"
        self.api_key = ""

    @property
    def log_dir(self) -> Path:
        """Where the servers' logs are."""
        return self._data_dir / "logs"

    def s3_environment(self) -> dict[str, str]:
        """What AWS's own clients need in their environment to reach the store, while the stack runs."""
        return {
            "AWS_ENDPOINT_URL_S3": self.environment["MASKLINE_S3_ENDPOINT"],
            "AWS_ACCESS_KEY_ID": self.environment["MASKLINE_S3_ACCESS_KEY"],
            "AWS_SECRET_ACCESS_KEY": self.environment["MASKLINE_S3_SECRET_KEY"],
        }

    @property
    def processes(self) -> list[Process]:
        """All servers, in the order in which they start."""
        return [process for stage in self._stages for process in stage]

    def __enter__(self) -> Self:
        """Start everything, and return when the service is ready.

        Raises:
            SettingsError: a setting is wrong.
            NotACatalog: the file of the models can't be read.
            StackError: another stack uses the folder, a server is not installed, or does not start.
        """
        try:
            self._take_folder()
            self._stages = self._plan()
            for stage in self._stages:
                for process in stage:
                    process.start()
                for process in stage:
                    process.wait_until_ready(_START_TIMEOUT_S)
            service = {"url": self.url, "apiKey": self.api_key, "environment": self.environment}
            write_private(self._data_dir / SERVICE_FILE, json.dumps(service, indent=2))
            self._watcher = Watcher(self.processes, self.on_restart)
        except BaseException:
            self._end()
            raise
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
        if self._watcher is not None:
            self._watcher.suspend()

    def _take_folder(self) -> None:
        self.log_dir.mkdir(parents=True, exist_ok=True)
        self._lock = (self._data_dir / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StackError(
                f"another stack runs on {self._data_dir}; stop it, or choose another folder with --data-dir"
            ) from error

    def _plan(self) -> list[list[Process]]:
        """The servers in stages, each of which needs those before it."""
        secrets = load_secrets(self._data_dir / "secrets.json")
        redis_port, s3_port = free_port(), free_port()
        self.api_key = secrets.admin_key
        self.environment = self._make_environment(secrets, redis_port, s3_port)
        settings = Settings.from_env({**os.environ, **self.environment})
        load_catalog(settings.catalog_file)  # what is wrong with it is told before anything starts
        redis = redis_process(redis_port, self._data_dir / "redis", self.log_dir / "redis.log")
        s3 = s3_process(
            s3_port,
            self._data_dir / "s3",
            (BUCKET, IMPORT_BUCKET, EXPORT_BUCKET),
            access_key=secrets.s3_access_key,
            secret_key=secrets.s3_secret_key,
            log_file=self.log_dir / "s3.log",
        )
        worker_grace_s = settings.shutdown_grace + _WORKER_EXTRA_GRACE_S
        workers = [self._worker(number, worker_grace_s) for number in range(1, self._workers + 1)]
        return [[redis, s3], workers, [self._api()]]

    def _make_environment(self, secrets: Secrets, redis_port: int, s3_port: int) -> dict[str, str]:
        return {
            "MASKLINE_REDIS_URL": f"redis://{HOST}:{redis_port}/0",
            "MASKLINE_S3_ENDPOINT": f"http://{HOST}:{s3_port}",
            "MASKLINE_S3_BUCKET": BUCKET,
            "MASKLINE_S3_ACCESS_KEY": secrets.s3_access_key,
            "MASKLINE_S3_SECRET_KEY": secrets.s3_secret_key,
            "MASKLINE_IMPORT_BUCKETS": IMPORT_BUCKET,
            "MASKLINE_EXPORT_BUCKETS": EXPORT_BUCKET,
            "MASKLINE_ADMIN_KEY": secrets.admin_key,
            "MASKLINE_URL_SECRET": secrets.url_secret,
            "MASKLINE_WEBHOOK_SECRET": secrets.webhook_secret,
            "MASKLINE_PUBLIC_URL": self.url,
            **self._extra_environment,
        }

    def _worker(self, number: int, grace_s: float) -> Process:
        return Process(
            name=f"worker-{number}",
            command=[sys.executable, "-m", "worker"],
            environment={**self.environment, **self._device_of(number)},
            is_ready=lambda: True,  # the API says when the workers are there
            log_file=self.log_dir / f"worker-{number}.log",
            grace_s=grace_s,
        )

    def _device_of(self, number: int) -> dict[str, str]:
        if not self._devices:
            return {}
        return {"MASKLINE_DEVICE": self._devices[(number - 1) % len(self._devices)]}

    def _api(self) -> Process:
        bind = f"{HOST}:{self._port}"
        return Process(
            name="api",
            command=[_script("gunicorn"), "-c", "python:api.gunicorn_config", "--bind", bind, "api.wsgi:app"],
            environment=self.environment,
            is_ready=self._is_ready,
            log_file=self.log_dir / "api.log",
            grace_s=_API_GRACE_S,
        )

    def _is_ready(self) -> bool:
        for process in self.processes:
            process.check_alive()
        try:
            answer = httpx.get(f"{self.url}/readyz", timeout=_TIMEOUT_S, trust_env=False)
        except httpx.HTTPError:
            return False
        return answer.is_success and answer.json().get("workers", 0) >= self._workers

    def _end(self) -> None:
        self.suspend_watch()
        for stage in reversed(self._stages):
            for process in stage:
                process.ask_to_stop()
            for process in stage:
                process.stop()
        if self._watcher is not None:
            self._watcher.close()
        if self._lock is not None:
            self._lock.close()


def _script(name: str) -> str:
    found = shutil.which(name, path=sysconfig.get_path("scripts")) or shutil.which(name)
    if found is None:
        raise StackError(f"{name} is not installed; get it with: pip install 'maskline[local]'")
    return found
