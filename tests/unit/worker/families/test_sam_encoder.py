"""The options of Segment Anything's encoder, on a small model that learned to find a bright ellipse."""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from segment_anything import sam_model_registry
from segment_anything.modeling import Sam
from torch.nn import functional

from maskline.catalog import ModelSpec, Weights
from maskline.errors import DeviceUnavailable
from maskline.requests import Prompt, Subtask
from maskline.weights import WeightStore
from tests.ellipses import SIDE, Scene, make_scene, overlap
from tests.unit.worker.families.test_sam import small
from worker.families.sam import Parameters, describe, load
from worker.family import CategoryMap, Resources, Segmentation, SegmentationInput, Segmenter

STEPS = 30
SCENES, SEEN = 30, 24


def teach(model: Sam, scenes: list[Scene]) -> None:
    """Train the decoder until it finds the ellipses."""
    images = torch.stack([torch.from_numpy(scene.image).permute(2, 0, 1) for scene in scenes])
    with torch.no_grad():
        embeddings = model.image_encoder(model.preprocess(images.float()))
    boxes = torch.tensor([scene.box for scene in scenes])
    masks = torch.stack([torch.from_numpy(scene.mask).float() for scene in scenes])[:, None]
    targets = functional.interpolate(masks, size=(64, 64), mode="area")
    optimizer = torch.optim.Adam(model.mask_decoder.parameters(), 1e-3)
    for _ in range(STEPS):
        rows = torch.randint(0, len(scenes), (4,))
        logits = torch.cat([decoded(model, embeddings[i : i + 1], boxes[i : i + 1]) for i in rows.tolist()])
        optimizer.zero_grad()
        functional.binary_cross_entropy_with_logits(logits, targets[rows]).backward()
        optimizer.step()


def decoded(model: Sam, embedding: torch.Tensor, box: torch.Tensor) -> torch.Tensor:
    sparse, dense = model.prompt_encoder(points=None, boxes=box, masks=None)
    logits: torch.Tensor = model.mask_decoder(
        image_embeddings=embedding,
        image_pe=model.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=False,
    )[0]
    return logits


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    rng = np.random.default_rng(0)
    return [make_scene(rng) for _ in range(SCENES)]


@pytest.fixture(scope="module")
def checkpoint(scenes: list[Scene], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("weights") / "taught.pth"
    torch.manual_seed(0)
    model = small()
    teach(model, scenes[:SEEN])
    torch.save(model.state_dict(), path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sam_model_registry, "small", small)
        yield path


def entry(checkpoint: Path, **options: Any) -> ModelSpec:
    return ModelSpec(
        id="taught",
        family="sam",
        display_name="Taught",
        weights=Weights(path=checkpoint),
        options={"variant": "small"} | options,
    )


def loaded(checkpoint: Path, workers_device: str = "cpu", **options: Any) -> Segmenter:
    resources = Resources(weights=WeightStore(checkpoint.parent), device=workers_device)
    return load(entry(checkpoint, **options), resources)


def ask(model: Segmenter, scene: Scene) -> Segmentation:
    one = SegmentationInput(
        image=scene.image,
        image_key="",
        prompts=(Prompt(label="ellipse", box=scene.box),),
        subtask=Subtask.INSTANCE,
        parameters=Parameters(),
    )
    [segmentation] = model.segment([one])
    return segmentation


def test_bfloat16_gives_nearly_the_masks_of_float32(checkpoint: Path, scenes: list[Scene]) -> None:
    exact, rounded = loaded(checkpoint), loaded(checkpoint, dtype="bfloat16")
    for scene in scenes[SEEN:]:
        [one], [other] = ask(exact, scene).segments, ask(rounded, scene).segments
        assert overlap(one.mask, scene.mask) > 0.85, "the test's model has learned nothing"
        assert overlap(one.mask, other.mask) > 0.99
        assert not np.array_equal(ask(exact, scene).confidence_map, ask(rounded, scene).confidence_map)


def test_the_entrys_device_comes_before_the_workers(checkpoint: Path, scenes: list[Scene]) -> None:
    assert ask(loaded(checkpoint, "cuda:77", device="cpu"), scenes[0]).segments
    for workers, options in (("cuda:77", {}), ("cpu", {"device": "cuda:77"})):
        with pytest.raises(DeviceUnavailable, match="there is no cuda:77"):
            loaded(checkpoint, workers, **options)


def test_only_the_encoder_is_in_bfloat16(checkpoint: Path) -> None:
    model: Any = loaded(checkpoint, dtype="bfloat16")
    sam = model._predictor.model
    assert {value.dtype for value in sam.image_encoder.parameters()} == {torch.bfloat16}
    assert {value.dtype for value in sam.mask_decoder.parameters()} == {torch.float32}
    assert {value.dtype for value in sam.prompt_encoder.parameters()} == {torch.float32}
    image = torch.zeros(1, 3, SIDE, SIDE)
    with torch.inference_mode():
        assert sam.image_encoder(image).dtype == torch.float32


def segment_compiled(checkpoint: Path, scenes: list[Scene]) -> tuple[list[str], list[CategoryMap]]:
    """What was compiled, and what the compiled model makes of the scenes."""
    compiled: list[str] = []

    def compile_quickly(module: torch.nn.Module) -> Any:
        compiled.append(type(module).__name__)
        return torch_compile(module, backend="eager")

    torch_compile = torch.compile
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "compile", compile_quickly)
        patch.setitem(sam_model_registry, "small", small)
        model = loaded(checkpoint, compile=True)
        return compiled, [ask(model, scene).category_map for scene in scenes]


def test_a_compiled_encoder_gives_the_same_masks(checkpoint: Path, scenes: list[Scene]) -> None:
    # torch's compiler runs in a process of its own: once, with everything in memory that all other tests had
    # used, garbage was collected while it worked, and C++ code under it aborted the process with the tests.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as apart:
        compiled, maps = apart.submit(segment_compiled, checkpoint, scenes[SEEN:]).result()
    assert compiled == ["ImageEncoderViT"]
    plain = loaded(checkpoint)
    for scene, category_map in zip(scenes[SEEN:], maps, strict=True):
        assert np.array_equal(ask(plain, scene).category_map, category_map)


@pytest.mark.parametrize("options", [{"dtype": "float16"}, {"compile": "often"}, {"precision": 1}])
def test_options_that_are_none_are_refused(checkpoint: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(options))):
        describe(entry(checkpoint, **options))
