"""Maskline: images in, segmentation masks out, asynchronously.

``Client``, ``AsyncClient``, ``Prompt`` and the client's errors are imported when they are first used, so that
the service's own processes do not load the client.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from maskline.client import (
        ApiError,
        AsyncClient,
        Client,
        ConnectionFailed,
        JobDidNotSucceed,
        MasklineError,
        Unavailable,
        WaitTimeout,
    )
    from maskline.requests import Prompt, Webhook

__all__ = [
    "ApiError",
    "AsyncClient",
    "Client",
    "ConnectionFailed",
    "JobDidNotSucceed",
    "MasklineError",
    "Prompt",
    "Unavailable",
    "WaitTimeout",
    "Webhook",
]

_HOMES = dict.fromkeys(__all__, "maskline.client") | dict.fromkeys(("Prompt", "Webhook"), "maskline.requests")


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
