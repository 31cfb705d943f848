"""Batches against their targets: ``python -m bench.bulk [IMAGES [LINES [ITEMS [KILLS]]]]``.

Small images through the whole service, against a bare loop of the same model; a manifest of a million lines,
and what it costs in time, memory and Redis; a worker that is killed again and again.
"""

import json
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
import redis
from PIL import Image

from bench.figure import Figure, print_figures
from bench.memory import forget_peak, peak_mb
from maskline import Client
from maskline.batch_resources import BatchResource, BatchStatus, NewBatch
from maskline.catalog import load_catalog
from maskline.cli.demo import photos
from maskline.image_header import ImageLimits
from maskline.local import Stack
from maskline.requests import Prompt, Subtask
from maskline.settings import Settings
from maskline.weights import WeightStore
from worker.decoding import decode
from worker.family import Resources, SegmentationInput
from worker.masks import render_category_mask, render_confidence_mask
from worker.registry import load_family

IMAGES, LINES, ITEMS, KILLS = 10_000, 1_000_000, 5_000, 20
_SIDE = 96
_BOX = (20.0, 20.0, 76.0, 76.0)
_PROMPTS = (Prompt(label="thing", box=_BOX),)
_IN_PACK = 512
_LOOK_S = 0.2
_BARE = 1000  # images of the bare loop, before and after
_THOUSAND = 1000


def measure(
    images: int = IMAGES, lines: int = LINES, items: int = ITEMS, kills: int = KILLS
) -> Iterator[Figure]:
    """The figures; with the numbers of the targets this takes about a quarter of an hour."""
    yield from _overhead(images)
    yield from _manifest(lines)
    yield from _kills(items, kills)


def _overhead(count: int) -> Iterator[Figure]:
    images = [_picture(number) for number in range(count)]
    bare_s = [_bare_s(images[:_BARE])]
    with _service() as (_, client):
        ended: list[tuple[float, int]] = []
        began = time.perf_counter()
        batch = _begin(client, images)
        done = _watch(client, batch.id, lambda one: ended.append((time.perf_counter(), one.counts.succeeded)))
        spent_s = time.perf_counter() - began
        assert done.counts.succeeded == count, done
    bare_s.append(_bare_s(images[-_BARE:]))
    each_s = sum(bare_s) / 2
    yield Figure(
        name=f"{count} images of {_SIDE} x {_SIDE}, an item against a bare loop of the model and the masks",
        measured=spent_s / count / each_s,
        target=1.1,
        unit="x",
        better="lower",
    )
    few = min(_THOUSAND, count // 3)
    first_s = _when(ended, few) - began
    last_s = ended[-1][0] - _when(ended, count - few)
    yield Figure(
        name=f"the last {few} of them against the first",
        measured=last_s / first_s,
        target=1.1,
        unit="x",
        better="lower",
    )


def _manifest(lines: int) -> Iterator[Figure]:
    with _service() as (stack, client), tempfile.TemporaryFile() as manifest:
        image = _picture(0)
        for number in range(lines):
            place = {"pack": 1, "offset": 0, "length": len(image)}
            manifest.write(
                json.dumps({"id": f"photos/2026/IMG_{number:08d}.jpg", "image": place}).encode() + b"\n"
            )
        _watch(client, _begin(client, [image] * 64).id)  # the model is loaded
        worker, apis = stack.process("worker-1").pid, _children(stack.process("api").pid)
        assert worker is not None
        before = {pid: _resident_mb(pid) for pid in (worker, *apis)}
        for pid in before:
            forget_peak(pid)
        server = redis.Redis.from_url(stack.environment["MASKLINE_REDIS_URL"])
        memory = int(server.info("memory")["used_memory"])
        batch = client.batches.create(NewBatch(prompts=_PROMPTS))
        client.batches.put_pack(batch.id, 1, image)
        manifest.seek(0)
        began = time.perf_counter()
        response = httpx.put(
            f"{stack.url}/v1/batches/{batch.id}/parts/1",
            content=iter(lambda: manifest.read(1 << 18), b""),
            headers={"Authorization": f"Bearer {stack.api_key}"},
            timeout=300,
            trust_env=False,
        )
        response.raise_for_status()
        client.batches.complete(batch.id)
        accepted_s = time.perf_counter() - began
        first_s = all_read_s = 0.0
        while not (first_s and all_read_s):
            seen = client.batches.get(batch.id)
            now_s = time.perf_counter() - began
            first_s = first_s or (now_s if seen.counts.succeeded else 0.0)
            all_read_s = all_read_s or (now_s if seen.is_all_read else 0.0)
            time.sleep(_LOOK_S)
        assert seen.items == lines, seen
        growth = (int(server.info("memory")["used_memory"]) - memory) / lines
        peaks = {pid: peak_mb(pid) - mb for pid, mb in before.items()}
        client.batches.cancel(batch.id)
    yield Figure(name=f"{lines} lines accepted", measured=accepted_s, target=30, unit="s", better="lower")
    yield Figure(name="first results of them after", measured=first_s, target=10, unit="s", better="lower")
    yield Figure(name="all of them read after", measured=all_read_s, target=60, unit="s", better="lower")
    yield Figure(
        name="the worker's memory over what it was",
        measured=peaks[worker],
        target=300,
        unit="MB",
        better="lower",
    )
    yield Figure(
        name="the API's, of the process that grew most",
        measured=max(peaks[pid] for pid in apis),
        target=300,
        unit="MB",
        better="lower",
    )
    yield Figure(name="Redis for an item", measured=growth, target=64, unit="B", better="lower")


def _kills(count: int, kills: int) -> Iterator[Figure]:
    images = [_picture(number) for number in range(count)]
    with _service({"MASKLINE_LEASE": "2"}) as (stack, client):
        batch = _begin(client, images)
        done = 0

        def kill(seen: BatchResource) -> None:
            nonlocal done
            if done < kills and seen.counts.succeeded >= (done + 1) * count / (kills + 2):
                pid = stack.process("worker-1").pid
                if pid is not None:
                    os.killpg(pid, signal.SIGKILL)
                    done += 1

        _watch(client, batch.id, kill)
        assert done == kills, f"only {done} kills"
        ids = Counter(result.id for result in client.batches.results(batch.id))
        log = (stack.log_dir / "worker-1.log").read_text()
        chunks = max(shard.number for shard in client.batches.shards(batch.id).shards)
        begun = sum(line.count('"event": "chunk begun"') for line in log.splitlines())
    yield Figure(
        name=f"{count} items, the worker killed {kills} times: lost",
        measured=count - len(ids),
        target=0,
        unit="",
        better="lower",
    )
    yield Figure(
        name="written twice", measured=sum(n - 1 for n in ids.values()), target=0, unit="", better="lower"
    )
    yield Figure(
        name="chunks run again for a kill",
        measured=(begun - chunks) / kills,
        target=1,
        unit="",
        better="lower",
    )


@contextmanager
def _service(environment: dict[str, str] | None = None) -> Iterator[tuple[Stack, Client]]:
    with (
        tempfile.TemporaryDirectory() as folder,
        Stack(Path(folder), environment=environment) as stack,
        Client(stack.url, stack.api_key) as client,
    ):
        yield stack, client


def _begin(client: Client, images: list[bytes]) -> BatchResource:
    """A batch of these images, all of which are uploaded."""
    batch = client.batches.create(NewBatch(prompts=_PROMPTS))
    for number, start in enumerate(range(0, len(images), _IN_PACK), 1):
        pack, items, offset = images[start : start + _IN_PACK], [], 0
        for index, image in enumerate(pack, start):
            items.append(
                {"id": f"{index}", "image": {"pack": number, "offset": offset, "length": len(image)}}
            )
            offset += len(image)
        client.batches.put_pack(batch.id, number, b"".join(pack))
        client.batches.put_part(batch.id, number, "\n".join(map(json.dumps, items)).encode())
    return client.batches.complete(batch.id)


def _watch(client: Client, batch_id: str, look: object = None) -> BatchResource:
    while True:
        batch = client.batches.get(batch_id)
        if callable(look):
            look(batch)
        if batch.state not in {BatchStatus.QUEUED, BatchStatus.RUNNING}:
            assert batch.state is BatchStatus.SUCCEEDED, batch
            return batch
        time.sleep(_LOOK_S)


def _when(ended: list[tuple[float, int]], count: int) -> float:
    """About when so many had ended."""
    times, counts = zip(*ended, strict=True)
    return float(np.interp(count, counts, times))


def _bare_s(images: list[bytes]) -> float:
    """Seconds of an image in a loop that decodes it, runs the model, and makes the masks' files."""
    family = load_family("grabcut")
    model = family.load(load_catalog()["grabcut"], Resources(weights=WeightStore(Path())))
    limits = ImageLimits.from_settings(Settings())
    began = time.perf_counter()
    for number, image in enumerate(images):
        given = SegmentationInput(
            image=decode(image, limits, auto_orient=True),
            image_key=str(number),
            prompts=_PROMPTS,
            subtask=Subtask.INSTANCE,
            parameters=family.Parameters(),
        )
        [segmentation] = model.segment([given])
        render_category_mask(segmentation)
        render_confidence_mask(segmentation)
    return (time.perf_counter() - began) / len(images)


_PHOTOS = tuple(
    np.asarray(Image.open(photos() / name).convert("RGB"))
    for name in ("coffee.png", "chelsea.png", "astronaut.png")
)


def _picture(number: int) -> bytes:
    """A JPEG of a part of a photo."""
    photo = _PHOTOS[number % len(_PHOTOS)]
    chance = np.random.default_rng(number)
    top, left = (int(chance.integers(0, size - 240)) for size in photo.shape[:2])
    file = BytesIO()
    part = Image.fromarray(photo[top : top + 240, left : left + 240]).resize((_SIDE, _SIDE))
    part.save(file, "JPEG", quality=90)
    return file.getvalue()


def _children(pid: int | None) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _resident_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


if __name__ == "__main__":
    print_figures(measure(*map(int, sys.argv[1:])))
