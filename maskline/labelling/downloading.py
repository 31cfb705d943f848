"""Downloading the results of a batch as they come."""

import time
from collections.abc import Callable, Iterator

from maskline.batch_results import ItemResult
from maskline.client.batches import Batches
from maskline.client.errors import ApiError, ConnectionFailed
from maskline.labelling.folder import ERRORS, RESULTS, REVIEW, OutputFolder
from maskline.labelling.mask_files import MaskFiles
from maskline.results import Prediction

_LOOK_S = 0.5
_TRIES = 5


class Downloader:
    """Downloads what a folder does not have yet."""

    def __init__(self, batches: Batches, batch_id: str, folder: OutputFolder, *, with_masks: bool) -> None:
        """``with_masks``: whether the masks are written too, each as a file."""
        self._batches = batches
        self._batch_id = batch_id
        self._folder = folder
        self._masks = _mask_files(folder) if with_masks else None

    def download(self, should_stop: Callable[[], bool]) -> bool:
        """Download results until all are there; False: ``should_stop`` said so before.

        Raises:
            MasklineError: the service refuses, or can't be reached.
            OSError: a file can't be written.
        """
        while not should_stop():
            page = self._batches.shards(self._batch_id, self._folder.downloaded)
            for shard in page.shards:
                if should_stop():
                    return False
                results = [self._result(line) for line in self._lines(shard.predictions)]
                self._folder.add_chunk(
                    shard.number,
                    {
                        RESULTS: results,
                        ERRORS: list(self._lines(shard.errors)),
                        REVIEW: list(self._lines(shard.review)),
                    },
                )
            if page.is_last and not page.shards:
                return True
            if not page.shards:
                time.sleep(_LOOK_S)
        return False

    def _lines(self, url: str | None) -> Iterator[str]:
        if url is not None:
            yield from self._file(url).decode().splitlines()

    def _file(self, url: str) -> bytes:
        for attempt in range(_TRIES):
            try:
                return self._batches.file(url)
            except (ConnectionFailed, ApiError):
                if attempt == _TRIES - 1:
                    raise
                time.sleep(2**attempt)
        raise AssertionError

    def _result(self, line: str) -> str:
        """The line without its masks, which become files."""
        result = ItemResult.model_validate_json(line, extra="ignore")
        if self._masks is not None:
            self._masks.write(self._masks.claim(result.id), result.prediction)
        return result.model_copy(update={"prediction": Prediction()}).to_json()


def _mask_files(folder: OutputFolder) -> MaskFiles:
    """What writes the masks, with the names that were given before."""
    files = MaskFiles(folder.path)
    for item_id in folder.result_ids():
        files.claim(item_id)
    return files
