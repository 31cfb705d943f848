"""Uploading a data set: images in packs, and the items that name them in parts."""

import hashlib
import threading
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from maskline.batch_items import MAX_ITEM_BYTES, BatchItem, PackedImage
from maskline.batch_resources import MAX_PACK_BYTES
from maskline.client.batches import Batches
from maskline.datasets.source import Effect, Problem, Sourced, SourcedItem
from maskline.labelling.folder import OutputFolder, PendingPart
from maskline.plain_words import tell

_FIRST_ITEMS = 64  # of the first part, so that the model begins soon
_MOST_ITEMS = 512
_MOST_BYTES = 1 << 25  # of a part with its images, unless one item is larger


class _Unusable(Exception):
    """The item can't be uploaded; the message says why."""


@dataclass(kw_only=True)
class _Part:
    number: int
    """Of the part, and of the pack with its images."""
    lines: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    images: list[bytes] = field(default_factory=list)
    packed: int = 0
    """Bytes of the images."""
    written: int = 0
    """Bytes of the lines."""
    _places: dict[bytes, PackedImage] = field(default_factory=dict)

    def has_room(self, size: int) -> bool:
        """Whether an image of so many bytes goes in too."""
        return not self.ids or self.packed + self.written + size <= _MOST_BYTES

    def place(self, content: bytes) -> PackedImage:
        """Where an image is in the pack, which has an image once."""
        digest = hashlib.sha256(content).digest()
        if digest not in self._places:
            self._places[digest] = PackedImage(pack=self.number, offset=self.packed, length=len(content))
            self.images.append(content)
            self.packed += len(content)
        return self._places[digest]

    def add(self, item: BatchItem) -> None:
        """Add an item, whose image has its place.

        Raises:
            _Unusable: its line is longer than one may be.
        """
        line = item.to_short_json()
        size = len(line.encode())
        if size > MAX_ITEM_BYTES:
            raise _Unusable(f"with its prompts it has {size} bytes; at most {MAX_ITEM_BYTES} are taken")
        self.lines.append(line)
        self.ids.append(item.id or "")
        self.written += size

    def pending(self) -> PendingPart:
        """The part as it is uploaded."""
        return PendingPart(self.number, b"".join(self.images), "\n".join([*self.lines, ""]).encode())


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

    def upload(self, sourced: Iterable[Sourced], stopping: threading.Event) -> bool:
        """Upload what is not there yet, and complete the batch; False: it is ``stopping`` before.

        Raises:
            MasklineError: the service refuses, or can't be reached.
            OSError: a file of the folder can't be written.
        """
        batch = self._batches.get(self._batch_id)
        if batch.is_complete:
            return True
        noted = self._folder.uploaded()
        last = noted[-1].part if noted else 0
        if last > batch.parts:  # whether it came is not known
            self._send(self._folder.pending(last))
        there = {item for one in noted for item in one.ids}
        for part in self._parts(self._items(sourced, there), last + 1):
            if stopping.is_set():
                return False
            pending = part.pending()
            self._folder.note_part(pending, part.ids)
            self._send(pending)
        if stopping.is_set():
            return False
        self._batches.complete(self._batch_id)
        return True

    def _items(self, sourced: Iterable[Sourced], there: Container[str]) -> Iterator[SourcedItem]:
        for one in sourced:
            if isinstance(one, Problem):
                self._on_problem(one)
            elif one.id not in there:
                yield one

    def _parts(self, items: Iterable[SourcedItem], number: int) -> Iterator[_Part]:
        """Parts that grow, so that the model begins soon, and the calls become few."""
        part = _Part(number=number)
        most = _FIRST_ITEMS
        for item in items:
            try:
                content = _content(item.image) if isinstance(item.image, Path) else b""
                if len(part.ids) >= most or not part.has_room(len(content)):
                    yield part
                    part = _Part(number=part.number + 1)
                    most = min(2 * most, _MOST_ITEMS)
                part.add(item.at(part.place(content) if isinstance(item.image, Path) else item.image))
            except (OSError, ValidationError, _Unusable) as error:
                told = tell(error) if isinstance(error, ValidationError) else str(error)
                self._on_problem(Problem(where=item.id, message=told, effect=Effect.ITEM_LEFT_OUT))
        if part.ids:
            yield part

    def _send(self, part: PendingPart) -> None:
        """Upload a part. It may be there already: the service keeps what it has, which is the same."""
        if part.images:
            self._batches.put_pack(self._batch_id, part.part, part.images)
        self._batches.put_part(self._batch_id, part.part, part.lines)


def _content(path: Path) -> bytes:
    """An image's bytes.

    Raises:
        OSError: they can't be read.
        _Unusable: there are none, or too many.
    """
    size = path.stat().st_size
    if size > MAX_PACK_BYTES:
        raise _Unusable(f"it has {size} bytes; at most {MAX_PACK_BYTES} can be uploaded")
    content = path.read_bytes()
    if not content:
        raise _Unusable("the file is empty")
    return content
