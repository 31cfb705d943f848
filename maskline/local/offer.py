"""What a worker on this machine would offer: asked of the worker's own code, in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

from maskline.local.process import StackError


def left_out_here(own_catalog: Path | None) -> dict[str, str]:
    """Why a worker here would leave models out, by their ids; it offers all others of the catalog.

    Raises:
        StackError: no worker can run here.
    """
    arguments = [str(own_catalog)] if own_catalog else []
    done = subprocess.run(  # noqa: S603 (our own command)
        [sys.executable, "-m", "worker.offer", *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        reason = done.stderr.strip().rpartition("\n")[2]
        raise StackError(f"no worker can run here ({reason}); get one with: pip install 'maskline[worker]'")
    reasons: dict[str, str] = json.loads(done.stdout)
    return reasons
