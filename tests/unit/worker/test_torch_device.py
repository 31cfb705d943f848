"""Devices, and full memory."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from maskline.errors import DeviceUnavailable, OutOfMemory
from worker.torch_device import choose_device, in_halves, memory_errors_told


def test_a_device_that_is_not_there_is_told() -> None:
    assert choose_device("cpu").type == "cpu"
    with pytest.raises(DeviceUnavailable, match="there is no cuda:77"):
        choose_device("cuda:77")


@pytest.mark.parametrize("most", [1, 3, 8, 20])
def test_work_too_large_for_the_memory_is_done_in_halves(most: int) -> None:
    def work(rows: NDArray[np.float64]) -> list[float]:
        if len(rows) > most:
            raise torch.OutOfMemoryError
        return [float(value) for value in rows]

    parts = in_halves(work, np.arange(20.0))
    assert [value for part in parts for value in part] == list(range(20))
    assert max(len(part) for part in parts) <= most


def test_full_memory_is_told_and_other_errors_pass() -> None:
    with pytest.raises(OutOfMemory, match="the model needs more memory"), memory_errors_told("the model"):
        torch.empty(1 << 50)
    with pytest.raises(RuntimeError, match="other"), memory_errors_told("the model"):
        raise RuntimeError("other")
    with pytest.raises(torch.OutOfMemoryError):
        in_halves(fail, np.zeros(4))


def fail(rows: NDArray[np.float64]) -> None:
    raise torch.OutOfMemoryError
