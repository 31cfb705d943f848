"""``python -m worker``: a worker, set up by the environment."""

import os
import sys

from celery import signals

from maskline.errors import DependencyError
from maskline.log import configure_logging
from maskline.settings import Settings, SettingsError
from worker.runtime import Runtime
from worker.tasks import register_tasks


def main() -> None:
    """Run until a signal ends it: SIGTERM lets it finish what it holds."""
    try:
        settings = Settings.from_env(os.environ)
        configure_logging(settings.log_level, settings.log_format, settings.secrets())
        # A receiver keeps Celery from setting up logging of its own.
        signals.setup_logging.connect(lambda **_: None, weak=False)
        runtime = Runtime(settings)
        runtime.start()
    except (SettingsError, DependencyError) as error:
        sys.exit(f"maskline worker: {error}")
    register_tasks(runtime.celery, runtime)
    runtime.celery.worker_main(
        [
            "worker",
            "--pool=threads",
            f"--concurrency={runtime.slots.threads}",
            f"--hostname={runtime.name}",
            "--without-gossip",
            "--without-mingle",
            f"--loglevel={settings.log_level}",
        ]
    )


if __name__ == "__main__":
    main()
