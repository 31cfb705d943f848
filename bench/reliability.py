"""``python -m bench.reliability``: what finished jobs cost Redis."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import redis

from bench.figure import Figure, print_figures
from maskline.adapters.celery_queue import CeleryHints
from maskline.adapters.redis_connection import RedisConnection
from maskline.adapters.redis_jobs import RedisJobStore
from maskline.artifacts import submission_key
from maskline.jobs import ImageRef, Job, Outcome, Timings, new_job_id
from maskline.local.ports import HOST, free_port
from maskline.local.redis_server import redis_process
from maskline.ports import Hint, Idempotency
from maskline.requests import Prompt, SegmentationRequest, Subtask

JOBS = 10_000
MOST_KB = 2.0
_PREFIX = "maskline:"
_HINTS = CeleryHints(_PREFIX)
_WEEK_MS = 7 * 24 * 3600 * 1000
_TIMINGS = Timings(
    queue=12.345, fetch=3.456, decode=14.567, model=123.456, batch=23.456, render=9.876, store=11.234
)


@contextmanager
def own_redis() -> Iterator[str]:
    """The URL of a Redis like the embedded stack's, with nothing in it."""
    with TemporaryDirectory() as folder:
        port = free_port()
        server = redis_process(port, Path(folder), Path(folder, "log"))
        server.start()
        try:
            server.wait_until_ready(10)
            yield f"redis://{HOST}:{port}/0"
        finally:
            server.stop()


def make_job() -> Job:
    """A job as the API makes one of an upload with two prompts."""
    job_id = new_job_id()
    return Job(
        id=job_id,
        tenant="default",
        request=SegmentationRequest(
            model="sam_vit_b",
            subtask=Subtask.INSTANCE,
            prompts=(
                Prompt(label="cup", box=(66.5, 10.25, 486, 392), points=((225, 256), (333.5, 245))),
                Prompt(label="spoon", box=(320, 250, 412, 368)),
            ),
            parameters={"confidenceThreshold": 0.4},
            metadata={"customer": "4711", "file": "coffee-000123.jpg"},
        ),
        image=ImageRef(
            key=submission_key(job_id, "jpg"),
            sha256=(job_id * 2),
            media_type="image/jpeg",
            width=4032,
            height=3024,
        ),
        result_fingerprint=job_id,
        expires_ms=_WEEK_MS,
    )


def finish_jobs(url: str, count: int, *, with_keys: bool) -> float:
    """Bytes of Redis for each of so many jobs, made, claimed and finished through the real store.

    ``with_keys``: each is sent with an idempotency key.
    """
    connection = RedisConnection(url, _PREFIX)
    store = RedisJobStore(connection, idempotency_expiry_s=24 * 3600, make_message=_HINTS)
    store.begin_epoch(store.begin_rebuild(), 1)
    _finish_one(store, connection, None)  # what is there once, such as the scripts
    before = _used_bytes(connection)
    for number in range(count):
        # As long as the Python client's, which sends one with every job.
        key = Idempotency(key=f"{number:036}", fingerprint="f" * 16) if with_keys else None
        _finish_one(store, connection, key)
    used = _used_bytes(connection) - before
    store.close()
    connection.close()
    return used / count


def _finish_one(store: RedisJobStore, connection: RedisConnection, key: Idempotency | None) -> None:
    job = store.create(make_job(), key, JOBS)
    connection.command("RPOP", _HINTS(Hint(job.id, job.request.model or "", job.request.priority))[0])
    claimed = store.claim(job.kind, "worker-host-12345-abcdef", 15)
    if claimed is None or not store.finish(job.id, claimed.attempt, Outcome(timings=_TIMINGS)):
        raise RuntimeError("the job was not finished")


def _used_bytes(connection: RedisConnection) -> int:
    client: redis.Redis = connection.redis
    info = client.info("memory")
    return int(info["used_memory"]) - int(info["mem_aof_buffer"]) - int(info["mem_clients_normal"])


def measure() -> list[Figure]:
    """Bytes for each job, without and with an idempotency key."""
    figures = []
    for with_keys in (False, True):
        with own_redis() as url:
            used = finish_jobs(url, JOBS, with_keys=with_keys)
        figures.append(
            Figure(
                name=f"Redis, each of {JOBS:,} finished jobs"
                + (", with idempotency keys" if with_keys else ""),
                measured=used / 1024,
                target=MOST_KB,
                unit="KB",
                better="lower",
            )
        )
    return figures


if __name__ == "__main__":
    print_figures(measure())
