"""Which device models run on."""

import torch

from maskline.errors import DeviceUnavailable


def choose_device(wanted: str | None) -> torch.device:
    """The device that is wanted, or else the best that is there: CUDA, then MPS, then the CPU.

    Raises:
        DeviceUnavailable: the wanted device is not there.
    """
    if wanted is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    device = torch.device(wanted)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceUnavailable(
            f"MASKLINE_DEVICE: there is no {wanted}; {torch.cuda.device_count()} GPUs are seen"
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise DeviceUnavailable("MASKLINE_DEVICE: this worker has no mps")
    return device
