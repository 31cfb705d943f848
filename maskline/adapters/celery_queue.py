"""The task queue: Celery over Redis.

A message is taken out of Redis for good when a worker receives it, and is gone if that worker dies before it
claims the job. Kombu's emulation of acknowledgements would bring it back after hours, doubles what Redis and
the worker do for a message, and is not safe either. The job record makes all of this harmless;
``docs/architecture.md`` says how.
"""

import base64
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from itertools import chain

from celery import Celery
from kombu.entity import Exchange, Queue
from kombu.exceptions import OperationalError
from kombu.utils.scheduling import round_robin_cycle

from maskline.batches import EXPORT_BATCH_TASK, RUN_CHUNK_TASK
from maskline.errors import QueueUnavailable
from maskline.jobs import INTERACTIVE_PER_BULK, RENDER_OVERLAY_TASK, SEGMENT_TASK, Kind
from maskline.ports import Hint
from maskline.requests import Priority

_SOCKET_TIMEOUT_S = 5
_ASK_S = 0.1  # for so long one question to the broker stands, and what may be taken can't change
_OVERLAYS = "overlays"
_JOBS = "jobs"
_CHUNKS = "chunks"
_EXPORTS = "exports"


def make_celery(
    redis_url: str, prefix: str, models: Iterable[str] = (), takes_bulk: Callable[[], bool] = lambda: True
) -> Celery:
    """The Celery application; it connects on first use.

    ``models``: those of a worker, which takes messages about their jobs and no others; ``takes_bulk``: says
    whether it takes bulk ones now.
    """
    app = Celery("maskline", broker=redis_url, set_as_current=False)
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        task_ignore_result=True,
        task_acks_late=True,  # else a worker would take messages for which it has no thread
        task_publish_retry=False,
        task_queues=[Queue(name, Exchange(name), routing_key=name) for name in queue_names(models)],
        task_default_queue=_OVERLAYS,
        worker_prefetch_multiplier=1,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        broker_connection_retry_on_startup=True,
        broker_transport_options={
            "global_keyprefix": prefix,
            "ack_emulation": False,
            "priority_steps": [0],  # the queues themselves say what comes first
            "queue_order_strategy": partial(QueueOrder, takes_bulk),
            "polling_interval": _ASK_S,
            "socket_timeout": _SOCKET_TIMEOUT_S,
            "socket_connect_timeout": _SOCKET_TIMEOUT_S,
            "socket_keepalive": True,
        },
    )
    return app


def queue_name(model: str, priority: Priority) -> str:
    """The Celery queue for jobs of a model and a priority."""
    return f"{_JOBS}.{priority}.{model}"


def kind_of(queue: str) -> Kind:
    """The kind of the jobs that a queue of ``queue_name`` is for."""
    _, priority, model = queue.split(".", 2)
    return Kind(model, Priority(priority))


def queue_names(models: Iterable[str]) -> list[str]:
    """Every queue that a worker with these models serves."""
    of_models = ([queue_name(model, Priority.INTERACTIVE), *_bulk_queues(model)] for model in models)
    return [_OVERLAYS, _EXPORTS, *chain.from_iterable(of_models)]


def chunk_queue_name(model: str) -> str:
    """The Celery queue for chunks of a model's batches."""
    return f"{_CHUNKS}.{model}"


def _bulk_queues(model: str) -> list[str]:
    return [queue_name(model, Priority.BULK), chunk_queue_name(model)]


class QueueOrder(round_robin_cycle):
    """The order in which kombu asks for messages: overlays, interactive jobs, bulk jobs and chunks.

    Models of one priority take turns. After a number of interactive messages a bulk one comes first.
    """

    def __init__(self, takes_bulk: Callable[[], bool] = lambda: True) -> None:
        """``takes_bulk``: says whether bulk ones are asked for now."""
        super().__init__()
        self._takes_bulk = takes_bulk
        self._since_bulk = 0

    def update(self, queues: Iterable[str]) -> None:
        """Serve these queues."""
        super().update(sorted(queues, key=_rank))

    def consume(self, n: int) -> list[str]:
        """The queues to ask, the one whose message is wanted most first."""
        if not self._takes_bulk():
            return [queue for queue in self.items if not is_bulk(queue)]
        if self._since_bulk >= INTERACTIVE_PER_BULK:
            return sorted(self.items, key=lambda queue: queue != _OVERLAYS and not is_bulk(queue))
        return list(self.items)

    def rotate(self, last_used: str) -> str:
        """Let the others of its rank come before the queue that gave the last message."""
        super().rotate(last_used)
        self.items.sort(key=_rank)
        self._since_bulk = 0 if is_bulk(last_used) else self._since_bulk + 1
        return last_used


def is_bulk(queue: str) -> bool:
    """Whether a queue is for bulk jobs, chunks or exports."""
    return queue == _EXPORTS or queue.startswith((f"{_JOBS}.{Priority.BULK}.", f"{_CHUNKS}."))


def _rank(queue: str) -> int:
    if queue == _OVERLAYS:
        return 0
    return 2 if is_bulk(queue) else 1


class CeleryTaskQueue:
    """``TaskQueue`` over Celery. Tasks are sent by name, so the sender needs none of the worker's code."""

    def __init__(self, app: Celery) -> None:
        """``app``: of ``make_celery``."""
        self._app = app

    def publish_job(self, hint: Hint) -> None:
        self._send(SEGMENT_TASK, queue_name(hint.model, hint.priority), hint.job_id)

    def publish_overlay(self, job_id: str) -> None:
        self._send(RENDER_OVERLAY_TASK, _OVERLAYS, job_id)

    def publish_chunks(self, model: str, workers: int) -> None:
        queue = chunk_queue_name(model)
        for _ in range(workers - self._backlog(queue)):
            self._send(RUN_CHUNK_TASK, queue, model)

    def publish_export(self, tenant: str, batch_id: str, export: str) -> None:
        self._send(EXPORT_BATCH_TASK, _EXPORTS, tenant, batch_id, export)

    def backlog(self, hint: Hint) -> int:
        return self._backlog(queue_name(hint.model, hint.priority))

    def _backlog(self, queue: str) -> int:
        with _translated(), self._app.pool.acquire(block=True) as connection:
            try:
                return int(connection.default_channel.queue_declare(queue, passive=True).message_count)
            except connection.channel_errors:  # a queue without messages does not exist in Redis
                return 0

    def _send(self, task: str, queue: str, *arguments: str) -> None:
        with _translated():
            self._app.send_task(task, args=arguments, queue=queue, retry=False, ignore_result=True)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (OperationalError, OSError) as error:
        raise QueueUnavailable("the queue does not answer; try again in a moment") from error


class CeleryHints:
    """The messages that ``CeleryTaskQueue`` would send for jobs, for the job store to push by itself.

    So a job is recorded and published in one step, and publishing costs next to nothing. The form is Celery's
    message protocol 2 in the envelope of kombu's virtual transports; a test holds it against Celery's own.
    """

    def __init__(self, prefix: str) -> None:
        """``prefix``: of the keys in Redis."""
        self._prefix = prefix

    def __call__(self, hint: Hint) -> tuple[str, str]:
        """The list of the broker, and the message that tells the workers of the job."""
        queue = queue_name(hint.model, hint.priority)
        body = base64.b64encode(json.dumps([[hint.job_id], {}, _CANVAS]).encode()).decode()
        message = _message(queue).replace(_BODY, body).replace(_TASK_ID, hint.job_id)
        return f"{self._prefix}{queue}", message


_BODY, _TASK_ID = "<body>", "<id>"  # no model is named like that
_CANVAS = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


@lru_cache(maxsize=64)
def _message(queue: str) -> str:
    """A message for this queue, with ``_BODY`` and ``_TASK_ID`` where these go."""
    message = {
        "body": _BODY,
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {
            "lang": "py",
            "task": SEGMENT_TASK,
            "id": _TASK_ID,
            "root_id": _TASK_ID,
            "parent_id": None,
            "group": None,
            "retries": 0,
            "eta": None,
            "expires": None,
            "timelimit": [None, None],
            "ignore_result": True,
        },
        "properties": {
            "correlation_id": _TASK_ID,
            "reply_to": "",
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": queue},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": _TASK_ID,
        },
    }
    return json.dumps(message)
