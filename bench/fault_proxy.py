"""A proxy before an HTTP server that makes a share of the calls go wrong, in the ways that networks do."""

import asyncio
import random
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from maskline.local.ports import HOST, free_port

_CHUNK_BYTES = 1 << 16
_SLOW_S = 2.0
_REFUSAL = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class FaultProxy:
    """Listens on loopback while it is entered, in a thread of its own.

    A fault is one of: a 503 without the server's knowing; a connection that is cut before the call, within
    its body, or within the answer; and an answer that comes late.
    """

    def __init__(self, upstream: Callable[[], int], share: float, seed: int) -> None:
        """``upstream``: says the server's port, when it is there; ``share``: of the calls that go wrong."""
        self.port = free_port()
        self.share = share
        self.is_down = False
        """Whether every call is answered with 503."""
        self.faults = 0
        self.calls = 0
        self._upstream = upstream
        self._random = random.Random(seed)
        self._listens = threading.Event()
        self._thread = threading.Thread(target=asyncio.run, args=(self._listen(),), name="fault-proxy")

    def __enter__(self) -> Self:
        self._thread.start()
        self._listens.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{HOST}:{self.port}"

    async def _listen(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._serve, HOST, self.port, limit=1 << 20)
        self._listens.set()
        await self._stop.wait()
        server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server: asyncio.StreamWriter | None = None
        try:
            answers, server = await asyncio.open_connection(HOST, self._upstream(), limit=1 << 20)
            while await self._pass_one(reader, writer, answers, server):
                pass
        except (OSError, asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            for one in (writer, server):
                if one is not None:
                    one.close()

    async def _pass_one(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        answers: asyncio.StreamReader,
        server: asyncio.StreamWriter,
    ) -> bool:
        """Pass one call and its answer on; False: the connection is to be closed."""
        head = await reader.readuntil(b"\r\n\r\n")
        self.calls += 1
        fault = self._random.randrange(5) if self._random.random() < self.share else None
        self.faults += fault is not None
        if fault == 0 or self.is_down:
            writer.write(_REFUSAL)
            await writer.drain()
            return False
        if fault == 1:
            return False
        server.write(head)
        if not await _pass_body(head, reader, server, whole=fault != 2):
            return False
        if fault == 3:
            await asyncio.sleep(_SLOW_S)
        head_of_answer = await answers.readuntil(b"\r\n\r\n")
        writer.write(head_of_answer)
        has_body = not head.startswith(b"HEAD ") and b" 204 " not in head_of_answer[:16]
        if not has_body:
            await writer.drain()
            return True
        return await _pass_body(head_of_answer, answers, writer, whole=fault != 4)


async def _pass_body(
    head: bytes, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, whole: bool
) -> bool:
    """Pass on the body that a head announces, or half of it; whether that was all."""
    headers = dict(line.lower().split(b":", 1) for line in head.split(b"\r\n")[1:] if b":" in line)
    if b"chunked" in headers.get(b"transfer-encoding", b""):
        while True:
            size_line = await source.readuntil(b"\r\n")
            chunk = await source.readexactly(int(size_line, 16) + 2)
            if not whole:
                return False
            sink.write(size_line + chunk)
            await sink.drain()
            if int(size_line, 16) == 0:
                return True
    left = int(headers.get(b"content-length", b"0"))
    left = left if whole else left // 2
    while left > 0:
        piece = await source.read(min(left, _CHUNK_BYTES))
        if not piece:
            return False
        sink.write(piece)
        await sink.drain()
        left -= len(piece)
    await sink.drain()
    return whole
