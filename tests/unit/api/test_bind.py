"""Without keys the API is for its own machine alone."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from api.gunicorn_config import is_of_this_machine
from maskline.local.ports import free_port

COMMAND = [sys.executable, "-m", "gunicorn", "-c", "python:api.gunicorn_config"]
APPLICATION = "tests.unit.api.test_bind:nothing"


def nothing(environ: object, start_response: object) -> Iterator[bytes]:
    """An application that is never called."""
    raise AssertionError


@pytest.mark.parametrize(
    ("family", "address", "alone"),
    [
        (socket.AF_INET, ("127.0.0.1", 80), True),
        (socket.AF_INET, ("127.8.0.1", 80), True),
        (socket.AF_INET, ("0.0.0.0", 80), False),
        (socket.AF_INET, ("192.168.1.1", 80), False),
        (socket.AF_INET6, ("::1", 80, 0, 0), True),
        (socket.AF_INET6, ("::", 80, 0, 0), False),
        (socket.AF_INET6, ("fe80::1%eth0", 80, 0, 2), False),
        (socket.AF_INET6, ("::ffff:127.0.0.1", 80, 0, 0), True),
        (socket.AF_INET6, ("::ffff:0.0.0.0", 80, 0, 0), False),
        (socket.AF_UNIX, "/run/maskline.sock", True),
    ],
)
def test_who_can_reach_a_socket(family: int, address: object, alone: bool) -> None:
    assert is_of_this_machine(family, address) is alone


@pytest.mark.parametrize("way", ["environment", "command line"])
def test_gunicorn_refuses_to_open_a_service_without_keys(way: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MASKLINE_")}
    address = f"0.0.0.0:{free_port()}"
    command = [*COMMAND, APPLICATION]
    if way == "environment":
        environment["MASKLINE_API_BIND"] = address
    else:
        command += ["--bind", address]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert f"MASKLINE_ADMIN_KEY is unset, so everybody who reaches http://{address}" in ended.stderr
    assert "MASKLINE_API_BIND=127.0.0.1:8080" in ended.stderr
    assert "Booting worker" not in ended.stderr
