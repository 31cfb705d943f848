"""The connection to Redis that the Redis adapters share."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from typing import Any

import hiredis
import redis

from maskline.adapters.redis_links import RedisLinks, Word
from maskline.errors import JobStoreRebuilding, JobStoreUnavailable

_UNAVAILABLE = "the job store does not answer; try again in a moment"
REBUILDING = "the job store's records are being made anew; try again in a moment"
SOCKET_TIMEOUT_S = 5.0  # a frozen Redis would otherwise block its caller for ever


@contextmanager
def translated() -> Iterator[None]:
    """Turn Redis' errors into ``JobStoreUnavailable``."""
    try:
        yield
    except (redis.RedisError, hiredis.HiredisError) as error:
        raise JobStoreUnavailable(_UNAVAILABLE) from error


class _Script:
    """A Lua script, and the name that Redis knows it by."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha1 = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


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
            protocol=2,
        )
        self._links = RedisLinks(self.redis.connection_pool, SOCKET_TIMEOUT_S)
        self.prefix = prefix
        self._scripts = {
            path.name.removesuffix(".lua"): _Script(_PRELUDE + path.read_text("utf-8"))
            for path in _LUA.iterdir()
            if path.name.endswith(".lua") and path.name != "prelude.lua"
        }

    def run(self, script: str, *arguments: Word) -> Any:  # noqa: ANN401 (as the script says)
        """The reply of ``lua/{script}.lua``.

        Raises:
            JobStoreUnavailable: Redis does not answer.
        """
        known = self._scripts[script]
        with translated():
            try:
                return self._links.command("EVALSHA", known.sha1, 0, self.prefix, *arguments)
            except hiredis.ReplyError as error:
                if not str(error).startswith("NOSCRIPT"):
                    raise
                return self._links.command("EVAL", known.text, 0, self.prefix, *arguments)

    def command(self, *words: Word) -> Any:  # noqa: ANN401 (as the command says)
        """The reply of Redis to one command, as it came: a hash as its names and values in turn.

        Raises:
            JobStoreUnavailable: Redis does not answer.
        """
        with translated():
            return self._links.command(*words)

    def require_memory(self) -> None:
        """Return if what is not in Redis does not exist.

        Raises:
            JobStoreUnavailable: Redis lost its memory, which is being filled again, or does not answer.
        """
        if not self.command("EXISTS", f"{self.prefix}epoch"):
            raise JobStoreRebuilding(REBUILDING)

    def close(self) -> None:
        """Close what nothing uses now."""
        self._links.close()
        self.redis.close()

    def ping(self) -> None:
        """Return if Redis answers.

        Raises:
            JobStoreUnavailable: it does not.
        """
        with translated():
            self.redis.ping()


_LUA = files("maskline.adapters").joinpath("lua")
_PRELUDE = _LUA.joinpath("prelude.lua").read_text("utf-8")


def as_mapping(reply: Sequence[str]) -> dict[str, str]:
    """A hash, from its names and values in turn."""
    return dict(zip(reply[::2], reply[1::2], strict=True))
