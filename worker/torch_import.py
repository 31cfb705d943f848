"""Importing torch in half the time, and such that its tensors are quickly there.

``torchvision.ops.roi_align`` takes one function from torch's compiler, and that brings the compiler and sympy
along: as much work as torch itself, for what few models ever ask. Here it is imported when it is first used.

Tensors of masks and of an encoder's layers have up to hundreds of megabytes, which the system gives anew each
time: in pages of 4 KB that takes as long as to fill them. torch asks for huge pages where it is told to.
"""

import gc
import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any, TypeVar

_COMPILER_UTILS = "torch._dynamo.utils"
_HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"  # read when the first tensor is made
_lock = threading.Lock()

T = TypeVar("T")


def import_torch(*, meanwhile: Callable[[], T]) -> T:
    """Import torch and torchvision; whoever loads a model that needs them calls this first, from any thread.

    Args:
        meanwhile: runs in a thread of its own; it should let other threads go on, as hashing does.

    Returns:
        What ``meanwhile`` returned; what it raised is raised after the import.
    """
    os.environ.setdefault(_HUGE_PAGES, "1")
    with ThreadPoolExecutor(1, "beside-import") as beside:
        result = beside.submit(meanwhile)
        with _lock, _collector_paused():
            import_module("torch")
            with _compiler_put_off():
                import_module("torchvision")
        return result.result()


@contextmanager
def _collector_paused() -> Iterator[None]:
    """What an import makes stays; to look through it again and again takes a seventh of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class _CompilerUtils(ModuleType):
    """Stands in for the module, which is imported when something of it is used."""

    @staticmethod
    def is_compile_supported(device_type: str) -> bool:
        """What torchvision takes, and calls only to align regions."""
        return _compiler_utils().is_compile_supported(device_type)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 (whatever the module has)
        if name.startswith("__"):  # ``inspect`` asks every module where its file is
            raise AttributeError(name)
        return getattr(_compiler_utils(), name)


def _compiler_utils() -> Any:  # noqa: ANN401 (a module)
    _remove_stand_in()
    return import_module(_COMPILER_UTILS)


@contextmanager
def _compiler_put_off() -> Iterator[None]:
    sys.modules.setdefault(_COMPILER_UTILS, _CompilerUtils(_COMPILER_UTILS))
    try:
        yield
    finally:
        _remove_stand_in()


def _remove_stand_in() -> None:
    if isinstance(sys.modules.get(_COMPILER_UTILS), _CompilerUtils):
        del sys.modules[_COMPILER_UTILS]
