"""Tenants side by side: what bulk jobs of some cost the interactive jobs of others."""

import json
import random
import statistics
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from bench.figure import Figure, print_figures
from bench.service import data_folder, jpeg
from maskline import Client, Prompt
from maskline.batch_resources import NewBatch
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
    """The interactive jobs' 95th percentile beside bulk work, less that without, in runs of the model."""
    return [_beside("bulk jobs", _submit_bulk), _beside("a batch of each", _submit_batches)]


def _beside(name: str, submit: Callable[[Stack, list[str]], None]) -> Figure:
    with data_folder() as folder, Stack(folder) as stack:
        with Client(stack.url, stack.api_key) as admin:
            keys = [
                admin.create_key(f"tenant {number}", tenant=f"tenant-{number}").key
                for number in range(TENANTS)
            ]
        bulk_keys, interactive_keys = keys[: TENANTS // 2], keys[TENANTS // 2 :]
        alone = _interactive(stack, interactive_keys)
        submit(stack, bulk_keys)
        beside = _interactive(stack, interactive_keys)
        assert _is_under_way(stack, bulk_keys[0]), "the bulk work was over too soon"
    run_s = statistics.median(job.timings.model for job in alone if job.timings) / 1000
    added_s = _p95(beside) - _p95(alone)
    print(
        f"{len(alone)} and {len(beside)} interactive jobs; p95 {_p95(alone):.3f} s alone, "
        f"{_p95(beside):.3f} s beside {name} of {TENANTS // 2} tenants; a run of the model: {run_s:.3f} s",
        flush=True,
    )
    return Figure(
        name=f"{TENANTS} tenants: interactive p95 beside {name} less that without, in model runs",
        measured=added_s / run_s,
        target=1,
        unit="x",
        better="lower",
    )


def _is_under_way(stack: Stack, key: str) -> bool:
    """Whether a tenant's bulk work has begun, and goes on."""
    with Client(stack.url, key) as client:
        ran = any(client.list(state="succeeded")) or any(b.counts.succeeded for b in client.batches.list())
        waits = any(client.list(state="queued")) or any(b.counts.queued for b in client.batches.list())
    return ran and waits


def _submit_bulk(stack: Stack, keys: list[str]) -> None:
    """Many bulk jobs of each tenant."""

    def submit(key: str) -> None:
        with Client(stack.url, key) as client:
            for _ in range(BULK_EACH):
                client.submit(
                    _IMAGE, prompts=[_PROMPT], parameters=_PARAMETERS, priority=Priority.BULK, use_cache=False
                )

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(submit, keys))


def _submit_batches(stack: Stack, keys: list[str]) -> None:
    """A batch of each tenant, with images that differ in a byte behind their end: none is run only once."""
    size = len(_IMAGE) + 4
    items = [
        {"id": str(n), "image": {"pack": 1, "offset": n * size, "length": size}} for n in range(BULK_EACH)
    ]
    for tenant, key in enumerate(keys):
        images = [_IMAGE + (tenant * BULK_EACH + n).to_bytes(4) for n in range(BULK_EACH)]
        with Client(stack.url, key) as client:
            batch = client.batches.create(NewBatch(prompts=(_PROMPT,), parameters=dict(_PARAMETERS)))
            client.batches.put_pack(batch.id, 1, b"".join(images))
            client.batches.put_part(batch.id, 1, "\n".join(map(json.dumps, items)).encode())
            client.batches.complete(batch.id)


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
