"""``python -m bench.fuzz_images --images 5000``: harmed images through the real worker of a service.

Each goes to the API; where that refuses it, the worker gets it out of a bucket all the same. The worker may
not end, nor take more memory than whole images of the largest size do; each image must give a clear error or
a right result.
"""

import argparse
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from itertools import chain, count
from pathlib import Path
from tempfile import TemporaryDirectory

import pi_heif
from PIL import Image, ImageOps

from bench.figure import Figure, print_figures
from bench.hostile_images import Hostile, hostile_images, large_images
from bench.memory import peak_mb
from maskline import Client
from maskline.adapters.s3_artifacts import S3ArtifactStore
from maskline.client import ApiError
from maskline.errors import ImageTooLarge, ImageUnreadable, UnsupportedImageType
from maskline.jobs import JobState
from maskline.local import Stack
from maskline.local.stack import IMPORT_BUCKET
from maskline.resources import JobResource
from maskline.settings import Settings

pi_heif.register_heif_opener()

MAX_PIXELS = 4_000_000
ENVIRONMENT = {
    "MASKLINE_WORKER_MODELS": "grabcut",
    "MASKLINE_MAX_IMAGE_PIXELS": str(MAX_PIXELS),
    "MASKLINE_MAX_WAIT": "60",
    "MASKLINE_IMAGE_CACHE_BYTES": "0",  # has a bound of its own, and would fill up meanwhile
}
_CLEAR = frozenset({ImageUnreadable.code, ImageTooLarge.code, UnsupportedImageType.code})
_CLIENTS = 8  # at once; as many as the worker has threads
_LARGE_ROUNDS = 8  # of whole images of the largest size; so that all threads have one at once
_WAIT_S = 60.0
_MOST_OVER_HONEST = 1.1  # times their memory: what the order of a run makes of it


@dataclass
class Campaign:
    """What was sent, and what came of it."""

    images: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    """By kind of the harm and outcome."""
    wrong: list[str] = field(default_factory=list)
    """Neither a clear error nor a right result."""
    crashes: int = 0
    honest_mb: float = 0
    """The worker's peak over whole images of the largest size."""
    peak_mb: float = 0
    """The worker's peak over everything."""

    def note(self, image: Hostile, outcome: str, fault: str | None) -> None:
        """Count an image, and what came of it."""
        self.images += 1
        self.outcomes[f"{image.kind.split()[0]}: {outcome}"] += 1
        if fault:
            self.wrong.append(f"{image.kind}, number {self.images - 1}: {fault}")

    def figures(self) -> list[Figure]:
        """Each with its target."""
        name = f"{self.images:,} mutated images"
        most_mb = _MOST_OVER_HONEST * self.honest_mb
        return [
            Figure(name=f"{name}: worker crashes", measured=self.crashes, target=0, unit="", better="lower"),
            Figure(
                name=f"{name}: neither clear error nor right result",
                measured=len(self.wrong),
                target=0,
                unit="",
                better="lower",
            ),
            Figure(
                name="worker's peak memory; target: 1.1 of whole images'",
                measured=self.peak_mb,
                target=round(most_mb),
                unit="MB",
                better="lower",
            ),
        ]


@contextmanager
def watched_stack(folder: Path, campaign: Campaign) -> Iterator[Stack]:
    """A service with one worker, whose ends are counted."""
    stack = Stack(folder, environment=ENVIRONMENT)

    def notice(name: str) -> None:
        campaign.crashes += name.startswith("worker")

    stack.on_restart = notice
    with stack:
        yield stack


class ImageFuzzer:
    """Sends images to one service, and holds what comes back against the images."""

    def __init__(self, stack: Stack, campaign: Campaign) -> None:
        """``stack``: of ``watched_stack``."""
        self._stack = stack
        self._campaign = campaign
        self._client = Client(stack.url, stack.api_key)
        self._bucket = S3ArtifactStore.from_settings(Settings.from_env(stack.environment))

    def run(self, images: Iterable[Hostile]) -> None:
        """Send whole images of the largest size, and then these."""
        with ThreadPoolExecutor(_CLIENTS) as clients:
            large = chain.from_iterable(large_images(MAX_PIXELS) for _ in range(_LARGE_ROUNDS))
            list(clients.map(self._send_whole, large))
            self._campaign.honest_mb = self._peak_mb()
            for image, (outcome, fault) in clients.map(self._send, count(), images):
                self._campaign.note(image, outcome, fault)
        self._campaign.peak_mb = self._peak_mb()
        self._client.close()

    def _peak_mb(self) -> float:
        worker = self._stack.process("worker-1").pid
        if worker is None:
            raise RuntimeError("the worker is not there")
        return peak_mb(worker)

    def _send_whole(self, data: bytes) -> None:
        job = self._client.submit(data, use_cache=False, wait=_WAIT_S)
        if fault := self._fault_of_result(job, data):
            raise RuntimeError(f"a whole image of the largest size: {fault}")

    def _send(self, number: int, image: Hostile) -> tuple[Hostile, tuple[str, str | None]]:
        return image, self._outcome(number, image)

    def _outcome(self, number: int, image: Hostile) -> tuple[str, str | None]:
        """The outcome, and what is wrong with it."""
        try:
            job = self._client.submit(image.data, use_cache=False, wait=_WAIT_S)
        except ApiError as refusal:
            if refusal.code not in _CLEAR:
                return refusal.code, f"the API answered {refusal}"
            key = f"hostile/{number}"
            self._bucket.put(key, image.data, "application/octet-stream", bucket=IMPORT_BUCKET)
            job = self._client.submit(f"s3://{IMPORT_BUCKET}/{key}", use_cache=False, wait=_WAIT_S)
            is_same = job.error is not None and job.error.code == refusal.code
            return refusal.code, None if is_same else f"refused with {refusal}, but the job: {job.error}"
        if job.state is JobState.SUCCEEDED:
            return "result", self._fault_of_result(job, image.data)
        if job.error is None or job.error.code not in _CLEAR:
            return job.state, f"the job is {job.state}: {job.error}"
        return f"{job.error.code}, found by the worker", None

    def _fault_of_result(self, job: JobResource, data: bytes) -> str | None:
        if job.state is not JobState.SUCCEEDED:
            return f"the job is {job.state}: {job.error}"
        try:
            with Image.open(BytesIO(data)) as opened:
                size = ImageOps.exif_transpose(opened).size
        except OSError as error:
            return f"Pillow can't read the image: {error}"
        if (job.width, job.height) != size:
            return f"the job has {job.width} x {job.height} pixels, the image {size}"
        for mask in (self._client.category_mask(job.id), self._client.confidence_mask(job.id)):
            with Image.open(BytesIO(mask)) as read:
                read.load()
                if read.size != size:
                    return f"a mask has {read.size} pixels, the image {size}"
        return None


def main() -> None:
    """Run a campaign, and print what came of each harm, and the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    campaign = Campaign()
    with TemporaryDirectory() as folder, watched_stack(Path(folder), campaign) as stack:
        ImageFuzzer(stack, campaign).run(hostile_images(options.images, options.seed))
    for outcome, number in sorted(campaign.outcomes.items()):
        print(f"{number:6}  {outcome}")
    print("\n".join(campaign.wrong))
    print_figures(campaign.figures())


if __name__ == "__main__":
    main()
