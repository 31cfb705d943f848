"""A load generator that costs little itself: prepared requests over kept connections, one thread each."""

import os
import socket
import threading
import time
from collections.abc import Callable
from urllib.parse import urlsplit

_MARK = b"@@@@@@@@@@@@@@@@"


def request_bytes(method: str, path: str, headers: dict[str, str], body: bytes = b"") -> bytes:
    """A whole HTTP request. A body that ends with sixteen @ differs each time it is sent."""
    lines = [f"{method} {path} HTTP/1.1", "Host: bench", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def unique_body(body: bytes) -> bytes:
    """The body, so marked that each sending of it differs."""
    return body + _MARK


def rate(url: str, request: bytes, *, connections: int, seconds: float) -> float:
    """Requests a second that are answered with a 2xx.

    Raises:
        RuntimeError: an answer was another.
    """
    end = time.perf_counter() + seconds
    counts = [0] * connections
    failures: list[bytes] = []

    def run(index: int) -> None:
        with connect(url) as connection:
            while time.perf_counter() < end and not failures:
                status = exchange(connection, _fresh(request))
                if not status.startswith(b"2"):
                    failures.append(status)
                counts[index] += 1

    began = time.perf_counter()
    _in_threads(run, connections)
    if failures:
        raise RuntimeError(f"{url} answered {failures[0]!r}")
    return sum(counts) / (time.perf_counter() - began)


def exchange(connection: socket.socket, request: bytes) -> bytes:
    """Send a request and read its answer; the status as digits."""
    connection.sendall(request)
    received = b""
    while b"\r\n\r\n" not in received:
        chunk = connection.recv(65536)
        if not chunk:
            return b"closed"
        received += chunk
    head, _, body = received.partition(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1])
        for line in head.split(b"\r\n")
        if line.lower().startswith(b"content-length:")
    )
    while len(body) < length:
        body += connection.recv(65536)
    return head.split(b" ", 2)[1]


def _fresh(request: bytes) -> bytes:
    return request.replace(_MARK, os.urandom(8).hex().encode()) if request.endswith(_MARK) else request


def connect(url: str) -> socket.socket:
    """A connection to the server of a URL."""
    parts = urlsplit(url)
    connection = socket.create_connection((parts.hostname or "", parts.port or 80), 60)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _in_threads(work: Callable[[int], None], count: int) -> None:
    threads = [threading.Thread(target=work, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
