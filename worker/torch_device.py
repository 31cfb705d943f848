"""Which device models run on, and what to do when its memory is full."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from maskline.errors import DeviceUnavailable, OutOfMemory

T = TypeVar("T")
N = TypeVar("N", bound=np.generic)


def choose_device(workers: str | None, entrys: str | None = None) -> torch.device:
    """The device of the model's catalog entry, else the worker's, else the best: CUDA, MPS, the CPU.

    Raises:
        DeviceUnavailable: the wanted device is not there.
    """
    wanted = entrys or workers
    origin = "options.device of the model's catalog entry" if entrys else "MASKLINE_DEVICE"
    if wanted is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    device = torch.device(wanted)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceUnavailable(
            f"{origin}: there is no {wanted}; GPUs that are seen: {torch.cuda.device_count()}"
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise DeviceUnavailable(f"{origin}: there is no mps")
    return device


@contextmanager
def memory_errors_told(what: str) -> Iterator[None]:
    """Turn torch's errors about full memory into ``OutOfMemory``. ``what``: was too large, for people."""
    try:
        yield
    except (torch.OutOfMemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        give_memory_back()
        raise OutOfMemory(
            f"{what} needs more memory than the worker's device has; send a smaller image, or give the "
            "worker a larger device or fewer models"
        ) from error


def in_halves(work: Callable[[NDArray[N]], T], rows: NDArray[N]) -> list[T]:
    """``work`` on all rows at once; where memory does not do, on each half of them, and so on.

    Raises:
        RuntimeError: (torch's) memory does not do for a single row.
    """
    try:
        return [work(rows)]
    except (torch.OutOfMemoryError, RuntimeError) as error:
        if len(rows) == 1 or not is_out_of_memory(error):
            raise
    give_memory_back()  # not while the error holds on to what filled it
    middle = len(rows) // 2
    return [*in_halves(work, rows[:middle]), *in_halves(work, rows[middle:])]


def is_out_of_memory(error: Exception) -> bool:
    """Whether torch ran out of a device's memory, or of the machine's (for which it has no class)."""
    told = str(error)
    return (
        isinstance(error, torch.OutOfMemoryError)
        or "can't allocate memory" in told
        or "MPS backend out of memory" in told
    )


def give_memory_back() -> None:
    """Let go of what torch keeps for later."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
