"""Batches by the client for asyncio: ``client.batches``."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import IO, TypeVar

import httpx

from maskline.batch_resources import (
    BatchPage,
    BatchResource,
    BatchStatus,
    ExportFormats,
    NewBatch,
    ShardPage,
)
from maskline.batch_results import BatchSummary, ItemError, ItemResult, ItemReview, PromptProblem
from maskline.client import batch_calls as calls
from maskline.client.errors import BatchDidNotSucceed, ConnectionFailed
from maskline.client.requests import CHUNK_BYTES, POLL_PAUSE_S, Call, LineParser, check, parse, retry_delay
from maskline.wire import WireModel

_Line = TypeVar("_Line", bound=WireModel)
Send = Callable[[Call], Awaitable[httpx.Response]]


class AsyncBatches:
    """``Batches`` for asyncio: the same methods, to be awaited."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        send: Send,
        *,
        timeout: float,
        transport: httpx.AsyncBaseTransport | None,
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        """``send``: repeats what can be repeated; ``transport``: to the files."""
        self._http = http
        self._send = send
        self._timeout = timeout
        self._sleep = sleep
        # Addresses of files carry their own right, and may be of another server, which must not see the key.
        self._files = httpx.AsyncClient(timeout=timeout, transport=transport)

    async def close(self) -> None:
        """Close the connections to the files."""
        await self._files.aclose()

    async def create(self, batch: NewBatch, *, idempotency_key: str | None = None) -> BatchResource:
        """The batch, accepted. One without items and source gets its items by ``put_part``."""
        return parse(await self._send(calls.create_batch(batch, idempotency_key)), BatchResource)

    async def get(self, batch_id: str) -> BatchResource:
        """The batch as it is."""
        return parse(await self._send(calls.get_batch(batch_id)), BatchResource)

    async def list(self) -> AsyncIterator[BatchResource]:
        """All batches, newest first."""
        token: str | None = ""
        while token is not None:
            page = parse(await self._send(calls.list_batches(token)), BatchPage)
            for batch in page.batches:
                yield batch
            token = page.next_page_token

    async def put_pack(self, batch_id: str, number: int, content: bytes) -> None:
        """Upload images, one after the other, as the pack of this number, from 1."""
        await self._send(calls.put_pack(batch_id, number, content))

    async def put_part(self, batch_id: str, number: int, content: bytes) -> BatchResource:
        """Upload items as JSON, one a line, as the part of this number: from 1, without gaps."""
        return parse(await self._send(calls.put_part(batch_id, number, content)), BatchResource)

    async def complete(self, batch_id: str) -> BatchResource:
        """Say that there are no more parts."""
        return await self._steer(batch_id, "complete")

    async def pause(self, batch_id: str) -> BatchResource:
        """Begin no more items until the batch is resumed."""
        return await self._steer(batch_id, "pause")

    async def resume(self, batch_id: str) -> BatchResource:
        """Go on with a batch that was paused."""
        return await self._steer(batch_id, "resume")

    async def cancel(self, batch_id: str) -> BatchResource:
        """Cancel a batch; the results that there are stay."""
        return await self._steer(batch_id, "cancel")

    async def retry(self, batch_id: str) -> BatchResource:
        """Try the items anew that failed."""
        return await self._steer(batch_id, "retry")

    async def delete(self, batch_id: str) -> None:
        """Remove a batch that has ended, and its results."""
        await self._send(calls.delete_batch(batch_id))

    async def wait(
        self, batch_id: str, *, on_update: Callable[[BatchResource], None] | None = None
    ) -> BatchResource:
        """The batch when it has succeeded, whether all of its items have or not.

        Raises:
            BatchDidNotSucceed: it failed or was cancelled.
        """
        while True:
            batch = await self.get(batch_id)
            if on_update is not None:
                on_update(batch)
            if batch.state.is_final:
                break
            await self._sleep(POLL_PAUSE_S)
        if batch.state is not BatchStatus.SUCCEEDED:
            raise BatchDidNotSucceed(batch)
        return batch

    async def shards(self, batch_id: str, after: int = 0) -> ShardPage:
        """The chunks that have ended, from the one after ``after`` to the first that has not."""
        return parse(await self._send(calls.list_shards(batch_id, after)), ShardPage)

    async def summary(self, batch_id: str) -> BatchSummary:
        """What came of a batch that has ended."""
        return parse(await self._send(calls.get_summary(batch_id)), BatchSummary)

    def results(self, batch_id: str) -> AsyncIterator[ItemResult]:
        """The results that there are, in the order of the items, read as they are asked for."""
        return self._lines(batch_id, "results", ItemResult)

    def errors(self, batch_id: str) -> AsyncIterator[ItemError]:
        """The items that failed."""
        return self._lines(batch_id, "errors", ItemError)

    def review(self, batch_id: str) -> AsyncIterator[ItemReview]:
        """The items that somebody should look at."""
        return self._lines(batch_id, "review", ItemReview)

    def problems(self, batch_id: str) -> AsyncIterator[PromptProblem]:
        """The prompts that its COCO or YOLO source did not give."""
        return self._lines(batch_id, "problems", PromptProblem)

    async def export_formats(self) -> tuple[str, ...]:
        """Names of the formats in which a batch can be exported."""
        return parse(await self._send(calls.list_export_formats()), ExportFormats).export_formats

    async def export(
        self, batch_id: str, export_format: str, file: IO[bytes], *, polygons: bool = False
    ) -> None:
        """Write an export of a batch that has ended into ``file``; waits until it is made."""
        call = calls.get_export(batch_id, export_format, polygons=polygons)
        while await self._download(call, file) == httpx.codes.ACCEPTED:
            await self._sleep(POLL_PAUSE_S)

    async def file(self, url: str) -> bytes:
        """What is at the address of a shard's file."""
        try:
            response = await self._files.get(url)
        except httpx.RequestError as error:
            raise ConnectionFailed(f"{url.partition('?')[0]} can't be reached: {error}") from error
        check(response)
        return response.content

    async def _steer(self, batch_id: str, verb: str) -> BatchResource:
        return parse(await self._send(calls.steer_batch(batch_id, verb)), BatchResource)

    async def _download(self, call: Call, file: IO[bytes]) -> int:
        """The status of an answer, whose body is written; an answer that breaks off is asked for again."""
        start = file.tell()
        attempt = 0
        while True:
            refusal = failure = None
            try:
                async with self._http.stream(
                    call.method, call.path, params=call.params, timeout=self._timeout + call.wait_s
                ) as response:
                    if response.status_code == httpx.codes.OK:
                        async for chunk in response.aiter_bytes(CHUNK_BYTES):
                            file.write(chunk)
                    if response.is_success:
                        return response.status_code
                    await response.aread()
                    refusal = response
            except httpx.RequestError as error:
                failure = ConnectionFailed(f"{self._http.base_url} can't be reached: {error}")
                file.seek(start)
                file.truncate()
            await self._sleep(retry_delay(call, attempt, refusal, failure))
            attempt += 1

    async def _lines(self, batch_id: str, name: str, model: type[_Line]) -> AsyncIterator[_Line]:
        call = calls.get_lines(batch_id, name)
        timeout = self._timeout + call.wait_s
        try:
            async with self._http.stream(call.method, call.path, timeout=timeout) as response:
                if not response.is_success:
                    await response.aread()
                    check(response)
                lines = LineParser()
                async for chunk in response.aiter_bytes(CHUNK_BYTES):
                    for line in lines.feed(chunk):
                        yield model.model_validate_json(line, extra="ignore")
        except httpx.RequestError as error:
            raise ConnectionFailed(f"{self._http.base_url} can't be reached: {error}") from error
