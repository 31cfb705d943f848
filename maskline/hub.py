"""Weights from the Hugging Face hub: a model's folder, whole and checked, or nothing.

Beside the files lies ``SHA256SUMS``, as ``sha256sum`` writes it, so that they can be checked again offline.
"""

import hashlib
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from maskline.errors import WeightsUnusable

Progress = Callable[[int, int | None], None]
"""Told of the bytes that are there, and of how many there will be, if that is known."""

SUMS = "SHA256SUMS"
_HASHED_AT_ONCE = 16 << 20  # beside a thread that computes, every piece waits for its turn
_WEIGHTS = (".safetensors", ".bin")  # the first is taken alone where it is there
_BESIDE = (".json", ".txt", ".model")  # configuration, and the words of models that read


def pull_from_hub(hub: str, revision: str | None, folder: Path, progress: Progress) -> None:
    """Download a model's files into ``folder``, which is there afterwards, or as before.

    What an earlier call left is gone on with.

    Raises:
        WeightsUnusable: the library for it is not installed, the hub can't be reached or has no such model,
            or a file is not the one that it names.
    """
    library = _library()
    try:
        info = library.HfApi().model_info(hub, revision=revision, files_metadata=True)
        files = _wanted(info.siblings)
        if not any(file.rfilename.endswith(_WEIGHTS) for file in files):
            raise WeightsUnusable(f"the hub's {hub} has no weights as {' or '.join(_WEIGHTS)}")
        partial = folder.with_name(f"{folder.name}.{info.sha}.partial")  # never files of two commits together
        sizes = [file.size or 0 for file in files]
        for i, file in enumerate(files):
            progress(sum(sizes[:i]), sum(sizes))
            library.hf_hub_download(hub, file.rfilename, revision=info.sha, local_dir=partial)
        progress(sum(sizes), sum(sizes))
        _finish(hub, files, partial, folder)
    except WeightsUnusable:
        raise
    except Exception as error:  # the library lets through what its HTTP client raises
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise WeightsUnusable(f"{hub} can't be fetched from the hub: {reason}") from error


def _finish(hub: str, files: Sequence[Any], partial: Path, folder: Path) -> None:
    sums = {file.rfilename: sha256_of(partial / file.rfilename) for file in files}
    for file in files:
        if file.lfs is not None and file.lfs.sha256 != sums[file.rfilename]:
            (partial / file.rfilename).unlink()
            raise WeightsUnusable(f"the hub gave another {file.rfilename} of {hub} than it names; pull again")
    (partial / SUMS).write_text("".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items())))
    shutil.rmtree(partial / ".cache", ignore_errors=True)  # the library's notes on downloads
    partial.replace(folder)
    for stale in folder.parent.glob(f"{folder.name}.*.partial"):
        shutil.rmtree(stale, ignore_errors=True)


def verify_sums(folder: Path) -> None:
    """Return if every file is as it was downloaded; a folder without ``SHA256SUMS`` passes.

    Raises:
        WeightsUnusable: a file is gone or altered.
    """
    if not (folder / SUMS).exists():
        return
    for line in (folder / SUMS).read_text("utf-8").splitlines():
        digest, name = line.split("  ", 1)
        if not (folder / name).exists() or sha256_of(folder / name) != digest:
            raise WeightsUnusable(f"{folder / name} is gone or altered; remove {folder} and pull again")


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_HASHED_AT_ONCE):
            digest.update(piece)
    return digest.hexdigest()


def _wanted(files: Sequence[Any]) -> list[Any]:
    top = [file for file in files if "/" not in file.rfilename]
    kind = next((kind for kind in _WEIGHTS if any(file.rfilename.endswith(kind) for file in top)), "")
    ends = (*_BESIDE, kind) if kind else _BESIDE
    return [file for file in top if file.rfilename.endswith(ends)]


def _library() -> Any:  # noqa: ANN401 (a module)
    try:
        import huggingface_hub  # noqa: PLC0415 (it comes with the extra that needs it)
    except ImportError as error:
        raise WeightsUnusable(
            "this needs huggingface_hub; run: pip install 'maskline[transformers]'"
        ) from error
    return huggingface_hub
