"""A data set, from its images to its labels."""

import threading
import zipfile
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile

from maskline.batch_resources import BatchResource
from maskline.batch_results import BatchSummary
from maskline.client import Client
from maskline.datasets.source import Effect, Problem, PromptSource
from maskline.labelling.downloading import Downloader
from maskline.labelling.folder import SUMMARY, LabellingDocument, OutputFolder, replace_file
from maskline.labelling.sources import is_remote, read_source
from maskline.labelling.uploading import Uploader

MASKS = "masks"  #: the format of which each item's masks are files of their own
_LOOK_S = 0.5


@dataclass(kw_only=True)
class Report:
    """What came of a data set."""

    batch: BatchResource
    summary: BatchSummary
    problems: list[Problem] = field(default_factory=list)
    """What became no item, or no prompt."""

    @property
    def left_out(self) -> int:
        """Items that never reached the service."""
        return sum(problem.effect is Effect.ITEM_LEFT_OUT for problem in self.problems)

    @property
    def has_all_succeeded(self) -> bool:
        """Whether every item has labels."""
        return not self.left_out and not self.summary.failed


class Labelling:
    """A data set that is labelled; what is begun can be gone on with."""

    def __init__(self, client: Client, document: LabellingDocument, folder: OutputFolder) -> None:
        """``document``: what is asked for; ``folder``: where the results go, which was begun with it."""
        self._client = client
        self._document = document
        self._folder = folder
        self._problems: list[Problem] = []
        self._is_stopping = threading.Event()

    def run(self, on_update: Callable[[BatchResource], None]) -> Report:
        """Upload, wait and download, side by side; ``on_update`` is called with each look at the batch.

        Raises:
            BatchDidNotSucceed: the batch failed or was cancelled.
            MasklineError: the service refuses, or can't be reached; it can be gone on.
            NotADataset: the source can't be read as a whole.
            OSError: a file can't be read or written.
        """
        batches = self._client.batches
        batch = batches.create(self._document.batch, idempotency_key=self._document.idempotency_key)
        with ThreadPoolExecutor(2, "labelling") as threads:
            both = [threads.submit(self._upload, batch.id), threads.submit(self._download, batch.id)]
            try:
                self._watch(batch.id, both, on_update)
            finally:
                self._is_stopping.set()
        for one in both:
            one.result()
        batch = batches.wait(batch.id)
        summary = batches.summary(batch.id)
        replace_file(self._folder.path / SUMMARY, summary.to_json().encode())
        for name in self._document.formats:
            if name != MASKS:
                self._export(batch.id, name)
        return Report(batch=batch, summary=summary, problems=self._problems)

    def _watch(
        self, batch_id: str, both: list[Future[None]], on_update: Callable[[BatchResource], None]
    ) -> None:
        """Look at the batch until both have ended, or one has failed."""
        while True:
            on_update(self._client.batches.get(batch_id))
            done, going = wait(both, timeout=_LOOK_S)
            if not going or any(one.exception() for one in done):
                return

    def _upload(self, batch_id: str) -> None:
        document = self._document
        if is_remote(document.source):
            return
        images = Path(document.images) if document.images else None
        sourced = read_source(document.source, prompts=PromptSource(document.prompts), images=images)
        uploader = Uploader(self._client.batches, batch_id, self._folder, self._problems.append)
        uploader.upload(sourced, self._is_stopping.is_set)

    def _download(self, batch_id: str) -> None:
        with_masks = MASKS in self._document.formats
        Downloader(self._client.batches, batch_id, self._folder, with_masks=with_masks).download(
            self._is_stopping.is_set
        )

    def _export(self, batch_id: str, name: str) -> None:
        with TemporaryFile() as file:
            self._client.batches.export(batch_id, name, file, polygons=self._document.polygons)
            file.seek(0)
            with zipfile.ZipFile(file) as archive:
                archive.extractall(self._folder.path / name)
