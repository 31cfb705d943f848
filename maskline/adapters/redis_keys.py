"""The API keys in Redis: a hash of key id to record; only the SHA-256 of a secret is kept."""

from maskline.adapters.redis_connection import RedisConnection, translated
from maskline.keys import ApiKey


class RedisKeyStore:
    """``KeyStore`` over Redis."""

    def __init__(self, connection: RedisConnection) -> None:
        """Shares the connection of the job store."""
        self._connection = connection
        self._redis = connection.redis
        self._name = f"{connection.prefix}keys"

    def add(self, key: ApiKey) -> None:
        with translated():
            self._redis.hset(self._name, key.id, key.to_json())

    def remove(self, key_id: str) -> bool:
        with translated():
            return bool(self._redis.hdel(self._name, key_id))

    def get(self, key_id: str) -> ApiKey | None:
        text = self._connection.command("HGET", self._name, key_id)
        if text is None:
            self._connection.require_memory()
            return None
        return ApiKey.model_validate_json(text)

    def all(self) -> list[ApiKey]:
        with translated():
            texts = self._redis.hvals(self._name)
        keys = (ApiKey.model_validate_json(text) for text in texts)
        return sorted(keys, key=lambda key: key.created_s)
