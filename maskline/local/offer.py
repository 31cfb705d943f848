"""What a worker here would offer, and run on: asked of the worker's own code, in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from maskline.local.process import StackError
from maskline.wire import WireModel


class DeviceHere(WireModel):
    """What models of a worker here would run on."""

    name: str
    """Of the device."""
    fault: str | None
    """Why the device that the settings name can't be had."""
    has_unused_gpu: bool
    """Whether the machine has an NVIDIA GPU that torch does not see."""


def left_out_here(own_catalog: Path | None) -> dict[str, str]:
    """Why a worker here would leave models out, by their ids; it offers all others of the catalog.

    Raises:
        StackError: no worker can run here.
    """
    reasons: dict[str, str] = _asked("worker.offer", *([str(own_catalog)] if own_catalog else []))
    return reasons


def devices_here(*wanted: str) -> list[DeviceHere]:
    """The devices of workers here, one for each that is wanted; where none is, the best that is there.

    Raises:
        StackError: no worker can run here.
    """
    return [DeviceHere.model_validate(one) for one in _asked("worker.device_report", *wanted)]


def _asked(module: str, *arguments: str) -> Any:  # noqa: ANN401 (any JSON)
    done = subprocess.run(  # noqa: S603 (our own command)
        [sys.executable, "-m", module, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        reason = done.stderr.strip().rpartition("\n")[2]
        raise StackError(f"no worker can run here ({reason}); get one with: pip install 'maskline[worker]'")
    return json.loads(done.stdout)
