"""Weights on this machine: found, downloaded, and checked against their hash.

    {folder}/{model id, / as --}/{name of the file in its URL}
    {folder}/{name on the hub, / as --}/{revision}/{its files}

A file gets its name only when it is whole and its SHA-256 is right; until then it is ``*.partial``, which the
next download goes on with. The folder of a model on a hub gets its name in the same way.
"""

from pathlib import Path
from urllib.parse import urlsplit

import httpx

from maskline.catalog import ModelSpec
from maskline.errors import WeightsUnusable
from maskline.hub import Progress, pull_from_hub, sha256_of, verify_sums

_CHUNK_BYTES = 1 << 20
_TIMEOUT = httpx.Timeout(30.0)


class WeightStore:
    """The folder where downloaded weights are."""

    def __init__(self, folder: Path) -> None:
        """``folder``: made on the first download."""
        self._folder = folder.expanduser()

    def find(self, spec: ModelSpec) -> Path:
        """The model's file or folder.

        Raises:
            WeightsUnusable: it is not on this machine; the message says what to run.
        """
        path = self.place(spec)
        if not path.exists():
            remedy = (
                f"on the worker's machine run: maskline models pull {spec.id}"
                if spec.weights is not None and spec.weights.path is None
                else "put them there, or change the catalog"
            )
            raise WeightsUnusable(f"the weights of {spec.id} are not at {path}; {remedy}")
        return path

    def place(self, spec: ModelSpec) -> Path:
        """Where the model's weights are, or would be.

        Raises:
            WeightsUnusable: the catalog names none.
        """
        weights = spec.weights
        if weights is None:
            raise WeightsUnusable(f"the catalog names no weights for {spec.id}")
        if weights.path is not None:
            return weights.path.expanduser()
        if weights.url is not None:
            return self._folder / _plain(spec.id) / Path(urlsplit(weights.url).path).name
        return self._folder / _plain(weights.hub or "") / _plain(weights.revision or "main")

    def size(self, spec: ModelSpec) -> int:
        """Bytes of the model's weights; 0 where it needs none, or they are not here."""
        if spec.weights is None:
            return 0
        path = self.place(spec)
        files = path.rglob("*") if path.is_dir() else [path]
        return sum(file.stat().st_size for file in files if file.is_file())

    def verify(self, spec: ModelSpec) -> Path:
        """The model's file or folder, whose SHA-256 are those of the catalog or of the download, where known.

        Raises:
            WeightsUnusable: it is not there, or altered.
        """
        path = self.find(spec)
        wanted = spec.weights.sha256 if spec.weights else None
        if path.is_dir():
            verify_sums(path)
        elif wanted is not None and (found := sha256_of(path)) != wanted:
            raise WeightsUnusable(
                f"{path} is not the file that the catalog names: its SHA-256 is {found}, not {wanted}; "
                "remove it and pull again"
            )
        return path

    def pull(self, spec: ModelSpec, progress: Progress = lambda done, total: None) -> Path:
        """The model's file or folder, downloaded unless it is there already, and verified.

        Raises:
            WeightsUnusable: there is nothing to download, it can't be reached, or it is not what the catalog
                names.
        """
        path = self.place(spec)
        if path.exists() or spec.weights is None or spec.weights.path is not None:
            return self.verify(spec)
        path.parent.mkdir(parents=True, exist_ok=True)
        if spec.weights.hub is not None:
            pull_from_hub(spec.weights.hub, spec.weights.revision, path, progress)
            return path
        assert spec.weights.url is not None  # noqa: S101 (a catalog's entry has one of the three)
        partial = path.with_name(f"{path.name}.partial")
        try:
            _download(spec.weights.url, partial, progress)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            reason = str(error) or type(error).__name__
            raise WeightsUnusable(f"{spec.weights.url} can't be fetched: {reason}") from error
        found = sha256_of(partial)
        if found != spec.weights.sha256:
            partial.unlink()
            raise WeightsUnusable(
                f"{spec.weights.url} gave another file than the catalog names: its SHA-256 is {found}, not "
                f"{spec.weights.sha256}"
            )
        partial.replace(path)
        return path


def _plain(name: str) -> str:
    return name.replace("/", "--")


def _download(url: str, partial: Path, progress: Progress) -> None:
    there = partial.stat().st_size if partial.exists() else 0
    headers = {"Range": f"bytes={there}-"} if there else {}
    with httpx.stream("GET", url, headers=headers, timeout=_TIMEOUT, follow_redirects=True) as response:
        if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:  # all of it is there
            return
        response.raise_for_status()
        goes_on = response.status_code == httpx.codes.PARTIAL_CONTENT
        done = there if goes_on else 0
        length = response.headers.get("Content-Length", "")
        total = done + int(length) if length.isdecimal() else None
        with partial.open("ab" if goes_on else "wb") as file:
            progress(done, total)
            for chunk in response.iter_raw(_CHUNK_BYTES):
                file.write(chunk)
                done += len(chunk)
                progress(done, total)
