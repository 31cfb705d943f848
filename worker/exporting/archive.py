"""The ZIP file that an export is."""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import BinaryIO, Self
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

from worker.exporting.spool import JsonList, Spool
from worker.exporting.zip_members import MemberList, NoNames

_READABLE_BY_ALL = 0o644 << 16  # where ZIP has a file's permissions


class Archive:
    """A ZIP file, written as a stream into a file that need not be seekable; to be used in a ``with``.

    The same content gives the same bytes: members have no time.
    """

    def __init__(self, file: BinaryIO) -> None:
        """``file``: open for writing; it is not closed."""
        self._open = ExitStack()
        members = self._open.enter_context(MemberList())
        self._zip = self._open.enter_context(ZipFile(file, "w"))
        self._zip.filelist, self._zip.NameToInfo = members, NoNames()

    def __enter__(self) -> Self:
        """The archive, empty."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write its directory, and let the temporary files go."""
        self._open.close()

    def add(self, name: str, content: bytes) -> None:
        """Add a file that is packed already, as images are."""
        self._zip.writestr(_member(name, ZIP_STORED), content)

    def add_text(self, name: str, text: str) -> None:
        """Add a text."""
        self._zip.writestr(_member(name, ZIP_DEFLATED), text)

    def add_chunks(self, name: str, chunks: Iterable[bytes]) -> None:
        """Add a text of any length, which is in UTF-8."""
        with self._zip.open(_member(name, ZIP_DEFLATED), "w", force_zip64=True) as member:
            for chunk in chunks:
                member.write(chunk)

    def add_json(self, name: str, fields: Mapping[str, object]) -> None:
        """Add a JSON object; fields may be lists of ``json_list``."""
        self.add_chunks(name, _json_object(fields))

    def spool(self) -> Spool:
        """A place for text that is added later; closed with the archive."""
        spool = Spool()
        self._open.callback(spool.close)
        return spool

    def json_list(self) -> JsonList:
        """A place for a JSON array that is added later; closed with the archive."""
        elements = JsonList()
        self._open.callback(elements.close)
        return elements


def _member(name: str, compression: int) -> ZipInfo:
    member = ZipInfo(name)
    member.compress_type = compression
    member.external_attr = _READABLE_BY_ALL
    return member


def _json_object(fields: Mapping[str, object]) -> Iterator[bytes]:
    before = "{"
    for name, value in fields.items():
        yield f"{before}{json.dumps(name)}:".encode()
        if isinstance(value, JsonList):
            yield from value.chunks()
        else:
            yield json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
        before = ",\n"
    yield b"}"
