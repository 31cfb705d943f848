"""The doctor on a service that is well, and on parts that are broken for real."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import redis

from maskline.doctor import Finding, Health, bucket, examine, job_store, workers
from maskline.local import Stack
from maskline.local.ports import HOST, free_port
from maskline.local.process import Process
from maskline.local.redis_server import redis_process
from maskline.settings import Settings

SOUND = {"MASKLINE_OUTGOING_ALLOW": "127.0.0.1"}


def faults(findings: Iterator[Finding]) -> dict[str, Health]:
    """What is not well; each with its remedy."""
    told = [finding for finding in findings if finding.health is not Health.OK]
    assert all(finding.detail and finding.remedy for finding in told)
    return {finding.check: finding.health for finding in told}


def test_the_embedded_stack_is_well(tmp_path: Path) -> None:
    data_dir = tmp_path / "maskline-data"
    with Stack(data_dir) as stack:
        findings = list(examine(stack.environment, data_dir))
        assert {finding.health for finding in findings} == {Health.OK}, findings
        done = doctor(tmp_path, "--json")  # finds the stack of its folder
        assert done.returncode == 0, done.stderr
        assert [one["check"] for one in json.loads(done.stdout)] == [finding.check for finding in findings]
        stack.suspend_watch()
        stack.process("redis").stop()
        broken = doctor(tmp_path)
        assert broken.returncode == 1
        assert "redis: it does not answer" in broken.stdout
        assert "to mend it: start it" in broken.stdout


def doctor(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command, run in a folder."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("MASKLINE_")}
    command = [sys.executable, "-m", "maskline", "doctor", *arguments]
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)


def test_wrong_settings_are_told() -> None:
    assert faults(examine({"MASKLINE_LEESE": "3"})) == {"settings": Health.FAILED}


@contextmanager
def own_redis(folder: Path, **options: str) -> Iterator[tuple[Settings, redis.Redis]]:
    """A Redis like the stack's, with other options."""
    port = free_port()
    server: Process = redis_process(port, folder, folder / "log")
    changed = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", value)]
    server.command = [*server.command, *changed]
    server.start()
    try:
        server.wait_until_ready(10)
        with redis.Redis(port=port) as client:
            with suppress(redis.RedisError):  # a replica, a cluster and a full one take nothing
                client.set("maskline:epoch", 1)  # as a worker does
            yield Settings.from_env({"MASKLINE_REDIS_URL": f"redis://{HOST}:{port}/0"}), client
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, {}),
        ({"appendonly": "no"}, {"redis append-only file": Health.FAILED}),
        ({"maxmemory_policy": "allkeys-lru"}, {"redis eviction": Health.FAILED}),
        (
            {"maxmemory": "1mb"},
            {"redis eviction": Health.WARNING, "redis records": Health.FAILED},
        ),
        ({"cluster_enabled": "yes"}, {"redis role": Health.FAILED}),
        ({"replicaof": "127.0.0.1 1"}, {"redis role": Health.FAILED}),
    ],
    ids=["sound", "not append-only", "evicts", "full", "cluster", "replica"],
)
def test_a_redis_that_is_set_up_wrongly_is_told(
    tmp_path: Path, options: Mapping[str, str], told: Mapping[str, Health]
) -> None:
    with own_redis(tmp_path, **options) as (settings, _):
        assert faults(job_store.look(settings)) == told


def test_a_shared_redis_is_told(tmp_path: Path) -> None:
    with own_redis(tmp_path) as (settings, client):
        client.set("maskline:leader:sweep", "w")
        client.set("celery", "somebody's queue")
        assert faults(job_store.look(settings)) == {"redis database": Health.WARNING}


def test_a_redis_that_lost_its_memory_is_told(tmp_path: Path) -> None:
    with own_redis(tmp_path) as (settings, client):
        client.flushall()
        assert faults(job_store.look(settings)) == {"redis records": Health.FAILED}
        client.set("maskline:leader:rebuild", "w", ex=60)
        assert faults(job_store.look(settings)) == {"redis records": Health.WARNING}


def test_a_redis_without_workers_is_told(tmp_path: Path) -> None:
    with own_redis(tmp_path) as (settings, _):
        assert faults(workers.look(settings)) == {"workers": Health.FAILED}


def test_an_absent_redis_is_told_once(tmp_path: Path) -> None:
    settings = Settings.from_env({"MASKLINE_REDIS_URL": f"redis://{HOST}:{free_port()}/0"})
    assert faults(job_store.look(settings)) == {"redis": Health.FAILED}
    assert list(workers.look(settings)) == []


def of_stack(stack: Stack, **changes: str) -> Settings:
    changed = {f"MASKLINE_{name.upper()}": value for name, value in changes.items()}
    return Settings.from_env(stack.environment | changed)


def test_what_is_wrong_with_a_bucket_is_told(stack: Stack) -> None:
    assert faults(bucket.look(of_stack(stack))) == {}
    endpoint = stack.environment["MASKLINE_S3_ENDPOINT"]
    assert faults(bucket.look(of_stack(stack, s3_public_endpoint=endpoint))) == {}
    nowhere = f"http://{HOST}:{free_port()}"
    wrong_door = bucket.look(of_stack(stack, s3_public_endpoint=nowhere))
    assert faults(wrong_door) == {"artifact URLs": Health.FAILED}
    assert faults(bucket.look(of_stack(stack, s3_access_key="stranger"))) == {"bucket": Health.FAILED}
    assert faults(bucket.look(of_stack(stack, s3_bucket="no-such-bucket"))) == {"bucket": Health.FAILED}
    gone = faults(bucket.look(of_stack(stack, s3_endpoint=nowhere)))
    assert gone == {"bucket clock": Health.FAILED, "bucket": Health.FAILED}


class Skewed(BaseHTTPRequestHandler):
    """A store whose clock is wrong."""

    ahead_s = 0.0

    def do_HEAD(self) -> None:
        self.send_response_only(403)
        self.send_header("Date", formatdate(time.time() + self.ahead_s, usegmt=True))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize(
    ("ahead_s", "health"), [(-1000, Health.FAILED), (100, Health.WARNING), (3, Health.OK)]
)
def test_a_clock_that_is_wrong_is_told(stack: Stack, ahead_s: float, health: Health) -> None:
    Skewed.ahead_s = ahead_s
    server = ThreadingHTTPServer((HOST, 0), Skewed)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        settings = of_stack(stack, s3_endpoint=f"http://{HOST}:{server.server_port}")
        clock = next(bucket.look(settings))
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert (clock.check, clock.health) == ("bucket clock", health)
