"""The task queue: Celery over Redis.

The settings follow from how the Redis transport behaves: a message can be lost between two of its steps,
is delivered again when it stays unacknowledged for longer than the visibility timeout, and may come twice.
The job record makes all of this harmless; ``docs/architecture.md`` says how.
"""

import base64
import json
from uuid import uuid4

from celery import Celery
from kombu.entity import Queue
from kombu.exceptions import OperationalError

from maskline.errors import QueueUnavailable
from maskline.jobs import RENDER_OVERLAY_TASK, SEGMENT_TASK
from maskline.requests import Priority

_SOCKET_TIMEOUT_S = 5
_VISIBILITY_PER_DEADLINE = 4  # a job within its deadline must never be delivered a second time


def make_celery(redis_url: str, prefix: str, job_deadline_s: float) -> Celery:
    """The Celery application that both sides share; it connects on first use."""
    app = Celery("maskline", broker=redis_url, set_as_current=False)
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_publish_retry=False,
        task_queues=[Queue(queue_name(priority)) for priority in Priority],
        task_default_queue=queue_name(Priority.INTERACTIVE),
        task_create_missing_queues=False,
        worker_prefetch_multiplier=1,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        broker_connection_retry_on_startup=True,
        broker_transport_options={
            "global_keyprefix": prefix,
            "visibility_timeout": int(job_deadline_s * _VISIBILITY_PER_DEADLINE),
            "queue_order_strategy": "priority",
            "socket_timeout": _SOCKET_TIMEOUT_S,
            "socket_connect_timeout": _SOCKET_TIMEOUT_S,
            "socket_keepalive": True,
        },
    )
    return app


def queue_name(priority: Priority) -> str:
    """The Celery queue for jobs of a priority."""
    return f"jobs.{priority}"


class CeleryTaskQueue:
    """``TaskQueue`` over Celery. Tasks are sent by name, so the sender needs none of the worker's code."""

    def __init__(self, app: Celery) -> None:
        """``app``: of ``make_celery``."""
        self._app = app

    def publish_job(self, job_id: str, priority: Priority) -> None:
        self._send(SEGMENT_TASK, job_id, queue_name(priority))

    def publish_overlay(self, job_id: str) -> None:
        self._send(RENDER_OVERLAY_TASK, job_id, queue_name(Priority.INTERACTIVE))

    def _send(self, task: str, job_id: str, queue: str) -> None:
        try:
            self._app.send_task(task, args=(job_id,), queue=queue, retry=False, ignore_result=True)
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

    def __call__(self, job_id: str, priority: Priority) -> tuple[str, str]:
        """The list of the broker, and the message that tells the workers of the job."""
        queue, task_id = queue_name(priority), str(uuid4())
        canvas = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
        body = json.dumps([[job_id], {}, canvas]).encode()
        message = {
            "body": base64.b64encode(body).decode(),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {
                "lang": "py",
                "task": SEGMENT_TASK,
                "id": task_id,
                "root_id": task_id,
                "parent_id": None,
                "group": None,
                "retries": 0,
                "eta": None,
                "expires": None,
                "timelimit": [None, None],
                "ignore_result": True,
            },
            "properties": {
                "correlation_id": task_id,
                "reply_to": "",
                "delivery_mode": 2,
                "delivery_info": {"exchange": queue, "routing_key": queue},
                "priority": 0,
                "body_encoding": "base64",
                "delivery_tag": task_id,
            },
        }
        return f"{self._prefix}{queue}", json.dumps(message)
