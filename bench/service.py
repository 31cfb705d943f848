"""The service as a whole: how fast it takes jobs and tells of them, and what it adds to the model's time."""

import os
import shutil
import signal
import statistics
import subprocess
import sysconfig
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
from PIL import Image

from bench.figure import Figure, print_figures
from bench.load import rate, request_bytes, unique_body
from maskline import Client, Prompt
from maskline.local import Stack
from maskline.local.ports import HOST, free_port
from maskline.resources import JobResource

CONNECTIONS = 8
ROUND_S = 2.0
ROUNDS = 5
CLIENTS = 4
JOBS_PER_CLIENT = 50
_KB = 1024
_ROOM_BYTES = 4 << 30
_ROUND_BYTES = 256 << 20


def jpeg(width: int, height: int, size: int | None = None) -> bytes:
    """A noisy JPEG, padded to ``size`` bytes."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 60, (height, width, 3), np.uint8)
    pixels[height // 4 : height * 3 // 4, width // 4 : width * 3 // 4] += 150
    out = BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=60)
    data = out.getvalue()
    return data if size is None else data + bytes(size - len(data))


@contextmanager
def data_folder() -> Iterator[Path]:
    """A folder for a stack, in memory where there is room: a shared disk takes from 0.03 to 0.9 ms to make a
    file, by what else it did of late, and that would be all that is measured."""
    memory = Path("/dev/shm")
    in_memory = memory.is_dir() and shutil.disk_usage(memory).free > _ROOM_BYTES
    with tempfile.TemporaryDirectory(dir=memory if in_memory else None) as folder:
        print(f"data in {folder} ({'memory' if in_memory else 'a disk'})", flush=True)
        yield Path(folder)


@contextmanager
def bare_gunicorn() -> Iterator[str]:
    """A bare Flask view under the API's own gunicorn settings."""
    port = free_port()
    gunicorn = shutil.which("gunicorn", path=sysconfig.get_path("scripts")) or "gunicorn"
    command = [gunicorn, "-c", "python:api.gunicorn_config", "--bind", f"{HOST}:{port}", "bench.bare:app"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while process.poll() is None:
            try:
                httpx.get(f"http://{HOST}:{port}/")
                break
            except httpx.ConnectError:
                time.sleep(0.05)
        yield f"http://{HOST}:{port}"
    finally:
        process.terminate()
        process.wait()


def touch_memory(folder: Path) -> None:
    """Use the memory that a round's files will fill.

    A virtual machine's free memory may have to be fetched from its host, a page at a time: without this a
    file in memory takes 0.5 ms longer to write, and that would be a tenth of what is measured.
    """
    file = folder / "touched"
    with file.open("wb") as out:
        for _ in range(_ROUND_BYTES >> 20):
            out.write(bytes(1 << 20))
    file.unlink()


def compare_rates(ours: tuple[str, bytes], bare: tuple[str, bytes], folder: Path) -> float:
    """Median, over rounds in turn, of our rate over the bare one; ``folder``: of the service's data."""
    ratios = []
    for _ in range(ROUNDS):
        touch_memory(folder)
        mine = rate(*ours, connections=CONNECTIONS, seconds=ROUND_S)
        theirs = rate(*bare, connections=CONNECTIONS, seconds=ROUND_S)
        ratios.append(mine / theirs)
        print(f"  {mine:7.0f} of {theirs:7.0f} requests a second", flush=True)
    return statistics.median(ratios)


def stop_worker(stack: Stack) -> int:
    """Let jobs queue up; the process that is stopped, and can go on."""
    stack.suspend_watch()
    worker = stack.process("worker-1").pid
    assert worker is not None
    os.kill(worker, signal.SIGSTOP)
    return worker


def measure_rates() -> list[Figure]:
    """Submitting and polling against a bare view."""
    image = unique_body(jpeg(320, 240, 100 * _KB - 16))
    with data_folder() as folder, Stack(folder) as stack, bare_gunicorn() as bare:
        key = {"Authorization": f"Bearer {stack.api_key}"}
        with Client(stack.url, stack.api_key) as client:
            done = client.wait(client.submit(image).id)
        print("polling a finished job:")
        polling = compare_rates(
            (stack.url, request_bytes("GET", f"/v1/jobs/{done.id}", key)),
            (bare, request_bytes("GET", "/", {})),
            folder,
        )
        worker = stop_worker(stack)  # which would take its share of the processors
        print("submitting a 100 KB JPEG:")
        body = {"Content-Type": "image/jpeg"}
        submitting = compare_rates(
            (stack.url, request_bytes("POST", "/v1/jobs", key | body, image)),
            (bare, request_bytes("POST", "/", body, image)),
            folder,
        )
        os.kill(worker, signal.SIGKILL)
        memory = api_memory_mb(stack)
    return [
        Figure(
            name="polling a finished job, rate against a bare view",
            measured=polling,
            target=0.5,
            unit="x",
            better="higher",
        ),
        Figure(
            name="submitting a 100 KB JPEG, rate against a bare view",
            measured=submitting,
            target=0.25,
            unit="x",
            better="higher",
        ),
        Figure(
            name="resident memory of an API process, after that load",
            measured=memory,
            target=150,
            unit="MB",
            better="lower",
        ),
    ]


def api_memory_mb(stack: Stack) -> float:
    """Of the largest gunicorn process."""
    master = stack.process("api").pid
    pids = Path(f"/proc/{master}/task/{master}/children").read_text().split()
    pages = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids]
    return max(pages) * os.sysconf("SC_PAGE_SIZE") / 1e6


def measure_latency() -> list[Figure]:
    """From the submission to the success, less the model's own time, with four clients."""
    image = jpeg(640, 480)
    box = Prompt(label="box", box=(150, 110, 490, 370))
    overheads: list[float] = []

    with data_folder() as folder, Stack(folder) as stack:

        def work() -> None:
            with Client(stack.url, stack.api_key) as client:
                for number in range(JOBS_PER_CLIENT + 2):
                    job = client.submit(image, prompts=[box], parameters={"iterations": 1, "maxSide": 64})
                    done = client.wait(job.id)
                    if number >= 2:
                        overheads.append(overhead_ms(done))

        threads = [threading.Thread(target=work) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    overheads.sort()
    p50, p99 = statistics.median(overheads), overheads[int(len(overheads) * 0.99)]
    name = "submit to succeeded less the model's time, 640x480, four clients"
    return [
        Figure(name=f"{name}: p50", measured=p50, target=30, unit="ms", better="lower"),
        Figure(name=f"{name}: p99", measured=p99, target=100, unit="ms", better="lower"),
    ]


def overhead_ms(job: JobResource) -> float:
    """Milliseconds of the job's life in which the model neither ran it nor was busy with another."""
    assert job.finished_at is not None
    assert job.timings is not None
    total = (job.finished_at - job.created_at).total_seconds() * 1000
    return total - job.timings.model - job.timings.batch


def measure() -> list[Figure]:
    """All of it."""
    return [*measure_rates(), *measure_latency()]


if __name__ == "__main__":
    print_figures(measure())
