"""The Celery tasks: each takes a name of what is to be done, and nothing big."""

from typing import Any

from celery import Celery, signals
from celery.worker.request import Request

from maskline.adapters.celery_queue import is_bulk, kind_of
from maskline.batches import EXPORT_BATCH_TASK, RUN_CHUNK_TASK
from maskline.jobs import RENDER_OVERLAY_TASK, SEGMENT_TASK
from maskline.requests import Priority
from worker.runtime import Runtime


def register_tasks(app: Celery, runtime: Runtime) -> None:
    """Tie the tasks and the worker's life to ``runtime``."""

    def segment(task: Any, _hinted_id: str) -> None:  # noqa: ANN401 (celery has no types)
        # That job may have ended or be gone; the message stands for one of its kind all the same.
        kind = kind_of(_queue(task.request))
        with runtime.slots.one(kind.priority):
            if not runtime.slots.is_closing:  # else the sweeper sends another message
                runtime.runner.run(kind)

    def run_chunks(model: str) -> None:
        with runtime.slots.one(Priority.BULK):
            runtime.chunk_runner.run(model)

    def export_batch(tenant: str, batch_id: str, asked: str) -> None:
        with runtime.slots.one(Priority.BULK):
            runtime.exporter.export(tenant, batch_id, asked)

    def note_taken(request: Request, **_: object) -> None:
        if is_bulk(_queue(request)):
            runtime.slots.note_bulk_taken()

    def note_done(task: Any, **_: object) -> None:  # noqa: ANN401
        if is_bulk(_queue(task.request)):
            runtime.slots.note_bulk_done()

    app.task(segment, name=SEGMENT_TASK, bind=True)
    app.task(run_chunks, name=RUN_CHUNK_TASK)
    app.task(export_batch, name=EXPORT_BATCH_TASK)
    app.task(runtime.paint_overlay, name=RENDER_OVERLAY_TASK)
    # Weak references to these would be gone at once.
    signals.task_received.connect(note_taken, weak=False)
    signals.task_postrun.connect(note_done, weak=False)
    signals.worker_shutting_down.connect(lambda **_: runtime.stop_within_grace(), weak=False)
    signals.worker_shutdown.connect(lambda **_: runtime.stop(), weak=False)


def _queue(request: Any) -> str:  # noqa: ANN401
    return str(request.delivery_info["routing_key"])
