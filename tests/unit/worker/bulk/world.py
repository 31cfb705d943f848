"""Batches without Redis, S3 and models: the doubles, a model that is quickly done, and workers over them."""

import json
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pydantic import JsonValue

from maskline.adapters.memory import (
    MemoryArtifactStore,
    MemoryJobStore,
    MemoryModelDirectory,
    MemoryTaskQueue,
)
from maskline.adapters.memory_batches import MemoryBatchStore
from maskline.batch_artifacts import Shard, part_key, shard_key
from maskline.batch_records import keep_batch
from maskline.batch_results import ItemError, ItemResult, ItemReview, ReviewThresholds
from maskline.batches import (
    Batch,
    BatchRequest,
    Chunk,
    ChunkKey,
    ChunkPlan,
    ItemForm,
    Progress,
    new_batch_id,
)
from maskline.clock import time_ms
from maskline.image_header import ImageLimits
from maskline.jobs import ImageRef
from maskline.requests import Output, Priority, SegmentationRequest, Subtask
from maskline.results import ModelCard
from maskline.settings import Settings
from tests.factories import encoded, make_card
from worker.batcher import Modelled
from worker.bulk.chunk_keeper import ChunkKeeper
from worker.bulk.chunk_runner import ChunkRunner
from worker.bulk.images import ChunkImages
from worker.bulk.item_runner import ItemRunner
from worker.bulk.leader import BatchLeader
from worker.bulk.lines import Item
from worker.colors import annotation_specs
from worker.family import CommonParameters, Segmentation, SegmentationInput, SegmentMask
from worker.fetching import fetcher
from worker.packed_mask import PackedMask

SETTINGS = Settings(import_buckets=("imports",), export_buckets=("exports",))
LIMITS = ImageLimits(max_bytes=10**6, max_pixels=10**6, max_side=2000)
REQUEST = SegmentationRequest(
    model="grabcut",
    subtask=Subtask.SEMANTIC,
    outputs=(Output.CATEGORY_MASK, Output.CONFIDENCE_MASK, Output.SEGMENTS),
    priority=Priority.BULK,
)
LEASE_S = 30.0
HEIGHT, WIDTH = 6, 8


def image_of(number: int) -> bytes:
    """A PNG that says its number in its first pixel; its left half is red."""
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pixels[:, : WIDTH // 2, 0] = 200
    pixels[0, 0] = 255, number // 256, number % 256
    return encoded(pixels, "PNG")


def segmentation_of(pixels: np.ndarray[Any, Any], label: str = "thing", certainty: int = 220) -> Segmentation:
    """What is red is ``label``."""
    mask = pixels[..., 0] > 100
    return Segmentation(
        category_map=mask.astype(np.uint8),
        confidence_map=np.full(mask.shape, certainty, np.uint8),
        segments=(SegmentMask(label=label, category_id=1, score=0.75, packed=PackedMask.pack(mask)),),
        annotation_specs=annotation_specs([label]),
    )


@dataclass
class QuickModels:
    """``Models`` that is done at once, and remembers the numbers of the images."""

    before: Callable[[int], object] = lambda number: None
    """Called with each image's number; may raise."""
    seen: Counter[int] = field(default_factory=Counter)

    def submit(self, model: str, image: SegmentationInput, priority: Priority) -> Future[Modelled]:
        assert priority is Priority.BULK
        number = 256 * int(image.image[0, 0, 1]) + int(image.image[0, 0, 2])
        self.seen[number] += 1
        future: Future[Modelled] = Future()
        try:
            self.before(number)
        except Exception as error:
            future.set_exception(error)
            return future
        label = image.prompts[0].label if image.prompts else "thing"
        result = segmentation_of(image.image, label)
        future.set_result(Modelled(segmentation=result, waited_s=0.5, ran_s=0.25))
        return future

    def parameters(self, model: str, values: dict[str, Any]) -> CommonParameters:
        return CommonParameters.model_validate(values)


def item_of(line: int = 1, image: str = "s3://imports/1.png", **more: Any) -> Item:
    """An item that is run, in the form of the native API."""
    instance: JsonValue = {"id": f"item {line}", "image": image}
    return Item(
        id=f"item {line}",
        line=line,
        instance=instance,
        form=ItemForm.ITEM,
        request=more.pop("request", REQUEST),
        image=ImageRef(uri=image),
        **more,
    )


def no_url(url: str, most: int) -> bytes:
    raise AssertionError(f"{url} was asked for")


def same(store: Any) -> Any:
    return store


@dataclass
class World:
    """Stores, and what works on them."""

    batches: MemoryBatchStore = field(default_factory=MemoryBatchStore)
    artifacts: MemoryArtifactStore = field(default_factory=MemoryArtifactStore)
    jobs: MemoryJobStore = field(default_factory=MemoryJobStore)
    queue: MemoryTaskQueue = field(default_factory=MemoryTaskQueue)
    models: QuickModels = field(default_factory=QuickModels)
    is_closing: bool = False

    def __post_init__(self) -> None:
        self.directory = MemoryModelDirectory()
        self.directory.publish("w", [make_card()], 60)

    # -- what clients do

    def put_images(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            self.artifacts.put(f"{number}.png", image_of(number), "image/png", bucket="imports")

    def submit(self, *parts: bytes, is_complete: bool = True, **request: Any) -> Batch:
        batch = Batch(
            id=new_batch_id(),
            tenant="default",
            request=BatchRequest(**{"request": REQUEST, **request}),
            created_ms=time_ms() + len(self.batches.all("default")),
            parts=len(parts),
            is_complete=is_complete,
        )
        for number, text in enumerate(parts, 1):
            self.artifacts.put(part_key(batch.id, number), text, "application/jsonl")
        keep_batch(batch, 99, self.artifacts, self.batches)
        return batch

    def read(self, batch: Batch) -> Batch:
        return self.batches.get(batch.tenant, batch.id)

    # -- workers

    def images(self, *items: Item, batch: str = "1") -> ChunkImages:
        wanted = [item.image for item in items if item.image is not None]
        fetch = fetcher(self.artifacts, no_url, LIMITS.max_bytes)
        return ChunkImages(batch, wanted, self.artifacts, fetch, most=LIMITS.max_bytes)

    def item_runner(self) -> ItemRunner:
        return ItemRunner(models=self.models, cards={"grabcut": make_card()}, limits=LIMITS)

    def keeper(self, through: Callable[[Any], Any] = same) -> ChunkKeeper:
        return ChunkKeeper(through(self.batches), lease_s=LEASE_S, deadline_s=60, on_wedged=print)

    def runner(
        self,
        *,
        keeper: ChunkKeeper | None = None,
        at_once: int = 3,
        through: Callable[[Any], Any] = same,
        settings: Settings = SETTINGS,
    ) -> ChunkRunner:
        """``through``: makes of each store what the runner sees of it."""
        artifacts = through(self.artifacts)
        return ChunkRunner(
            worker="w",
            chunks=through(self.batches),
            keeper=keeper or self.keeper(through),
            artifacts=artifacts,
            fetch=fetcher(artifacts, no_url, LIMITS.max_bytes),
            items=self.item_runner(),
            items_at_once=lambda model: at_once,
            settings=settings,
            is_closing=lambda: self.is_closing,
        )

    def leader(
        self,
        holder: str = "w",
        settings: Settings = SETTINGS,
        through: Callable[[Any], Any] = same,
    ) -> BatchLeader:
        """``through``: makes of each store what the leader sees of it."""
        return BatchLeader(
            holder=holder,
            batches=through(self.batches),
            chunks=through(self.batches),
            house=through(self.jobs),
            artifacts=through(self.artifacts),
            queue=self.queue,
            models=self.directory,
            settings=settings,
        )

    def hand(self, text: bytes, *, number: int = 1, **request: Any) -> Batch:
        """A batch that is one chunk of these lines, which waits."""
        batch = self.submit(text, **request)
        lines = [line for line in text.split(b"\n") if line.strip()]
        plan = ChunkPlan(part=1, form=batch.form_of(1), offset=0, length=len(text), line=1, items=len(lines))
        saved = self.batches.save(batch, Progress(items=len(lines), chunks=1, part=1), 60, [plan])
        assert saved is not None
        return saved

    def claim(self, lease_s: float = LEASE_S) -> Chunk:
        chunk = self.batches.claim("grabcut", "other", lease_s)
        assert chunk is not None
        return chunk

    def run(self, batch: Batch, looks: int = 30) -> Batch:
        """The batch at its end, with a new leader and a new runner at each look."""
        for _ in range(looks):
            self.leader().look()
            if self.read(batch).progress.state.is_final and not self.read(batch).is_retrying:
                break
            self.runner().run("grabcut")
        return self.read(batch)

    # -- what came of it

    def lines(self, batch: Batch, shard: Shard, first: int = 1) -> list[bytes]:
        ended = self.batches.ended_chunks(batch.id, first, self.read(batch).progress.chunks)
        count = {
            Shard.PREDICTIONS: lambda chunk: chunk.succeeded,
            Shard.ERRORS: lambda chunk: chunk.failed,
            Shard.REVIEW: lambda chunk: chunk.flagged,
        }[shard]
        return [
            line
            for chunk in ended
            if count(chunk)
            for line in self.artifacts.get(
                shard_key(ChunkKey(batch.id, chunk.number, chunk.attempt), shard)
            ).splitlines()
        ]

    def results(self, batch: Batch) -> list[ItemResult]:
        return [ItemResult.model_validate_json(line) for line in self.lines(batch, Shard.PREDICTIONS)]

    def errors(self, batch: Batch) -> list[ItemError]:
        first = self.read(batch).progress.first_of_round
        return [ItemError.model_validate_json(line) for line in self.lines(batch, Shard.ERRORS, first)]

    def reviews(self, batch: Batch) -> list[ItemReview]:
        return [ItemReview.model_validate_json(line) for line in self.lines(batch, Shard.REVIEW)]


def manifest(numbers: Iterable[int], **more: Any) -> bytes:
    """Items, one a line."""
    return b"".join(
        json.dumps({"id": f"n{n}", "image": f"s3://imports/{n}.png", **more}).encode() + b"\n"
        for n in numbers
    )


NO_REVIEW = ReviewThresholds(min_confidence=0, min_segment_area=0)


def models_of(*cards: ModelCard) -> MemoryModelDirectory:
    """Workers that have these models."""
    models = MemoryModelDirectory()
    models.publish("w", cards, 60)
    return models
