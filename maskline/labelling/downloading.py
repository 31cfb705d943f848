"""Downloading the results of a batch as they come."""

import json
import threading
from collections.abc import Iterator

from maskline.batch_resources import ShardResource
from maskline.batch_results import ItemResult
from maskline.client.batches import Batches
from maskline.client.errors import ApiError, ConnectionFailed
from maskline.labelling.folder import ERRORS, RESULTS, REVIEW, OutputFolder
from maskline.labelling.mask_files import MaskFiles
from maskline.results import Prediction

_LOOK_S = 0.5
_TRIES = 5  # in a row


class Downloader:
    """Downloads what a folder does not have yet."""

    def __init__(self, batches: Batches, batch_id: str, folder: OutputFolder, *, with_masks: bool) -> None:
        """``with_masks``: whether the masks are written too, each as a file."""
        self._batches = batches
        self._batch_id = batch_id
        self._folder = folder
        self._masks = _mask_files(folder) if with_masks else None

    def download(self, stopping: threading.Event) -> bool:
        """Download results until all are there; False: it is ``stopping`` before.

        Raises:
            MasklineError: the service refuses, or can't be reached.
            OSError: a file can't be written.
        """
        failures = 0
        while not stopping.is_set():
            page = self._batches.shards(self._batch_id, self._folder.downloaded)
            if page.is_last and not page.shards:
                return True
            try:
                for shard in page.shards:
                    if stopping.is_set():
                        return False
                    self._take(shard)
                    failures = 0
            except (ConnectionFailed, ApiError):  # with the next page come fresh addresses: they expire
                failures += 1
                if failures == _TRIES:
                    raise
                stopping.wait(2**failures)
            if not page.shards:
                stopping.wait(_LOOK_S)
        return False

    def _take(self, shard: ShardResource) -> None:
        addresses = {RESULTS: shard.predictions, ERRORS: shard.errors, REVIEW: shard.review}
        lines = {
            name: list(self._lines(url)) for name, url in addresses.items()
        }  # all, before any has effects
        lines[RESULTS] = list(map(self._result, lines[RESULTS]))
        self._folder.add_chunk(shard.number, lines)

    def _lines(self, url: str | None) -> Iterator[str]:
        """The lines of a shard's file. Only a line feed ends one: labels may hold whatever else could."""
        if url is not None:
            for line in self._batches.file(url).split(b"\n"):
                if line:
                    yield line.decode()

    def _result(self, line: str) -> str:
        """The line without its masks, which become files."""
        result = ItemResult.model_validate_json(line, extra="ignore")
        told = result.model_copy(update={"prediction": Prediction()})
        if self._masks is None:
            return told.to_json()
        file = self._masks.write(result.id, result.prediction)
        return json.dumps({**told.model_dump(mode="json", by_alias=True, exclude_none=True), "file": file})


def _mask_files(folder: OutputFolder) -> MaskFiles:
    """What writes the masks, with the names that were given before."""
    files = MaskFiles(folder.path)
    for item_id in folder.result_ids():
        files.name(item_id)
    return files
