"""Parts of a large file, which wait in temporary files until their turn comes."""

import gzip
import json
from collections.abc import Iterator
from tempfile import SpooledTemporaryFile

_IN_MEMORY_BYTES = 1 << 20
_CHUNK_BYTES = 1 << 16
_GZIP_LEVEL = 1  # labels are text that shrinks to a fraction even so


class Spool:
    """Text, written piece by piece and read once; on disk where it is long, and packed."""

    def __init__(self) -> None:
        self._file = SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES)  # noqa: SIM115 (closed by close)
        self._packer = gzip.GzipFile(fileobj=self._file, mode="wb", compresslevel=_GZIP_LEVEL)
        self.is_empty = True
        """Whether nothing was written yet."""

    def write(self, text: str) -> None:
        """Add to what is there."""
        self._packer.write(text.encode())
        self.is_empty = False

    def chunks(self) -> Iterator[bytes]:
        """All that was written, in UTF-8; nothing can be written any more."""
        self._packer.close()
        self._file.seek(0)
        with gzip.GzipFile(fileobj=self._file, mode="rb") as unpacker:
            while chunk := unpacker.read(_CHUNK_BYTES):
                yield chunk

    def close(self) -> None:
        """Let the temporary file go."""
        self._packer.close()
        self._file.close()


class JsonList(Spool):
    """A JSON array, written element by element."""

    def append(self, element: object) -> None:
        """Add anything that ``json`` writes."""
        self.write("[" if self.is_empty else ",\n")
        self.write(json.dumps(element, separators=(",", ":"), ensure_ascii=False))

    def chunks(self) -> Iterator[bytes]:
        """The array."""
        if self.is_empty:
            self.write("[")
        self.write("]")
        yield from super().chunks()
