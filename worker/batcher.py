"""One thread for each loaded model: it loads the model, and runs the images that wait for it together."""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from maskline.requests import Priority
from worker.family import Segmentation, SegmentationInput, Segmenter
from worker.waiting_line import WaitingLine


@dataclass(frozen=True, kw_only=True, slots=True)
class Modelled:
    """What the model made of an image, and how long that took."""

    segmentation: Segmentation
    waited_s: float
    """From the submission until the model took the image."""
    ran_s: float
    """Of the run that the image was in, its share: the run's time over the images in it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Waiting:
    image: SegmentationInput
    result: Future[Modelled]
    since: float = field(default_factory=time.perf_counter)


class Batcher:
    """Owns a model. Images may come from any thread; the model is called from one."""

    def __init__(
        self, name: str, load: Callable[[], Segmenter], *, max_batch_size: int, batch_wait_s: float
    ) -> None:
        """``load`` runs in the batcher's thread, before the first image; ``batch_wait_s``: how long an image
        may wait for company."""
        self._load = load
        self._max_batch_size = max_batch_size
        self._batch_wait_s = batch_wait_s
        self._line: WaitingLine[_Waiting] = WaitingLine()
        self._pending = 0
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name=f"model-{name}", daemon=True)
        self._thread.start()

    @property
    def is_idle(self) -> bool:
        """Whether no image waits or runs."""
        return self._pending == 0

    def submit(self, image: SegmentationInput, priority: Priority) -> Future[Modelled]:
        """The result, to come. It raises what the model raised on this image, or what loading it raised."""
        waiting = _Waiting(image=image, result=Future())
        with self._lock:
            self._pending += 1
        self._line.put(waiting, priority)
        return waiting.result

    def close(self) -> None:
        """Let the model go, after what waits."""
        self._line.close()

    def _run(self) -> None:
        segmenter: Segmenter | None = None
        while batch := self._next_batch():
            try:
                segmenter = segmenter or self._load()
            except Exception as error:
                for waiting in batch:
                    self._settle(waiting, error)
                continue
            self._segment(segmenter, batch)
            del batch  # while the model idles, it keeps no image alive

    def _next_batch(self) -> list[_Waiting]:
        first = self._line.get()
        if first is None:
            return []
        batch = [first]
        deadline = first.since + self._batch_wait_s
        while len(batch) < self._max_batch_size:
            try:
                waiting = self._line.get(deadline - time.perf_counter())
            except queue.Empty:
                break
            if waiting is None:
                break
            batch.append(waiting)
        return batch

    def _segment(self, segmenter: Segmenter, waiting: Sequence[_Waiting]) -> None:
        batch = list(self._wanted(waiting))
        if not batch:
            return
        began = time.perf_counter()
        try:
            segmentations = segmenter.segment([waiting.image for waiting in batch])
            if len(segmentations) != len(batch):
                raise RuntimeError(f"{len(segmentations)} segmentations of {len(batch)} images")
        except Exception as error:
            if len(batch) == 1:
                self._settle(batch[0], error)
                return
            # One of them is at fault, or they are too many for the memory; the others must not pay for it.
            middle = len(batch) // 2
            self._segment(segmenter, batch[:middle])
            self._segment(segmenter, batch[middle:])
            return
        ran_s = (time.perf_counter() - began) / len(batch)
        for one, segmentation in zip(batch, segmentations, strict=True):
            self._settle(one, Modelled(segmentation=segmentation, waited_s=began - one.since, ran_s=ran_s))

    def _wanted(self, batch: Sequence[_Waiting]) -> Iterator[_Waiting]:
        for waiting in batch:
            try:
                waiting.image.check_wanted()
            except Exception as error:
                self._settle(waiting, error)
            else:
                yield waiting

    def _settle(self, waiting: _Waiting, outcome: Modelled | Exception) -> None:
        with self._lock:
            self._pending -= 1
        if isinstance(outcome, Exception):
            waiting.result.set_exception(outcome)
        else:
            waiting.result.set_result(outcome)
