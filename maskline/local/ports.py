"""Ports on the loopback interface."""

import random
import socket

HOST = "127.0.0.1"
# Below those that the kernel gives to outgoing connections, which could take one before a server starts.
_PORTS = range(20_000, 32_000)


def free_port() -> int:
    """A port that nobody listens on.

    Raises:
        OSError: there is none.
    """
    for port in random.sample(_PORTS, k=len(_PORTS)):
        if is_free(port):
            return port
    raise OSError(f"none of the ports {_PORTS.start} to {_PORTS.stop - 1} is free")


def is_free(port: int) -> bool:
    """Whether a server could listen on the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def next_free_port(first: int) -> int:
    """The first free port from ``first`` on, within a hundred."""
    return next((port for port in range(first, first + 100) if is_free(port)), free_port())
