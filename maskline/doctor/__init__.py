"""``maskline doctor``: looks at all that the service stands on, says what is wrong and how to mend it.

Each module looks at one part and changes nothing there, but for one small object that it puts into the bucket
and removes again.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from maskline.doctor import bucket, job_store, machine, timing, workers
from maskline.doctor.finding import Finding, Health
from maskline.settings import Settings, SettingsError

__all__ = ["Finding", "Health", "examine"]

Look = Callable[[Settings], Iterator[Finding]]

_LOOKS: tuple[Look, ...] = (timing.look, job_store.look, bucket.look, workers.look, machine.look)


def examine(environ: Mapping[str, str], data_dir: Path | None = None) -> Iterator[Finding]:
    """Every finding, part by part; ``data_dir``: of the embedded stack, where the service is one."""
    try:
        settings = Settings.from_env(environ)
    except SettingsError as error:
        yield Finding.failed("settings", str(error), "correct or unset these variables")
        return
    yield Finding.ok("settings", "every variable is a setting, and has a value that it takes")
    for look in _LOOKS:
        yield from look(settings)
    if data_dir is not None:
        yield from machine.look_at_disk("disk of the stack", data_dir)
