"""The Celery tasks: each takes a name of what is to be done, and nothing big."""

from typing import Any

from celery import Celery, signals
from celery.worker.request import Request

from maskline.adapters.celery_queue import is_bulk
from maskline.batches import EXPORT_BATCH_TASK, RUN_CHUNK_TASK
from maskline.jobs import RENDER_OVERLAY_TASK, SEGMENT_TASK
from maskline.requests import Priority
from worker.runtime import Runtime


def register_tasks(app: Celery, runtime: Runtime) -> None:
    """Tie the tasks and the worker's life to ``runtime``."""

    def segment(task: Any, hinted_id: str) -> None:  # noqa: ANN401 (celery has no types)
        with runtime.slots.one(_priority(task.request)):
            if not runtime.slots.is_closing:  # else the sweeper sends another message
                runtime.runner.run(hinted_id)

    def run_chunks(model: str) -> None:
        with runtime.slots.one(Priority.BULK):
            runtime.chunk_runner.run(model)

    def note_taken(request: Request, **_: object) -> None:
        if _priority(request) is Priority.BULK:
            runtime.slots.note_bulk_taken()

    def note_done(task: Any, **_: object) -> None:  # noqa: ANN401
        if _priority(task.request) is Priority.BULK:
            runtime.slots.note_bulk_done()

    app.task(segment, name=SEGMENT_TASK, bind=True)
    app.task(run_chunks, name=RUN_CHUNK_TASK)
    app.task(runtime.exporter.export, name=EXPORT_BATCH_TASK)
    app.task(runtime.paint_overlay, name=RENDER_OVERLAY_TASK)
    # Weak references to these would be gone at once.
    signals.task_received.connect(note_taken, weak=False)
    signals.task_postrun.connect(note_done, weak=False)
    signals.worker_shutting_down.connect(lambda **_: runtime.stop_within_grace(), weak=False)
    signals.worker_shutdown.connect(lambda **_: runtime.stop(), weak=False)


def _priority(request: Any) -> Priority:  # noqa: ANN401
    return Priority.BULK if is_bulk(request.delivery_info["routing_key"]) else Priority.INTERACTIVE
