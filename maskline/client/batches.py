"""Batches by the client that blocks: ``client.batches``."""

from collections.abc import Callable, Iterator
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
Send = Callable[[Call], httpx.Response]


class Batches:
    """The batches of a client. Every method raises as those of ``Client`` do."""

    def __init__(
        self,
        http: httpx.Client,
        send: Send,
        *,
        timeout: float,
        transport: httpx.BaseTransport | None,
        sleep: Callable[[float], None],
    ) -> None:
        """``send``: repeats what can be repeated; ``transport``: to the files."""
        self._http = http
        self._send = send
        self._timeout = timeout
        self._sleep = sleep
        # Addresses of files carry their own right, and may be of another server, which must not see the key.
        self._files = httpx.Client(timeout=timeout, transport=transport)

    def close(self) -> None:
        """Close the connections to the files."""
        self._files.close()

    def create(self, batch: NewBatch, *, idempotency_key: str | None = None) -> BatchResource:
        """The batch, accepted. One without items and source gets its items by ``put_part``."""
        return parse(self._send(calls.create_batch(batch, idempotency_key)), BatchResource)

    def get(self, batch_id: str) -> BatchResource:
        """The batch as it is."""
        return parse(self._send(calls.get_batch(batch_id)), BatchResource)

    def list(self) -> Iterator[BatchResource]:
        """All batches, newest first."""
        token: str | None = ""
        while token is not None:
            page = parse(self._send(calls.list_batches(token)), BatchPage)
            yield from page.batches
            token = page.next_page_token

    def put_pack(self, batch_id: str, number: int, content: bytes) -> None:
        """Upload images, one after the other, as the pack of this number, from 1."""
        self._send(calls.put_pack(batch_id, number, content))

    def put_part(self, batch_id: str, number: int, content: bytes) -> BatchResource:
        """Upload items as JSON, one a line, as the part of this number: from 1, without gaps."""
        return parse(self._send(calls.put_part(batch_id, number, content)), BatchResource)

    def complete(self, batch_id: str) -> BatchResource:
        """Say that there are no more parts."""
        return self._steer(batch_id, "complete")

    def pause(self, batch_id: str) -> BatchResource:
        """Begin no more items until the batch is resumed."""
        return self._steer(batch_id, "pause")

    def resume(self, batch_id: str) -> BatchResource:
        """Go on with a batch that was paused."""
        return self._steer(batch_id, "resume")

    def cancel(self, batch_id: str) -> BatchResource:
        """Cancel a batch; the results that there are stay."""
        return self._steer(batch_id, "cancel")

    def retry(self, batch_id: str) -> BatchResource:
        """Try the items anew that failed."""
        return self._steer(batch_id, "retry")

    def delete(self, batch_id: str) -> None:
        """Remove a batch that has ended, and its results."""
        self._send(calls.delete_batch(batch_id))

    def wait(
        self, batch_id: str, *, on_update: Callable[[BatchResource], None] | None = None
    ) -> BatchResource:
        """The batch when it has succeeded, whether all of its items have or not.

        Raises:
            BatchDidNotSucceed: it failed or was cancelled.
        """
        while True:
            batch = self.get(batch_id)
            if on_update is not None:
                on_update(batch)
            if batch.state.is_final:
                break
            self._sleep(POLL_PAUSE_S)
        if batch.state is not BatchStatus.SUCCEEDED:
            raise BatchDidNotSucceed(batch)
        return batch

    def shards(self, batch_id: str, after: int = 0) -> ShardPage:
        """The chunks that have ended, from the one after ``after`` to the first that has not."""
        return parse(self._send(calls.list_shards(batch_id, after)), ShardPage)

    def summary(self, batch_id: str) -> BatchSummary:
        """What came of a batch that has ended."""
        return parse(self._send(calls.get_summary(batch_id)), BatchSummary)

    def results(self, batch_id: str) -> Iterator[ItemResult]:
        """The results that there are, in the order of the items, read as they are asked for."""
        return self._lines(batch_id, "results", ItemResult)

    def errors(self, batch_id: str) -> Iterator[ItemError]:
        """The items that failed."""
        return self._lines(batch_id, "errors", ItemError)

    def review(self, batch_id: str) -> Iterator[ItemReview]:
        """The items that somebody should look at."""
        return self._lines(batch_id, "review", ItemReview)

    def problems(self, batch_id: str) -> Iterator[PromptProblem]:
        """The prompts that its COCO or YOLO source did not give."""
        return self._lines(batch_id, "problems", PromptProblem)

    def export_formats(self) -> tuple[str, ...]:
        """Names of the formats in which a batch can be exported."""
        return parse(self._send(calls.list_export_formats()), ExportFormats).export_formats

    def export(self, batch_id: str, export_format: str, file: IO[bytes], *, polygons: bool = False) -> None:
        """Write an export of a batch that has ended into ``file``; waits until it is made."""
        call = calls.get_export(batch_id, export_format, polygons=polygons)
        while self._download(call, file) == httpx.codes.ACCEPTED:
            self._sleep(POLL_PAUSE_S)

    def file(self, url: str) -> bytes:
        """What is at the address of a shard's file."""
        try:
            response = self._files.get(url)
        except httpx.RequestError as error:
            raise ConnectionFailed(f"{url.partition('?')[0]} can't be reached: {error}") from error
        check(response)
        return response.content

    def _steer(self, batch_id: str, verb: str) -> BatchResource:
        return parse(self._send(calls.steer_batch(batch_id, verb)), BatchResource)

    def _download(self, call: Call, file: IO[bytes]) -> int:
        """The status of an answer, whose body is written; an answer that breaks off is asked for again."""
        start = file.tell()
        attempt = 0
        while True:
            refusal = failure = None
            try:
                with self._http.stream(
                    call.method, call.path, params=call.params, timeout=self._timeout + call.wait_s
                ) as response:
                    if response.status_code == httpx.codes.OK:
                        for chunk in response.iter_bytes(CHUNK_BYTES):
                            file.write(chunk)
                    if response.is_success:
                        return response.status_code
                    response.read()
                    refusal = response
            except httpx.RequestError as error:
                failure = ConnectionFailed(f"{self._http.base_url} can't be reached: {error}")
                file.seek(start)
                file.truncate()
            self._sleep(retry_delay(call, attempt, refusal, failure))
            attempt += 1

    def _lines(self, batch_id: str, name: str, model: type[_Line]) -> Iterator[_Line]:
        call = calls.get_lines(batch_id, name)
        timeout = self._timeout + call.wait_s
        try:
            with self._http.stream(call.method, call.path, timeout=timeout) as response:
                if not response.is_success:
                    response.read()
                    check(response)
                lines = LineParser()
                for chunk in response.iter_bytes(CHUNK_BYTES):
                    for line in lines.feed(chunk):
                        yield model.model_validate_json(line, extra="ignore")
        except httpx.RequestError as error:
            raise ConnectionFailed(f"{self._http.base_url} can't be reached: {error}") from error
