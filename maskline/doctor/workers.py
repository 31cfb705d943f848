"""The workers: whether any live, and which models they offer."""

from collections.abc import Iterator

from maskline.adapters.redis_connection import RedisConnection
from maskline.adapters.redis_jobs import RedisJobStore
from maskline.adapters.redis_models import RedisModelDirectory
from maskline.doctor.finding import Finding
from maskline.errors import JobStoreUnavailable
from maskline.settings import Settings

_MOST_FULL = 0.8


def look(settings: Settings) -> Iterator[Finding]:
    """Findings about the living workers; none where Redis does not answer, which is told elsewhere."""
    connection = RedisConnection(settings.redis_url, settings.redis_prefix)
    store = RedisJobStore(connection, idempotency_expiry_s=settings.idempotency_expiry)
    try:
        directory = RedisModelDirectory(connection)
        names, offered, known = directory.alive(), directory.available(), set(directory.cards())
        depth = store.queue_depth()
    except JobStoreUnavailable:
        return
    finally:
        store.close()
        connection.close()
    yield _alive(names)
    if names:
        yield _models(offered, known, settings)
    yield _queue(depth, settings)


def _alive(names: set[str]) -> Finding:
    if not names:
        return Finding.failed(
            "workers",
            "none gives signs of life: jobs are accepted, and wait",
            "start one: python -m worker, with these settings; its log says why it does not stay",
        )
    return Finding.ok("workers", f"alive: {', '.join(sorted(names))}")


def _models(offered: set[str], known: set[str], settings: Settings) -> Finding:
    check = "models"
    if settings.default_model not in offered:
        return Finding.failed(
            check,
            f"no worker offers the default model {settings.default_model!r}",
            "start a worker that has it, or set MASKLINE_DEFAULT_MODEL to one of: "
            f"{', '.join(sorted(offered))}",
        )
    if silent := sorted(known - offered):
        return Finding.warning(
            check,
            f"no living worker offers {', '.join(silent)}, which one offered before: their jobs wait",
            "start a worker that has them",
        )
    return Finding.ok(check, f"offered: {', '.join(sorted(offered))}")


def _queue(depth: int, settings: Settings) -> Finding:
    if depth > _MOST_FULL * settings.max_queued:
        return Finding.warning(
            "queue",
            f"{depth} jobs wait; from {settings.max_queued} on more are refused",
            "start more workers, or raise MASKLINE_MAX_QUEUED",
        )
    return Finding.ok("queue", f"{depth} jobs wait")
