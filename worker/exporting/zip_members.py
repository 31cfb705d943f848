"""What ``zipfile`` has to know of the members of a ZIP file until it writes the directory, on disk.

It keeps them in a list and in a dictionary, with half a kilobyte for each: a gigabyte for the images and
masks of a batch of a million. The list here keeps only what the directory says of a member; the dictionary
serves to warn of names that come twice, and keeps nothing.
"""

import json
from collections.abc import Iterator
from tempfile import SpooledTemporaryFile
from types import TracebackType
from typing import Self
from zipfile import ZipInfo

_IN_MEMORY_BYTES = 1 << 20
_FIELDS = (
    "filename",
    "compress_type",
    "flag_bits",
    "external_attr",
    "CRC",
    "compress_size",
    "file_size",
    "header_offset",
)


class MemberList(list[ZipInfo]):
    """Takes the place of ``ZipFile.filelist`` of a file that is written: appended to, then read once."""

    def __init__(self) -> None:
        super().__init__()
        self._file = SpooledTemporaryFile(_IN_MEMORY_BYTES, "w+", encoding="utf-8")  # noqa: SIM115 (by exit)
        self._count = 0

    def __enter__(self) -> Self:
        """The list, empty."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let the temporary file go."""
        self._file.close()

    def append(self, member: ZipInfo) -> None:
        """Keep a member."""
        self._file.write(json.dumps([getattr(member, field) for field in _FIELDS]) + "\n")
        self._count += 1

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[ZipInfo]:
        self._file.seek(0)
        for line in self._file:
            member = ZipInfo()
            for field, value in zip(_FIELDS, json.loads(line), strict=True):
                setattr(member, field, value)
            yield member


class NoNames(dict[str, ZipInfo]):
    """Takes the place of ``ZipFile.NameToInfo`` of a file that is being written."""

    def __setitem__(self, name: str, member: ZipInfo) -> None:
        """Keep nothing."""
