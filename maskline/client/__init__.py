"""The Python client: ``Client``, and ``AsyncClient`` for asyncio."""

from maskline.client.asynchronous import AsyncClient
from maskline.client.errors import (
    ApiError,
    BatchDidNotSucceed,
    ConnectionFailed,
    JobDidNotSucceed,
    MasklineError,
    Unavailable,
    WaitTimeout,
)
from maskline.client.sync import Client

__all__ = [
    "ApiError",
    "AsyncClient",
    "BatchDidNotSucceed",
    "Client",
    "ConnectionFailed",
    "JobDidNotSucceed",
    "MasklineError",
    "Unavailable",
    "WaitTimeout",
]
