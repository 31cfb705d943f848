"""Segment Anything's embeddings, shared by workers."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from segment_anything import sam_model_registry

from maskline.adapters.memory import MemoryArtifactStore
from maskline.catalog import ModelSpec, Weights
from maskline.requests import Prompt, Subtask
from maskline.weights import WeightStore
from tests.factories import picture
from tests.unit.worker.families.test_sam import small
from tests.unit.worker.test_bucket_shelf import FailingStore
from worker.bucket_shelf import BucketShelf
from worker.families.sam import Parameters, load
from worker.family import Resources, Segmentation, SegmentationInput

IMAGE = picture(120, 180)
PROMPT = Prompt(label="box", box=(20, 12, 62, 55))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("weights")
    for seed, name in enumerate(("one", "other")):
        torch.manual_seed(seed)
        torch.save(small().state_dict(), folder / f"{name}.pth")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sam_model_registry, "small", small)
        yield folder


class Worker:
    """A worker that has just started."""

    def __init__(self, path: Path, artifacts: MemoryArtifactStore | None, **options: Any) -> None:
        spec = ModelSpec(
            id="tiny",
            family="sam",
            display_name="Tiny",
            weights=Weights(path=path),
            options={"variant": "small"} | options,
        )
        resources = Resources(
            weights=WeightStore(path.parent),
            device="cpu",
            embedding_cache_bytes=1 << 26,
            shelf=BucketShelf(artifacts) if artifacts is not None else None,
        )
        self.model = load(spec, resources)
        self.encoded = 0
        model: Any = self.model
        model._predictor.model.image_encoder.register_forward_hook(self._count)

    def _count(self, *_: Any) -> None:
        self.encoded += 1

    def ask(self, key: str = "image") -> Segmentation:
        one = SegmentationInput(
            image=IMAGE, image_key=key, prompts=(PROMPT,), subtask=Subtask.INSTANCE, parameters=Parameters()
        )
        [segmentation] = self.model.segment([one])
        return segmentation


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_second_worker_does_not_encode_and_gives_the_same(folder: Path, dtype: str) -> None:
    artifacts = MemoryArtifactStore()
    first, second = (Worker(folder / "one.pth", artifacts, dtype=dtype) for _ in range(2))
    alone = Worker(folder / "one.pth", None, dtype=dtype)
    given, found, wanted = first.ask(), second.ask(), alone.ask()
    assert (first.encoded, second.encoded, alone.encoded) == (1, 0, 1)
    for one in (given, found):
        assert np.array_equal(one.confidence_map, wanted.confidence_map)
        assert np.array_equal(one.category_map, wanted.category_map)
        assert [segment.score for segment in one.segments] == [segment.score for segment in wanted.segments]
    [key] = artifacts.keys("embeddings/")
    artifacts.delete([key])
    second.ask()
    assert second.encoded == 0, "it has it in memory by now"


def test_other_images_weights_and_options_have_other_embeddings(folder: Path) -> None:
    artifacts = MemoryArtifactStore()
    Worker(folder / "one.pth", artifacts).ask()
    for worker, key in (
        (Worker(folder / "one.pth", artifacts), "another image"),
        (Worker(folder / "one.pth", artifacts, dtype="bfloat16"), "image"),
        (Worker(folder / "other.pth", artifacts), "image"),
    ):
        worker.ask(key)
        assert worker.encoded == 1
    assert len(list(artifacts.keys("embeddings/"))) == 4


def test_an_embedding_is_of_no_one_device_of_a_kind(folder: Path) -> None:
    artifacts = MemoryArtifactStore()
    first, second = Worker(folder / "one.pth", artifacts), Worker(folder / "one.pth", artifacts, device="cpu")
    first.ask()
    second.ask()
    assert (first.encoded, second.encoded) == (1, 0)


def without(content: bytes, name: str) -> bytes:
    return save_tensors({known: value for known, value in load_tensors(content).items() if known != name})


def flip_bit(content: bytes) -> bytes:
    damaged = bytearray(content)
    damaged[len(content) // 2] ^= 1
    return bytes(damaged)


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "cut": lambda content: content[:-1],
    "longer": lambda content: content + b"0",
    "one bit in the middle": flip_bit,
    "header": lambda content: content[:8] + b"x" + content[9:],
    "text": lambda content: b"hello" * 100,
    "no sizes": lambda content: without(content, "sizes"),
    "no hash": lambda content: without(content, "sha256"),
    "other sizes": lambda content: save_tensors(
        load_tensors(content) | {"sizes": torch.tensor([[1, 2], [3, 4]])}
    ),
    "other type": lambda content: save_tensors(
        load_tensors(content) | {"features": load_tensors(content)["features"].half()}
    ),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_embedding_is_computed_again(folder: Path, damage: Callable[[bytes], bytes]) -> None:
    artifacts = MemoryArtifactStore()
    wanted = Worker(folder / "one.pth", artifacts).ask()
    [key] = artifacts.keys("embeddings/")
    content = artifacts.get(key)
    artifacts.delete([key])
    artifacts.put(key, damage(content), "application/octet-stream")
    worker = Worker(folder / "one.pth", artifacts)
    assert np.array_equal(worker.ask().confidence_map, wanted.confidence_map)
    assert worker.encoded == 1
    assert artifacts.get(key) == content


def test_a_bucket_that_fails_costs_no_job(folder: Path) -> None:
    worker, alone = Worker(folder / "one.pth", FailingStore()), Worker(folder / "one.pth", None)
    assert np.array_equal(worker.ask().confidence_map, alone.ask().confidence_map)
    assert worker.encoded == 1
