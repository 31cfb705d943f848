"""The images of a chunk: from packs, whose neighbours are read together, or from wherever a job's may be."""

import threading
from collections.abc import Iterable
from typing import NamedTuple

from maskline.batch_artifacts import pack_key
from maskline.batch_items import PackedImage
from maskline.errors import ArtifactNotFound, ImageTooLarge, ImageUnreachable
from maskline.jobs import ImageRef
from maskline.ports import ArtifactStore
from worker.fetching import Fetch

_SPAN_BYTES = 1 << 23  # of a pack, read at once
_KEPT = 2  # spans: items run side by side, so that those at a border need both


class _Span(NamedTuple):
    pack: int
    start: int
    end: int

    def holds(self, image: PackedImage) -> bool:
        """Whether the image is within it."""
        return (
            self.pack == image.pack and self.start <= image.offset and image.offset + image.length <= self.end
        )


class ChunkImages:
    """Gives the bytes of the images of one chunk. Safe to use from many threads."""

    def __init__(
        self,
        batch: str,
        images: Iterable[ImageRef | PackedImage],
        artifacts: ArtifactStore,
        fetch: Fetch,
        *,
        most: int,
        attempt: int = 0,
    ) -> None:
        """``images``: all that will be asked for; ``fetch``: gives those that are in no pack; ``most``: bytes
        that an image may have; ``attempt``: at the chunk, as for ``fetch``."""
        self._attempt = attempt
        self._batch = batch
        self._artifacts = artifacts
        self._fetch = fetch
        self._most = most
        self._spans = _spans([one for one in images if isinstance(one, PackedImage) and one.length <= most])
        self._kept: dict[_Span, bytes] = {}
        self._lock = threading.Lock()

    def get(self, image: ImageRef | PackedImage) -> bytes | memoryview:
        """The image's bytes.

        Raises:
            RequestError: they can't be had; the message is for the client.
            DependencyError: the store does not answer.
        """
        if isinstance(image, ImageRef):
            return self._fetch(image, self._attempt)
        if image.length > self._most:
            raise ImageTooLarge(f"the image is {image.length} bytes; at most {self._most} are taken")
        span = next(span for span in self._spans if span.holds(image))
        content = self._read(span)[image.offset - span.start : image.offset - span.start + image.length]
        if len(content) < image.length:
            end = image.offset + image.length
            raise ImageUnreachable(f"the pack {image.pack} ends before its byte {end}, where the image does")
        return content

    def _read(self, span: _Span) -> bytes:
        with self._lock:  # so that others who want it wait, rather than read it too
            if span not in self._kept:
                while len(self._kept) >= _KEPT:
                    del self._kept[next(iter(self._kept))]
                try:
                    self._kept[span] = self._artifacts.part(
                        pack_key(self._batch, span.pack), span.start, span.end - span.start
                    )
                except ArtifactNotFound as error:
                    raise ImageUnreachable(f"there is no pack {span.pack}; upload it first") from error
            return self._kept[span]


def _spans(images: Iterable[PackedImage]) -> list[_Span]:
    """Few spans that hold all of them, each as large as is read at once, or as its one image."""
    spans: list[_Span] = []
    for image in sorted(images, key=lambda one: (one.pack, one.offset)):
        end = image.offset + image.length
        last = spans[-1] if spans else None
        if last and last.pack == image.pack and max(end, last.end) - last.start <= _SPAN_BYTES:
            spans[-1] = last._replace(end=max(end, last.end))
        else:
            spans.append(_Span(image.pack, image.offset, end))
    return spans
