"""The connection to Redis that the Redis adapters share."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from typing import Any

import redis

from maskline.errors import JobStoreUnavailable

SOCKET_TIMEOUT_S = 5.0  # a frozen Redis would otherwise block its caller for ever


@contextmanager
def translated() -> Iterator[None]:
    """Turn Redis' errors into ``JobStoreUnavailable``."""
    try:
        yield
    except redis.RedisError as error:
        raise JobStoreUnavailable("the job store does not answer; try again in a moment") from error


class RedisConnection:
    """A pool of connections, the prefix of all keys, and the Lua scripts that run under it."""

    def __init__(self, url: str, prefix: str) -> None:
        """Connects on first use; ``url`` is ``redis://``, ``rediss://`` or ``unix://``."""
        # Any: the library's types do not know that replies are decoded to str.
        self.redis: Any = redis.Redis.from_url(
            url,
            decode_responses=True,
            socket_timeout=SOCKET_TIMEOUT_S,
            socket_connect_timeout=SOCKET_TIMEOUT_S,
            health_check_interval=30,
        )
        self.prefix = prefix
        self._scripts = {
            path.name.removesuffix(".lua"): self.redis.register_script(_PRELUDE + path.read_text("utf-8"))
            for path in _LUA.iterdir()
            if path.name.endswith(".lua") and path.name != "prelude.lua"
        }

    def run(self, script: str, *arguments: str | int | float) -> Any:  # noqa: ANN401 (as the script says)
        """The reply of ``lua/{script}.lua``.

        Raises:
            JobStoreUnavailable: Redis does not answer.
        """
        with translated():
            return self._scripts[script](args=[self.prefix, *arguments])

    def ping(self) -> None:
        """Return if Redis answers.

        Raises:
            JobStoreUnavailable: it does not.
        """
        with translated():
            self.redis.ping()


_LUA = files("maskline.adapters").joinpath("lua")
_PRELUDE = _LUA.joinpath("prelude.lua").read_text("utf-8")


def as_mapping(reply: list[str] | dict[str, str]) -> dict[str, str]:
    """A hash as a script returns it: a flat list of names and values."""
    if isinstance(reply, dict):
        return reply
    return dict(zip(reply[::2], reply[1::2], strict=True))
