"""Tenants side by side: what bulk jobs of some cost the interactive jobs of others."""

import random
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from bench.figure import Figure, print_figures
from bench.service import data_folder, jpeg
from maskline import Client, Prompt
from maskline.local import Stack
from maskline.requests import Priority
from maskline.resources import JobResource

TENANTS = 24  # half of them with bulk jobs alone
BULK_EACH = 150
SECONDS = 40.0
_PAUSE_S = 8.0  # of an interactive tenant, on average
_IMAGE = jpeg(480, 360)
_PROMPT = Prompt(label="box", box=(110, 80, 370, 280))
_PARAMETERS = {"iterations": 6}


def measure() -> list[Figure]:
    """The interactive jobs' 95th percentile with bulk jobs, less that without, in runs of the model."""
    with data_folder() as folder, Stack(folder) as stack:
        with Client(stack.url, stack.api_key) as admin:
            keys = [
                admin.create_key(f"tenant {number}", tenant=f"tenant-{number}").key
                for number in range(TENANTS)
            ]
        bulk_keys, interactive_keys = keys[: TENANTS // 2], keys[TENANTS // 2 :]
        alone = _interactive(stack, interactive_keys)
        bulk = _submit_bulk(stack, bulk_keys)
        beside = _interactive(stack, interactive_keys)
        with Client(stack.url, bulk_keys[0]) as client:
            ran = [job for job in (client.get(job_id) for job_id in bulk) if job.timings is not None]
            waits = client.get(bulk[-1]).state == "queued"
    assert waits, "the bulk jobs were over too soon"
    assert ran, "no bulk job had its turn"
    run_s = statistics.median(job.timings.model for job in ran if job.timings) / 1000
    added_s = _p95(beside) - _p95(alone)
    print(
        f"{len(alone)} and {len(beside)} interactive jobs; p95 {_p95(alone):.3f} s alone, "
        f"{_p95(beside):.3f} s beside bulk ones of {TENANTS // 2} tenants; a run of the model: {run_s:.3f} s",
        flush=True,
    )
    return [
        Figure(
            name=f"{TENANTS} tenants: interactive p95 under bulk load less that without, in model runs",
            measured=added_s / run_s,
            target=1,
            unit="x",
            better="lower",
        )
    ]


def _submit_bulk(stack: Stack, keys: list[str]) -> list[str]:
    """Many bulk jobs of each tenant; the ids of the first tenant's."""

    def submit(key: str) -> list[str]:
        with Client(stack.url, key) as client:
            return [
                client.submit(
                    _IMAGE, prompts=[_PROMPT], parameters=_PARAMETERS, priority=Priority.BULK, use_cache=False
                ).id
                for _ in range(BULK_EACH)
            ]

    with ThreadPoolExecutor(2) as threads:
        return next(iter(threads.map(submit, keys)))


def _interactive(stack: Stack, keys: list[str]) -> list[JobResource]:
    """The jobs that the tenants submit one by one, with pauses; ended."""
    done: list[JobResource] = []

    def work(number: int, key: str) -> None:
        chance = random.Random(number)
        end = time.monotonic() + SECONDS
        with Client(stack.url, key) as client:
            while time.monotonic() < end:
                time.sleep(chance.uniform(0, 2 * _PAUSE_S))
                job = client.submit(_IMAGE, prompts=[_PROMPT], parameters=_PARAMETERS, use_cache=False)
                done.append(client.wait(job.id))

    threads = [threading.Thread(target=work, args=pair) for pair in enumerate(keys)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return done


def _p95(jobs: list[JobResource]) -> float:
    """Seconds from the submission to the end."""
    lasted = sorted((job.finished_at - job.created_at).total_seconds() for job in jobs if job.finished_at)
    return lasted[int(len(lasted) * 0.95)]


if __name__ == "__main__":
    print_figures(measure())
