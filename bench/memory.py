"""The memory of processes, as Linux tells of it."""

from pathlib import Path


def forget_peak(process: int | str = "self") -> None:
    """Begin a process's peak anew, from what it has now; ``process``: its id, or ``self``."""
    Path(f"/proc/{process}/clear_refs").write_text("5")


def peak_mb(process: int | str) -> float:
    """Most resident memory that a process ever had, in MB; ``process``: its id, or ``self``.

    Not of ``getrusage``, where a process inherits the peak of the one that started it.
    """
    status = Path(f"/proc/{process}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024
