"""How gunicorn serves the API: a few processes, each with threads enough for requests that wait."""

import os
import socket
import sys
from ipaddress import ip_address
from typing import Any

from gunicorn.glogging import Logger

from maskline.log import RedactedFormatter
from maskline.redaction import redactor
from maskline.settings import Settings

_THREADS_FOR_OTHERS = 16  # than those that wait
_settings = Settings.from_env(os.environ)

bind = os.environ.get("MASKLINE_API_BIND", "127.0.0.1:8080")
worker_class = "gthread"
workers = 2
threads = _settings.max_waiters + _THREADS_FOR_OTHERS
# A wait ends within max_wait (60 s by default); gthread's timeout is for a process that hangs as a whole.
timeout = 120
graceful_timeout = 30
keepalive = 75
limit_request_line = 8190  # bytes, the most that gunicorn takes: prompts may come in the query
accesslog = None  # lines of the application tell of requests


class _RedactedLogger(Logger):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn's own lines: those about broken requests have parts of them, in which a key may be."""

    def setup(self, cfg: Any) -> None:  # noqa: ANN401 (gunicorn has no types)
        super().setup(cfg)
        for handler in self.error_log.handlers:
            handler.setFormatter(RedactedFormatter(handler.formatter, redactor(_settings.secrets())))


logger_class = _RedactedLogger
control_socket_disable = True


def when_ready(server: Any) -> None:  # noqa: ANN401 (gunicorn has no types)
    """End at once, before anybody is served, if others could reach a service that asks nobody for a key.

    It is the open sockets that are looked at: what they are bound to can come from the environment, from the
    command line or from systemd.
    """
    if _settings.admin_key is not None:
        return
    sockets = [(str(one), one.sock.family, one.sock.getsockname()) for one in server.LISTENERS]
    reachable = [name for name, family, address in sockets if not is_of_this_machine(family, address)]
    if reachable:
        sys.exit(
            "maskline: MASKLINE_ADMIN_KEY is unset, so everybody who reaches "
            f"{', '.join(reachable)} would be the administrator; set it, or listen on this machine alone: "
            "MASKLINE_API_BIND=127.0.0.1:8080"
        )


def is_of_this_machine(family: int, address: Any) -> bool:  # noqa: ANN401 (as the family has it)
    """Whether no other machine can connect to a socket of this family that is bound to this address."""
    if family == socket.AF_UNIX:
        return True
    host = ip_address(address[0].partition("%")[0])
    return (getattr(host, "ipv4_mapped", None) or host).is_loopback
