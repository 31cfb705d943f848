"""The models inside the whole service, against bare loops over the same model on the same threads.

Segment Anything ViT-B has random weights here: the time that it takes does not depend on them.
"""

import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from segment_anything import SamAutomaticMaskGenerator, SamPredictor, sam_model_registry
from segment_anything.modeling import Sam
from torch.nn import functional

from bench.figure import Figure, print_figures, ratio
from bench.memory import forget_peak, peak_mb
from bench.service import data_folder
from maskline import Client, Prompt
from maskline.local import Stack
from tests.sam_weights import find_blobs
from worker.hugging_face.instances import find_by_large_masks, find_by_small_masks
from worker.hugging_face.queries import Queries
from worker.hugging_face.reduction import most_likely
from worker.hugging_face.regions import ByLargeProbability, find_regions, likely_queries
from worker.masks import Composer
from worker.packed_mask import Mask
from worker.sam.everything import find_everything
from worker.sam.parameters import Everything
from worker.sam.visible import window_of
from worker.window import Window

CLASSES, SMALL, HEIGHT, WIDTH = 150, 128, 3000, 4000
PHOTOS = 20
REPEATS = 15
CLIENTS = 4
MASKS = 100
QUERIES = 100
MODEL = "bench/sam"
BOX = (100, 1500, 1500, 2900)  # where the model finds a blob of a quarter of the image


def class_scores() -> torch.Tensor:
    """Logits (150, 128, 128) as a trained model gives them: smooth, a few classes likely at each place."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(1, CLASSES, 12, 12, generator=generator) * 4 - 4
    coarse[:, :12] += 8
    return functional.interpolate(coarse, size=(SMALL, SMALL), mode="bicubic")[0].contiguous()


def by_library(scores: torch.Tensor) -> NDArray[np.int64]:
    """As ``post_process_semantic_segmentation`` does it."""
    large = functional.interpolate(scores[None], size=(HEIGHT, WIDTH), mode="bilinear", align_corners=False)
    classes: NDArray[np.int64] = large[0].argmax(0).numpy()
    return classes


def measure_semantic() -> list[Figure]:
    """150 classes of a picture of 12 megapixels."""
    scores = class_scores()
    most_likely(scores[:, :8], (100, 100), are_logits=True)
    forget_peak()
    before_mb = peak_mb("self")
    ratios: list[float] = []
    above_mb = 0.0
    for _ in range(3):
        began = time.perf_counter()
        classes, _ = most_likely(scores, (HEIGHT, WIDTH), are_logits=True)
        middle = time.perf_counter()
        above_mb = above_mb or peak_mb("self") - before_mb
        theirs = by_library(scores)
        ratios.append((time.perf_counter() - middle) / (middle - began))
        assert np.array_equal(classes, theirs)
        del theirs
    name = "semantic, 150 classes, 4000x3000:"
    return [
        Figure(
            name=f"{name} speed against the library's way",
            measured=statistics.median(ratios),
            target=3,
            unit="x",
            better="higher",
        ),
        Figure(
            name=f"{name} peak memory above the scores",
            measured=above_mb,
            target=1500,
            unit="MB",
            better="lower",
        ),
    ]


def measure_queries() -> list[Figure]:
    """A hundred queries of a picture of 12 megapixels, all of which become segments."""
    generator = torch.Generator().manual_seed(0)
    queries = Queries(
        class_logits=torch.randn(QUERIES, CLASSES + 1, generator=generator) * 4,
        mask_logits=torch.randn(QUERIES, SMALL, SMALL, generator=generator),
    )
    size = HEIGHT, WIDTH
    ways: dict[str, Callable[[], object]] = {
        "panoptic": lambda: find_regions(
            likely_queries(queries, 0.0), size, ByLargeProbability(size, 0.5), overlap_mask_area_threshold=0.0
        ),
        "instances of MaskFormer": lambda: find_by_small_masks(queries, size, threshold=0.0),
        "instances of EoMT": lambda: find_by_large_masks(queries, size, threshold=0.0),
    }
    figures = []
    for name, find in ways.items():
        forget_peak()
        before_mb = peak_mb("self")
        find()
        figures.append(
            Figure(
                name=f"{name}, 100 queries, 4000x3000: peak memory above the queries",
                measured=peak_mb("self") - before_mb,
                target=1500,
                unit="MB",
                better="lower",
            )
        )
    return figures


def blob_logits(model: Sam) -> torch.Tensor:
    """Logits (100, 256, 256) of masks as the decoder gives them: of many sizes, at many places."""
    generator = torch.Generator().manual_seed(0)
    side = model.prompt_encoder.mask_input_size[0]
    axis = torch.arange(side) + 0.5
    logits = []
    for _ in range(MASKS):
        x, y, size = torch.rand(3, generator=generator)
        distance = torch.hypot(axis - x * side, axis[:, None] - y * side)
        logits.append(3 * (side * (0.02 + 0.2 * size**2) - distance))
    return torch.stack(logits).clamp(-20, 20)


def by_loop(planes: list[NDArray[np.float32]]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Both maps, a plane after the other."""
    best = np.zeros(planes[0].shape, np.float32)
    category = np.zeros(planes[0].shape, np.uint8)
    for number, plane in enumerate(planes, 1):
        better = plane > best
        best[better] = plane[better]
        category[better] = number
    category[best < 0.5] = 0
    sure = np.where(category > 0, best, 1 - best)
    return category, np.rint(sure * 255).astype(np.uint8)


def measure_maps() -> list[Figure]:
    """A hundred masks of a picture into its two maps."""
    model = sam_model_registry["vit_b"]()
    size, input_size = (1080, 1920), (576, 1024)
    logits = blob_logits(model)
    planes = [
        np.asarray(model.postprocess_masks(one[None, None], input_size, size)[0, 0].sigmoid())
        for one in logits
    ]

    def window(one: torch.Tensor) -> Window:
        return window_of(model, one, input_size, size, 0.5)

    # As the service makes them of such masks, without the planes; to find the windows is timed.
    parts = [plane[window(one).slices].copy() for one, plane in zip(logits, planes, strict=True)]

    def ours() -> tuple[NDArray[Any], NDArray[Any]]:
        composer = Composer(*size, MASKS)
        for number, (one, part) in enumerate(zip(logits, parts, strict=True), 1):
            left, top, *_ = window(one)
            composer.add(number, part, left, top)
        return composer.maps(0.5)

    for mine, theirs in zip(ours(), by_loop(planes), strict=True):
        assert np.array_equal(mine, theirs)
    return [
        Figure(
            name="100 masks at 1920x1080 into both maps, speed against a loop over whole masks",
            measured=ratio(lambda: by_loop(planes), ours),
            target=5,
            unit="x",
            better="higher",
        )
    ]


def overlap(one: Mask, other: Mask) -> float:
    """Intersection over union."""
    return float((one & other).sum() / (one | other).sum())


@torch.inference_mode()
def blob_finder() -> Sam:
    """Segment Anything ViT-B with weights by which its masks are as local as a trained model's."""
    torch.manual_seed(0)
    model = sam_model_registry["vit_b"]()
    find_blobs(model)
    return model


@torch.inference_mode()
def measure_everything() -> list[Figure]:
    """All masks of a picture, against upstream's generator; the model finds blobs."""
    model = blob_finder()
    predictor = SamPredictor(model)
    coarse = np.random.default_rng(0).integers(0, 255, (12, 16, 3), np.uint8)
    image = np.asarray(cv2.resize(coarse, (1440, 1080), interpolation=cv2.INTER_CUBIC), np.uint8)
    parameters = Everything()
    began = time.perf_counter()
    predictor.set_image(image)
    found = find_everything(predictor, image, parameters)
    middle = time.perf_counter()
    theirs = SamAutomaticMaskGenerator(model, points_per_side=parameters.points_per_side).generate(image)
    ended = time.perf_counter()
    print(f"  {len(found)} masks in {middle - began:.0f} s; upstream {len(theirs)} in {ended - middle:.0f} s")
    assert len(found) == len(theirs)
    for one in found:  # rounding may decide a pixel of an edge
        assert max(overlap(one.inside.unpack(), other["segmentation"]) for other in theirs) > 0.999
    return [
        Figure(
            name="automatic masks, 32x32 points, speed against upstream",
            measured=(ended - middle) / (middle - began),
            target=2,
            unit="x",
            better="higher",
        )
    ]


def photos(folder: Path) -> list[Path]:
    """Different pictures of 12 megapixels as JPEG."""
    rng = np.random.default_rng(0)
    paths = []
    for number in range(PHOTOS):
        coarse = rng.integers(0, 255, (12, 16, 3), np.uint8)
        path = folder / f"{number}.jpg"
        Image.fromarray(cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)).save(path)
        paths.append(path)
    return paths


@contextmanager
def sam_service() -> Iterator[tuple[Stack, Client, Path]]:
    """The stack with a Segment Anything ViT-B that finds blobs, and a folder for files."""
    with data_folder() as folder:
        torch.save(blob_finder().state_dict(), folder / "sam.pth")
        weights = f"weights: {{path: {folder / 'sam.pth'}}}, options: {{variant: vit_b}}"
        catalog = folder / "catalog.yaml"
        catalog.write_text(f"models:\n  - {{id: {MODEL}, family: sam, displayName: SAM, {weights}}}\n")
        settings = {"MASKLINE_CATALOG_FILE": str(catalog), "MASKLINE_WORKER_MODELS": MODEL}
        with (
            Stack(folder / "stack", environment=settings) as stack,
            Client(stack.url, stack.api_key) as client,
        ):
            yield stack, client, folder


def bare_predictor(folder: Path) -> SamPredictor:
    """Upstream's predictor with the same weights."""
    return SamPredictor(sam_model_registry["vit_b"](checkpoint=str(folder / "sam.pth")))


def measure_sam() -> list[Figure]:
    """The pipeline, a second job on an image, and the worker's memory."""
    with sam_service() as (stack, client, folder):
        paths = photos(folder)
        predictor = bare_predictor(folder)
        prompt = [Prompt(label="thing", box=BOX)]
        first = client.wait(client.submit(paths[0], model=MODEL, prompts=prompt).id, timeout=300)
        second = measure_second(client, predictor, paths[0], first.timings.model if first.timings else 0)
        pipeline = measure_pipeline(client, predictor, paths)
        memory = measure_memory(stack, client, paths)
    return [*second, pipeline, memory, measure_ready()]


def measure_second(
    client: Client, predictor: SamPredictor, path: Path, first_model_ms: float
) -> list[Figure]:
    """Further prompts on an image whose embedding is kept."""
    predictor.set_image(np.asarray(Image.open(path)))
    calls, models, decodes = [], [], []
    for number in range(REPEATS):
        box = (BOX[0] + number, *BOX[1:])
        began = time.perf_counter()
        job = client.submit(path, model=MODEL, prompts=[Prompt(label="thing", box=box)], wait=30)
        calls.append(time.perf_counter() - began)
        assert job.timings is not None
        models.append(job.timings.model)
        began = time.perf_counter()
        predictor.predict(box=np.array(box), multimask_output=False)
        decodes.append(time.perf_counter() - began)
    assert client.segments(job.id).segments
    decode_s, call_s = statistics.median(decodes), statistics.median(calls)
    print(f"  a bare decoder call takes {decode_s * 1000:.0f} ms, a job {call_s * 1000:.0f}")
    return [
        Figure(
            name="second job on an image, model time against the first",
            measured=first_model_ms / statistics.median(models),
            target=30,
            unit="x",
            better="higher",
        ),
        Figure(
            name="second job on an image, call to result, against 1.3 bare decoder calls + 30 ms",
            measured=call_s / (1.3 * decode_s + 0.030),
            target=1,
            unit="x",
            better="lower",
        ),
    ]


def measure_pipeline(client: Client, predictor: SamPredictor, paths: list[Path]) -> Figure:
    """Images a second of the service against a bare loop on decoded images, one after the other."""
    fresh = paths[1:]
    began = time.perf_counter()
    jobs = [
        client.submit(path, model=MODEL, prompts=[Prompt(label="thing", box=BOX)], outputs=["categoryMask"])
        for path in fresh
    ]
    for job in jobs:
        client.wait(job.id, timeout=600)
    service_s = time.perf_counter() - began
    images = [np.asarray(Image.open(path)) for path in fresh]
    began = time.perf_counter()
    for image in images:
        predictor.set_image(image)
        predictor.predict(box=np.array(BOX), multimask_output=False)
    bare_s = time.perf_counter() - began
    print(f"  {len(fresh) / service_s:.3f} of {len(fresh) / bare_s:.3f} images a second")
    return Figure(
        name=f"pipeline, {len(fresh)} photos of 12 megapixels, rate against a bare loop",
        measured=bare_s / service_s,
        target=0.95,
        unit="x",
        better="higher",
    )


def measure_memory(stack: Stack, client: Client, paths: list[Path]) -> Figure:
    """The worker's peak under four clients, against a process that runs the encoder alone."""
    pid = stack.process("worker-1").pid

    def work(number: int) -> None:
        with Client(stack.url, stack.api_key) as own:
            own.wait(
                own.submit(paths[number], model=MODEL, prompts=[Prompt(label="x", box=BOX)]).id, timeout=300
            )

    threads = [threading.Thread(target=work, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert pid is not None
    worker_mb = peak_mb(pid)
    alone = subprocess.run(
        [sys.executable, "-m", "bench.encoder"], capture_output=True, text=True, check=True
    )
    return Figure(
        name="worker with vit_b under four clients, peak memory above one encoder's",
        measured=worker_mb - float(alone.stdout),
        target=1000,
        unit="MB",
        better="lower",
    )


def measure_ready() -> Figure:
    """From the start of a worker to its first result of a job that was waiting, less that job's own time."""
    with sam_service() as (stack, client, folder):
        stack.suspend_watch()
        worker = stack.process("worker-1")
        worker.stop()
        picture = folder / "small.png"
        Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(picture)
        job = client.submit(picture, model=MODEL, prompts=[Prompt(label="x", box=(1, 1, 60, 60))])
        began = time.time()
        worker.start()
        done = client.wait(job.id, timeout=120)
    assert done.timings is not None
    assert done.finished_at is not None
    taken_s = done.finished_at.timestamp() - began - done.timings.model / 1000
    return Figure(
        name="worker with vit_b, start to ready", measured=taken_s, target=10, unit="s", better="lower"
    )


def measure() -> list[Figure]:
    """All of it: some ten minutes on two cores."""
    return [*measure_semantic(), *measure_queries(), *measure_maps(), *measure_everything(), *measure_sam()]


if __name__ == "__main__":
    print_figures(measure())
