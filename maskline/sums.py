"""SHA-256 of files; a folder keeps those of its files in ``SHA256SUMS``, as ``sha256sum`` writes it."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

SUMS = "SHA256SUMS"
_PIECE_BYTES = 16 << 20  # large: beside a thread that computes, every piece waits for its turn


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def write_sums(folder: Path, sums: Mapping[str, str]) -> None:
    """Keep the SHA-256 of the folder's files, by their names."""
    (folder / SUMS).write_text("".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items())))


def find_altered(folder: Path) -> Path | None:
    """The first file that is gone, or not as ``SHA256SUMS`` has it; None if all are."""
    for line in (folder / SUMS).read_text("utf-8").splitlines():
        digest, name = line.split("  ", 1)
        if not (folder / name).exists() or sha256_of(folder / name) != digest:
            return folder / name
    return None
