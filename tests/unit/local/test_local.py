"""The embedded stack's parts: secrets, ports, and who starts again what ended."""

import socket
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from maskline.local import StackError
from maskline.local.ports import HOST, free_port, is_free, next_free_port
from maskline.local.process import Process
from maskline.local.secrets import load_secrets
from maskline.local.watcher import Watcher

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def process(folder: Path, command: list[str], *, is_ready: bool = True) -> Process:
    return Process(name="p", command=command, is_ready=lambda: is_ready, log_file=folder / "p.log", grace_s=2)


def test_secrets_are_made_once_and_kept_private(tmp_path: Path) -> None:
    file = tmp_path / "secrets.json"
    made = load_secrets(file)
    assert load_secrets(file) == made
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert load_secrets(tmp_path / "others.json") != made
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".partial"] == []


def test_a_taken_port_is_passed_over() -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert not is_free(port)
        assert next_free_port(port) != port
    assert is_free(free_port())


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    failing = process(tmp_path, [sys.executable, "-c", "raise SystemExit('no disk')"], is_ready=False)
    failing.start()
    with pytest.raises(StackError, match="no disk"):
        failing.wait_until_ready(20)
    slow = process(tmp_path, SLEEP, is_ready=False)
    slow.start()
    with pytest.raises(StackError, match="p "):
        slow.wait_until_ready(0.2)
    slow.stop()
    assert not slow.is_alive


def test_a_server_that_will_not_end_is_killed_with_its_children(tmp_path: Path) -> None:
    stubborn = (
        "import signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        f"child = subprocess.Popen({SLEEP!r}); print(child.pid, flush=True); time.sleep(60)"
    )
    server = process(tmp_path, [sys.executable, "-c", stubborn])
    server.start()
    wait_until(lambda: server.log_file.read_text().strip().isdigit())
    child = Path("/proc") / server.log_file.read_text().strip()
    assert child.exists()
    server.stop()
    wait_until(lambda: not child.exists() or "\nState:\tZ" in (child / "status").read_text())


def test_what_ends_is_started_again_until_that_is_suspended(tmp_path: Path) -> None:
    server = process(tmp_path, SLEEP)
    server.start()
    ended: list[str] = []
    watcher = Watcher([server], ended.append)
    first = server.pid
    assert first is not None
    server.stop()
    wait_until(lambda: server.is_alive)
    assert server.pid != first
    assert ended == ["p"]
    watcher.suspend()
    server.stop()
    time.sleep(1.5)
    assert not server.is_alive
    watcher.close()


def test_a_listener_that_fails_does_not_end_the_watch(tmp_path: Path) -> None:
    def closed_terminal(_: str) -> None:
        raise BrokenPipeError

    server = process(tmp_path, SLEEP)
    server.start()
    watcher = Watcher([server], closed_terminal)
    server.stop()
    wait_until(lambda: server.is_alive)
    watcher.close()
    server.stop()
