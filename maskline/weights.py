"""Weights on this machine: found, downloaded, and checked against their hash.

    {folder}/{model id, / as --}/{name of the file in its URL}
    {folder}/{name on the hub, / as --}/{revision}/{its files}

A file gets its name only when it is whole and its SHA-256 is right; until then it is ``*.partial``, which the
next download goes on with. The folder of a model on a hub gets its name in the same way.
"""

from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from maskline.catalog import ModelSpec
from maskline.errors import WeightsUnusable
from maskline.hub import Progress, pull_from_hub
from maskline.sums import SUMS, find_altered, sha256_of

_CHUNK_BYTES = 1 << 20
_TIMEOUT = httpx.Timeout(30.0)


class Check(StrEnum):
    """How far weights can be checked, in words for people."""

    CATALOG = "checked against the catalog's SHA-256"
    SUMS = f"checked against the SHA-256 of each file in {SUMS}"
    PRESENCE = "no SHA-256 is known; checked only that it is there"


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
            advice = _advice(
                spec, own="put them there, or change the catalog", pulled="on the worker's machine"
            )
            raise WeightsUnusable(f"the weights of {spec.id} are not at {path.absolute()}; {advice}")
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
        """The model's file or folder, checked as far as ``check_of`` says.

        Raises:
            WeightsUnusable: it is not there, or altered; the message says what to do.
        """
        path = self.find(spec)
        match self.check_of(spec):
            case Check.SUMS:
                _check_sums(path, spec)
            case Check.CATALOG:
                _check_file(path, spec)
        return path

    def check_of(self, spec: ModelSpec) -> Check:
        """What there is to check the model's weights against.

        Raises:
            WeightsUnusable: the catalog names none.
        """
        path = self.place(spec)
        if path.is_dir():
            return Check.SUMS if (path / SUMS).exists() else Check.PRESENCE
        return Check.CATALOG if spec.weights and spec.weights.sha256 else Check.PRESENCE

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


def _check_sums(folder: Path, spec: ModelSpec) -> None:
    altered = find_altered(folder)
    if altered is not None:
        advice = _advice(spec, own=f"put it back, or mend {folder / SUMS}", pulled=f"remove {folder} and")
        raise WeightsUnusable(f"{altered} is gone or altered; {advice}")


def _check_file(file: Path, spec: ModelSpec) -> None:
    wanted, found = spec.weights and spec.weights.sha256, sha256_of(file)
    if found != wanted:
        advice = _advice(spec, own="put the right file there, or change the catalog", pulled="remove it and")
        raise WeightsUnusable(
            f"{file} is not the file that the catalog names: its SHA-256 is {found}, not {wanted}; {advice}"
        )


def _advice(spec: ModelSpec, *, own: str, pulled: str) -> str:
    """What to do about weights that are not right: the operator's ``own``, or such as are ``pulled``."""
    is_own = spec.weights is None or spec.weights.path is not None
    return own if is_own else f"{pulled} run: maskline models pull {spec.id}"


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
