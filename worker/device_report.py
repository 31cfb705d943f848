"""``python -m worker.device_report [DEVICE …]``: as JSON, what models of workers here would run on."""

import json
import shutil
import sys
from importlib.util import find_spec

from maskline.errors import DeviceUnavailable


def report(wanted: str | None) -> dict[str, str | bool | None]:
    """``name`` of the device; ``fault``: why the wanted one can't be had; ``hasUnusedGpu``: the machine has
    an NVIDIA GPU that torch does not see."""
    if find_spec("torch") is None:
        fault = f"MASKLINE_DEVICE: {wanted} needs torch" if wanted not in {None, "cpu"} else None
        return {"name": "cpu, without torch", "fault": fault, "hasUnusedGpu": False}
    import torch  # noqa: PLC0415 (not in every worker)

    from worker.torch_device import choose_device  # noqa: PLC0415 (needs torch)

    try:
        device = choose_device(wanted)
    except DeviceUnavailable as error:
        return {"name": "none", "fault": error.message, "hasUnusedGpu": False}
    is_cuda = device.type == "cuda"
    has_unused_gpu = wanted is None and not is_cuda and shutil.which("nvidia-smi") is not None
    name = f"{device}: {torch.cuda.get_device_name(device)}" if is_cuda else str(device)
    return {"name": name, "fault": None, "hasUnusedGpu": has_unused_gpu}


def main() -> None:
    """Print a report for each device; where none is named, for the best that is there."""
    wanted: list[str | None] = [*sys.argv[1:]]
    print(json.dumps([report(one) for one in wanted or [None]]))


if __name__ == "__main__":
    main()
