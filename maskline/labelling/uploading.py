"""Uploading a data set: images in packs, and the items that name them in parts."""

import hashlib
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from maskline.batch_items import BatchItem, PackedImage
from maskline.client.batches import Batches
from maskline.datasets.source import Effect, Problem, Sourced, SourcedItem
from maskline.labelling.folder import OutputFolder, UploadedPart
from maskline.plain_words import tell

_FIRST_ITEMS = 64  # of the first part, so that the model begins soon
_MOST_ITEMS = 512
_MOST_BYTES = 1 << 25


@dataclass(kw_only=True)
class _Part:
    number: int
    pack: int
    lines: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    images: list[bytes] = field(default_factory=list)
    size: int = 0
    _places: dict[bytes, PackedImage] = field(default_factory=dict)

    def place(self, content: bytes) -> PackedImage:
        """Where an image is in the pack, which has an image once."""
        digest = hashlib.sha256(content).digest()
        if digest not in self._places:
            self._places[digest] = PackedImage(pack=self.pack, offset=self.size, length=len(content))
            self.images.append(content)
            self.size += len(content)
        return self._places[digest]

    def add(self, item: BatchItem) -> None:
        """Add an item, whose image has its place."""
        self.lines.append(item.to_short_json())
        self.ids.append(item.id or "")


class Uploader:
    """Uploads what a batch does not have yet."""

    def __init__(
        self, batches: Batches, batch_id: str, folder: OutputFolder, on_problem: Callable[[Problem], None]
    ) -> None:
        """``on_problem`` is called with what becomes no item."""
        self._batches = batches
        self._batch_id = batch_id
        self._folder = folder
        self._on_problem = on_problem
        self.items = 0
        """That were uploaded, those before an interruption included."""

    def upload(self, sourced: Iterable[Sourced], should_stop: Callable[[], bool]) -> bool:
        """Upload what is not there yet, and complete the batch; False: ``should_stop`` said so before.

        Raises:
            MasklineError: the service refuses, or can't be reached.
            OSError: a file can't be read.
        """
        batch = self._batches.get(self._batch_id)
        if batch.is_complete:
            return True
        noted = self._folder.uploaded()
        there = {item for one in noted if one.part <= batch.parts for item in one.ids}
        self.items = len(there)
        pack = max((one.pack for one in noted), default=0)  # the one after may be there in part
        for part in self._parts(self._items(sourced, there), _Part(number=batch.parts + 1, pack=pack + 1)):
            if should_stop():
                return False
            self._put(part)
        self._batches.complete(self._batch_id)
        return True

    def _items(self, sourced: Iterable[Sourced], there: Container[str]) -> Iterator[SourcedItem]:
        for one in sourced:
            if isinstance(one, Problem):
                self._on_problem(one)
            elif one.id not in there:
                yield one

    def _parts(self, items: Iterable[SourcedItem], part: _Part) -> Iterator[_Part]:
        """Parts that grow, so that the model begins soon, and the calls become few."""
        most = _FIRST_ITEMS
        for item in items:
            try:
                image = item.image
                part.add(item.at(part.place(image.read_bytes()) if isinstance(image, Path) else image))
            except (OSError, ValidationError) as error:
                told = tell(error) if isinstance(error, ValidationError) else str(error)
                self._on_problem(Problem(where=item.id, message=told, effect=Effect.ITEM_LEFT_OUT))
                continue
            if len(part.ids) >= most or part.size >= _MOST_BYTES:
                yield part
                part = _Part(number=part.number + 1, pack=part.pack + 1)
                most = min(2 * most, _MOST_ITEMS)
        if part.ids:
            yield part

    def _put(self, part: _Part) -> None:
        self._folder.note_part(UploadedPart(part=part.number, pack=part.pack, ids=tuple(part.ids)))
        if part.images:
            self._batches.put_pack(self._batch_id, part.pack, b"".join(part.images))
        self._batches.put_part(self._batch_id, part.number, "\n".join([*part.lines, ""]).encode())
        self.items += len(part.ids)
