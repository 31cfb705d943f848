"""The Celery tasks: each takes a job's id and nothing else."""

from celery import Celery, signals

from maskline.jobs import RENDER_OVERLAY_TASK, SEGMENT_TASK
from worker.runtime import Runtime


def register_tasks(app: Celery, runtime: Runtime) -> None:
    """Tie the tasks and the worker's life to ``runtime``."""
    app.task(runtime.runner.run, name=SEGMENT_TASK)
    app.task(runtime.paint_overlay, name=RENDER_OVERLAY_TASK)
    # Weak references to these would be gone at once.
    signals.worker_shutting_down.connect(lambda **_: runtime.stop_within_grace(), weak=False)
    signals.worker_shutdown.connect(lambda **_: runtime.stop(), weak=False)
