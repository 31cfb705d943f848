"""The models and export formats that workers offer, in Redis: a worker's offer of models ends with its life.

models          hash    model id -> card
export_formats  set     names
worker:{name}   string  ids of its models, comma-separated; goes when the worker falls silent
workers         zset    worker names, by the time until which they live
"""

import time
from collections.abc import Iterable
from functools import lru_cache

from maskline.adapters.redis_connection import RedisConnection, translated
from maskline.results import ModelCard

_CARDS = 256  # that are remembered: one with many classes takes milliseconds to parse, and none changes often

_card_of = lru_cache(_CARDS)(ModelCard.model_validate_json)


class RedisModelDirectory:
    """``ModelDirectory`` over Redis."""

    def __init__(self, connection: RedisConnection) -> None:
        """Shares the connection of the job store."""
        self._redis = connection.redis
        self._prefix = connection.prefix

    def publish(
        self, worker: str, cards: Iterable[ModelCard], for_s: float, *, export_formats: Iterable[str] = ()
    ) -> None:
        by_id = {card.id: card.to_json() for card in cards}
        formats = tuple(export_formats)
        with translated():
            pipeline = self._redis.pipeline(transaction=True)
            if by_id:
                pipeline.hset(f"{self._prefix}models", mapping=by_id)
            if formats:
                pipeline.sadd(f"{self._prefix}export_formats", *formats)
            pipeline.set(self._offer(worker), ",".join(by_id), px=int(for_s * 1000))
            pipeline.zadd(f"{self._prefix}workers", {worker: time.time() + for_s})
            pipeline.zremrangebyscore(f"{self._prefix}workers", "-inf", time.time() - for_s)
            pipeline.execute()

    def withdraw(self, worker: str) -> None:
        with translated():
            pipeline = self._redis.pipeline(transaction=True)
            pipeline.delete(self._offer(worker))
            pipeline.zrem(f"{self._prefix}workers", worker)
            pipeline.execute()

    def cards(self) -> dict[str, ModelCard]:
        with translated():
            texts = self._redis.hgetall(f"{self._prefix}models")
        return {model: _card_of(text) for model, text in sorted(texts.items())}

    def available(self) -> set[str]:
        return {model for offer in self._offers().values() for model in offer.split(",") if model}

    def export_formats(self) -> set[str]:
        with translated():
            return set(self._redis.smembers(f"{self._prefix}export_formats"))

    def workers(self) -> int:
        return len(self._offers())

    def alive(self) -> set[str]:
        """Names of the living workers."""
        return set(self._offers())

    def _offer(self, worker: str) -> str:
        return f"{self._prefix}worker:{worker}"

    def _offers(self) -> dict[str, str]:
        with translated():
            names = self._redis.zrange(f"{self._prefix}workers", 0, -1)
            offers = self._redis.mget([self._offer(name) for name in names]) if names else []
        return {name: offer for name, offer in zip(names, offers, strict=True) if offer is not None}
