"""Links to Redis for single commands: the library opens each connection, a link talks over it.

The library's own way from a command to its reply takes half as long again as the exchange itself: its pool
asks the operating system about a connection before each use, and each send and receive is waited for in a
call of its own. A link in steady use is not asked about, and the kernel keeps its time limit.
"""

import socket
import ssl
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from select import select
from typing import Any

import hiredis
from redis import ConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

_CHUNK_BYTES = 1 << 16
_FRESH_S = 1.0  # a link used that lately is taken to live
_MOST_IDLE_S = 30.0  # a link not used that long may have been forgotten on the way

Word = str | int | float
"""A part of a command."""


class RedisLinks:
    """As many links as are used at once, the last used first. Safe to use from many threads."""

    def __init__(self, pool: ConnectionPool, timeout_s: float) -> None:
        """``pool``: says how to connect, in RESP2; ``timeout_s``: for each wait."""
        self._pool = pool
        self._timeout_s = timeout_s
        self._idle: list[_Link] = []

    def command(self, *words: Word) -> Any:  # noqa: ANN401 (as the command says)
        """The reply to one command, as it came.

        Raises:
            redis.RedisError: Redis does not answer.
            hiredis.HiredisError: Redis refuses the command, or speaks another protocol.
        """
        with self._link() as link:
            # Its stub allows a single word.
            reply = link.exchange(hiredis.pack_command(words))  # type: ignore[arg-type]
        if isinstance(reply, hiredis.ReplyError):
            raise reply
        return reply

    def close(self) -> None:
        """Close the links that nothing uses now."""
        with suppress(IndexError):
            while True:
                self._idle.pop().close()

    @contextmanager
    def _link(self) -> Iterator["_Link"]:
        link = self._take()
        try:
            yield link
        except BaseException as error:
            link.close()  # a reply may still come, and must not be another's
            if isinstance(error, BlockingIOError | TimeoutError):
                raise RedisTimeoutError(f"no answer in {self._timeout_s:g} s") from error
            if isinstance(error, OSError | RedisConnectionError):
                self.close()  # Redis was restarted: the others are as dead
            if isinstance(error, OSError):
                raise RedisConnectionError(str(error)) from error
            raise
        self._idle.append(link)

    def _take(self) -> "_Link":
        while True:
            try:
                link = self._idle.pop()
            except IndexError:
                # Not by the pool's own hand: it counts what it makes, and would never hear of a link's end.
                connection = self._pool.connection_class(**self._pool.connection_kwargs)
                return _Link(connection, self._timeout_s)
            if link.lives():
                return link
            link.close()


class _Link:
    def __init__(self, connection: Any, timeout_s: float) -> None:  # noqa: ANN401 (the library has many kinds)
        connection.connect()
        self._connection = connection
        self._socket: socket.socket = connection._sock  # it has no public name
        self._reader = hiredis.Reader(encoding="utf-8")
        self._used_at = time.monotonic()
        if not isinstance(self._socket, ssl.SSLSocket):  # which asks for Python's own limit
            limit = struct.pack("@ll", int(timeout_s), int(timeout_s % 1 * 1e6))
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
            self._socket.settimeout(None)

    def exchange(self, command: bytes) -> Any:  # noqa: ANN401 (as the command says)
        self._socket.sendall(command)
        while (reply := self._reader.gets()) is False:
            received = self._socket.recv(_CHUNK_BYTES)
            if not received:
                raise RedisConnectionError("Redis closed the connection")
            self._reader.feed(received)
        self._used_at = time.monotonic()
        return reply

    def lives(self) -> bool:
        idle_s = time.monotonic() - self._used_at
        if idle_s < _FRESH_S:
            return True
        if idle_s > _MOST_IDLE_S:
            return False
        closed_or_astray, _, _ = select([self._socket], [], [], 0)
        return not closed_or_astray

    def close(self) -> None:
        self._connection.disconnect()
