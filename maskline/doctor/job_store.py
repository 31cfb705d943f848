"""Redis: whether it answers, keeps what it is given, and is Maskline's alone."""

import time
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from maskline.adapters.redis_connection import RedisConnection, translated
from maskline.doctor.finding import Finding, Health
from maskline.errors import JobStoreUnavailable
from maskline.settings import Settings

Info = Mapping[str, Any]

_LEAST_VERSION = (6, 2)
_MOST_FULL = 0.8
_SCANNED_KEYS = 10_000  # a look at more would take a large store's time
_MOST_SKEW_S = 2.0


def look(settings: Settings) -> Iterator[Finding]:
    """Findings about the Redis of the settings."""
    connection = RedisConnection(settings.redis_url, settings.redis_prefix)
    try:
        with translated():
            info = connection.redis.info("all")
            clock_s = connection.redis.time()[0]
        yield Finding.ok("redis", f"it answers, and is version {info['redis_version']}")
        yield _version(info)
        yield (role := _role(info))
        yield _append_only(info)
        yield _eviction(info)
        yield _clock(clock_s)
        yield _neighbours(connection)
        if role.health is Health.OK:  # else it can't be asked for any key
            yield _records(connection)
    except JobStoreUnavailable as error:
        cause = error.__cause__ or error
        yield Finding.failed(
            "redis", f"it does not answer: {cause}", "start it, or correct MASKLINE_REDIS_URL"
        )
    finally:
        connection.close()


def _version(info: Info) -> Finding:
    version = tuple(int(part) for part in str(info["redis_version"]).split(".")[:2])
    if version < _LEAST_VERSION:
        return Finding.failed(
            "redis version", f"{info['redis_version']} is too old", "install Redis 6.2 or newer, or Valkey"
        )
    return Finding.ok("redis version", str(info["redis_version"]))


def _role(info: Info) -> Finding:
    if info.get("cluster_enabled"):
        return Finding.failed(
            "redis role", "it is a cluster, which the queue can't use", "use a single server, or Sentinel"
        )
    if info.get("role") != "master":
        return Finding.failed(
            "redis role", "it is a replica, and takes no writes", "point MASKLINE_REDIS_URL at the primary"
        )
    return Finding.ok("redis role", "a single primary")


def _append_only(info: Info) -> Finding:
    check = "redis append-only file"
    if not info.get("aof_enabled"):
        return Finding.failed(
            check,
            "it is off: a restart loses accepted jobs",
            "redis-cli CONFIG SET appendonly yes, and set it in redis.conf",
        )
    if info.get("aof_last_write_status", "ok") != "ok":
        return Finding.failed(
            check, "the last write to it failed", "look at Redis' log; its disk may be full or read-only"
        )
    return Finding.ok(check, "it is on, and written")


def _eviction(info: Info) -> Finding:
    check = "redis eviction"
    policy, limit = info.get("maxmemory_policy"), int(info.get("maxmemory", 0))
    if policy != "noeviction":
        return Finding.failed(
            check,
            f"maxmemory-policy is {policy}: when memory is short, Redis removes jobs",
            "redis-cli CONFIG SET maxmemory-policy noeviction, and set it in redis.conf",
        )
    used = int(info["used_memory"])
    if limit and used > _MOST_FULL * limit:
        return Finding.warning(
            check,
            f"{used} of {limit} bytes are used; when they are full, no job is accepted",
            "raise maxmemory, or lower MASKLINE_JOB_EXPIRY",
        )
    return Finding.ok(check, f"it evicts nothing, and uses {used / 1e6:.3g} MB")


def _clock(clock_s: int) -> Finding:
    skew_s = clock_s - time.time()
    # Redis tells whole seconds here.
    if abs(skew_s) > _MOST_SKEW_S:
        return Finding.warning(
            "redis clock",
            f"it differs from this machine's by {skew_s:+.0f} s; times of jobs are Redis' own",
            "let both machines take their time from NTP",
        )
    return Finding.ok("redis clock", "as this machine's")


def _neighbours(connection: RedisConnection) -> Finding:
    check = "redis database"
    with translated():
        seen = list(islice(connection.redis.scan_iter(count=1000), _SCANNED_KEYS))
    foreign = [key for key in seen if not key.startswith(connection.prefix)]
    if foreign:
        return Finding.warning(
            check,
            f"of {len(seen)} keys looked at, {len(foreign)} are not Maskline's, such as {foreign[0]!r}",
            "give Maskline a database of its own: another number at the end of MASKLINE_REDIS_URL",
        )
    return Finding.ok(check, "Maskline has it to itself")


def _records(connection: RedisConnection) -> Finding:
    check = "redis records"
    with translated():
        epoch, rebuilder = connection.redis.mget(
            f"{connection.prefix}epoch", f"{connection.prefix}leader:rebuild"
        )
    if epoch:
        return Finding.ok(check, f"whole; this is their epoch {epoch}")
    if rebuilder:
        return Finding.warning(
            check,
            f"they are gone, and {rebuilder} makes them anew from the bucket; until then calls get 503",
            "wait for it; its log says when the records are made anew",
        )
    return Finding.failed(
        check,
        "there are none, and no worker makes them anew from the bucket; until then calls get 503",
        "start a worker: python -m worker, with these settings; its log says what hinders it",
    )
