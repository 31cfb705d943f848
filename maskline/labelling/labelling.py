"""A data set, from its images to its labels."""

import threading
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from tempfile import TemporaryFile

from maskline.batch_resources import BatchResource, BatchStatus
from maskline.batch_results import BatchSummary
from maskline.client import ApiError, BatchDidNotSucceed, Client, MasklineError
from maskline.datasets.source import Effect, NotADataset, Problem, Sourced
from maskline.labelling.downloading import Downloader
from maskline.labelling.folder import PROBLEMS, SUMMARY, LabellingDocument, OutputFolder, replace_file
from maskline.labelling.problems import (
    UNUSABLE,
    ProblemLine,
    ProblemLog,
    count_effects,
    left_out_items,
    read_problems,
)
from maskline.labelling.sources import is_remote, read_source
from maskline.labelling.uploading import Uploader

MASKS = "masks"  #: the format of which each item's masks are files of their own
_LOOK_S = 0.5
_SHOWN = 10  # problems that a message tells of
_IN_VAIN = frozenset({BatchStatus.FAILED, BatchStatus.CANCELLED})


class UnknownFormat(MasklineError):
    """The service can't export into a format that is asked for."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What came of a data set."""

    batch: BatchResource
    summary: BatchSummary
    """With the items that never reached the service among those that failed."""
    effects: Counter[Effect]
    """How many things in the data set became no item, or no prompt."""
    problems: tuple[ProblemLine, ...]
    """The first of them that matter."""
    failed_exports: dict[str, str]
    """By the name of the format: why there is none."""

    @property
    def left_out(self) -> int:
        """Items that never reached the service."""
        return self.effects[Effect.ITEM_LEFT_OUT]

    @property
    def has_all_succeeded(self) -> bool:
        """Whether every item has labels."""
        return not self.summary.failed


class Labelling:
    """A data set that is labelled; what is begun can be gone on with."""

    def __init__(self, client: Client, document: LabellingDocument, folder: OutputFolder) -> None:
        """``document``: what is asked for; ``folder``: where the results go, which was begun with it."""
        self._client = client
        self._document = document
        self._folder = folder
        self._stopping = threading.Event()

    def require_formats(self) -> None:
        """Return if the service can export into all formats that are asked for, or can't tell.

        Raises:
            UnknownFormat: there is one that it does not know.
            MasklineError: the service refuses, or can't be reached.
        """
        wanted = set(self._document.formats) - {MASKS}
        known = self._client.batches.export_formats() if wanted else ()
        unknown = ", ".join(map(repr, sorted(wanted.difference(known))))
        if known and unknown:  # before a worker has told, none is known
            raise UnknownFormat(f"there is no format {unknown}; there are: {', '.join((MASKS, *known))}")

    def run(self, on_update: Callable[[BatchResource], None], *, is_retry: bool = False) -> Report:
        """Upload, wait and download, side by side; ``on_update`` is called with each look at the batch.

        ``is_retry``: when that is done, try the items anew that failed.

        Raises:
            BatchDidNotSucceed: the batch failed or was cancelled.
            MasklineError: the service refuses, or can't be reached; it can be gone on.
            NotADataset: the source can't be read as a whole, or nothing in it can be labelled.
            OSError: a file can't be read or written.
        """
        batches = self._client.batches
        with ExitStack() as stack:
            known = batches.get(self._folder.batch_id) if self._folder.batch_id else None
            sourced: Iterable[Sourced] = ()
            on_problem: Callable[[Problem], None] = _ignore
            if not is_remote(self._document.source) and (known is None or not known.is_complete):
                on_problem = stack.enter_context(ProblemLog(self._folder.path / PROBLEMS)).add
                sourced = self._read(on_problem)
            batch = known or self._create()
            batch = self._work(batch, sourced, on_problem, on_update)
        if is_retry and batch.counts.failed and batch.state is BatchStatus.SUCCEEDED:
            batch = self._work(batches.retry(batch.id), (), _ignore, on_update)
        self._end_errors(batch)
        if batch.state is not BatchStatus.SUCCEEDED:
            raise BatchDidNotSucceed(batch)
        return self._report(batch)

    def _create(self) -> BatchResource:
        batch = self._client.batches.create(
            self._document.batch, idempotency_key=self._document.idempotency_key
        )
        self._folder.note_batch(batch.id)
        return batch

    def _read(self, on_problem: Callable[[Problem], None]) -> Iterator[Sourced]:
        """The data set, of which the first item was found."""
        document = self._document
        images = Path(document.images) if document.images else None
        sourced = read_source(document.source, prompts=document.prompts, images=images)
        for one in sourced:
            if not isinstance(one, Problem):
                return chain([one], sourced)
            on_problem(one)
        found = islice(read_problems(self._folder.path / PROBLEMS), _SHOWN)
        told = "".join(f"\n  {one.where}: {one.message}" for one in found)
        raise NotADataset(f"there is nothing to label in {document.source}{told}")

    def _work(
        self,
        batch: BatchResource,
        sourced: Iterable[Sourced],
        on_problem: Callable[[Problem], None],
        on_update: Callable[[BatchResource], None],
    ) -> BatchResource:
        """The batch at its end, with all results downloaded."""
        batches = self._client.batches
        uploader = Uploader(batches, batch.id, self._folder, on_problem)
        with_masks = MASKS in self._document.formats
        downloader = Downloader(batches, batch.id, self._folder, with_masks=with_masks)
        with ThreadPoolExecutor(2, "labelling") as threads:
            going = [threads.submit(downloader.download, self._stopping)]
            if batch.state not in _IN_VAIN:
                going.append(threads.submit(uploader.upload, sourced, self._stopping))
            try:
                self._watch(batch.id, going, on_update)
            finally:
                self._stopping.set()
        self._stopping.clear()
        batch = batches.get(batch.id)
        for one in going:
            try:
                one.result()
            except ApiError:
                if batch.state not in _IN_VAIN:  # else that is why the service takes no more
                    raise
        return batch

    def _watch(
        self, batch_id: str, going: list[Future[bool]], on_update: Callable[[BatchResource], None]
    ) -> None:
        """Look at the batch until all have ended, or one has failed."""
        while True:
            on_update(self._client.batches.get(batch_id))
            done, more = wait(going, timeout=_LOOK_S)
            if not more or any(one.exception() for one in done):
                return

    def _end_errors(self, batch: BatchResource) -> None:
        """Bring the file of errors to what is left of them, with the items that never were any."""
        if batch.rounds != self._folder.rounds:
            errors = self._client.batches.errors(batch.id)
            self._folder.replace_errors(batch.rounds, (one.to_json() for one in errors))
        left_out = left_out_items(self._folder.path / PROBLEMS)
        self._folder.end_errors(one.to_json() for one in left_out)

    def _report(self, batch: BatchResource) -> Report:
        if is_remote(self._document.source):  # read by the service
            self._fetch_problems(batch)
        effects = count_effects(self._folder.path / PROBLEMS)
        summary = _with_left_out(self._client.batches.summary(batch.id), effects[Effect.ITEM_LEFT_OUT])
        replace_file(self._folder.path / SUMMARY, summary.to_json().encode())
        failed_exports = {}
        for name in self._document.formats:
            if name != MASKS and not self._folder.has_export(name, batch.rounds):
                try:
                    self._export(batch, name)
                except (ApiError, zipfile.BadZipFile) as error:
                    failed_exports[name] = str(error)
        problems = read_problems(self._folder.path / PROBLEMS)
        matter = (one for one in problems if one.effect is not Effect.PASSED_OVER)
        return Report(
            batch=batch,
            summary=summary,
            effects=effects,
            problems=tuple(islice(matter, _SHOWN)),
            failed_exports=failed_exports,
        )

    def _fetch_problems(self, batch: BatchResource) -> None:
        with ProblemLog(self._folder.path / PROBLEMS) as log:
            for one in self._client.batches.problems(batch.id):
                log.add(Problem(where=one.where, message=one.message, effect=Effect.PROMPT_LEFT_OUT))

    def _export(self, batch: BatchResource, name: str) -> None:
        with TemporaryFile() as file:
            self._client.batches.export(batch.id, name, file, polygons=self._document.polygons)
            file.seek(0)
            with zipfile.ZipFile(file) as archive:
                archive.extractall(self._folder.new_export())
        self._folder.keep_export(name, batch.rounds)


def _with_left_out(summary: BatchSummary, count: int) -> BatchSummary:
    """With so many more items that failed."""
    if not count:
        return summary
    return summary.model_copy(
        update={
            "items": summary.items + count,
            "failed": summary.failed + count,
            "errors": {**summary.errors, UNUSABLE: summary.errors.get(UNUSABLE, 0) + count},
        }
    )


def _ignore(problem: Problem) -> None:
    """Where nothing is read, there is none."""
