"""Reading checkpoints, of which none may run code."""

import pickle
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch.overrides import TorchFunctionMode

from maskline.errors import WeightsUnusable


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a ``.safetensors`` file, or of a file that ``torch.save`` wrote, by name; on the CPU.

    They may lie in the file itself: copy what is to be kept.

    Raises:
        WeightsUnusable: it is neither, or holds anything but tensors.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        in_file = zipfile.is_zipfile(path)  # as old versions of torch wrote none
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=in_file)
    except (
        OSError,
        RuntimeError,
        EOFError,
        ValueError,
        KeyError,
        pickle.UnpicklingError,
        SafetensorError,
    ) as error:
        raise WeightsUnusable(
            f"{path.name} is no checkpoint that can be read safely; give a state dict of tensors alone, or a "
            ".safetensors file"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise WeightsUnusable(f"{path.name} holds something else than a state dict of tensors")
    return state


class RandomStartLeftOut(TorchFunctionMode):
    """Inside this context new modules have no random parameters but whatever the memory holds, so that what
    ``load_state`` fills is made sooner."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 (whatever the function returns)
        """The tensor as it is, from all of ``torch.nn.init``; other functions do what they do."""
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == torch.nn.init.__name__:
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)


def load_state(model: torch.nn.Module, path: Path, what: str) -> None:
    """Put a checkpoint into a model, which it must fit to the last tensor. ``what``: the model, for people.

    Raises:
        WeightsUnusable: it can't be read, or does not fit.
    """
    state = read_state(path)
    mine = model.state_dict()
    missing, foreign = sorted(mine.keys() - state.keys()), sorted(state.keys() - mine.keys())
    reshaped = sorted(name for name in mine.keys() & state.keys() if mine[name].shape != state[name].shape)
    if missing or foreign or reshaped:
        raise WeightsUnusable(
            f"{path.name} does not fit {what}: {len(missing)} tensors are missing, {len(foreign)} foreign, "
            f"{len(reshaped)} have another shape (such as {(missing + foreign + reshaped)[0]})"
        )
    model.load_state_dict(state)
