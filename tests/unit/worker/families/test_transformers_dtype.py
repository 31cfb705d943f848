"""bfloat16 against float32, on small ``transformers`` models that learned to find a bright ellipse."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from maskline.catalog import ModelSpec, Weights
from maskline.requests import Subtask
from maskline.weights import WeightStore
from tests import tiny_transformers as tiny
from tests.ellipses import Scene, make_scene, overlap
from worker.families.transformers import Parameters, load
from worker.family import Resources, Segmentation, SegmentationInput, Segmenter

GROUND, ELLIPSE = 0, 1  # classes; as categories one more
STEPS, TOGETHER = 150, 8
SCENES, SEEN = 56, 48


def pixel_targets(classes: torch.Tensor) -> dict[str, Any]:
    """What models that tell the class of each pixel learn from; ``classes``: (N, H, W)."""
    return {"labels": classes}


def query_targets(classes: torch.Tensor) -> dict[str, Any]:
    """What models that tell masks with a class each learn from; ``classes``: (N, H, W)."""
    masks = [torch.stack([one == GROUND, one == ELLIPSE]).float() for one in classes]
    return {"mask_labels": masks, "class_labels": [torch.tensor([GROUND, ELLIPSE])] * len(masks)}


def teach(
    model: Any, pixels: torch.Tensor, classes: torch.Tensor, targets: Callable[[torch.Tensor], dict[str, Any]]
) -> None:
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(STEPS):
        rows = torch.randint(0, len(pixels), (TOGETHER,))
        optimizer.zero_grad()
        model(pixel_values=pixels[rows], **targets(classes[rows])).loss.backward()
        optimizer.step()
    model.eval()


def loaded(folder: Path, subtask: Subtask, dtype: str) -> Segmenter:
    spec = ModelSpec(
        id="taught",
        family="transformers",
        display_name="Taught",
        weights=Weights(path=folder),
        options={"subtasks": [subtask], "dtype": dtype},
    )
    return load(spec, Resources(weights=WeightStore(folder), device="cpu"))


def ask(model: Segmenter, scene: Scene, subtask: Subtask) -> Segmentation:
    one = SegmentationInput(
        image=scene.image, image_key="", prompts=(), subtask=subtask, parameters=Parameters()
    )
    [segmentation] = model.segment([one])
    return segmentation


@pytest.mark.parametrize(
    ("make", "targets", "subtask"),
    [
        (tiny.segformer, pixel_targets, Subtask.SEMANTIC),
        (tiny.mask2former, query_targets, Subtask.PANOPTIC),
    ],
)
def test_bfloat16_gives_nearly_the_masks_of_float32(
    make: Callable[[], tuple[Any, Any]],
    targets: Callable[[torch.Tensor], dict[str, Any]],
    subtask: Subtask,
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(0)
    scenes = [make_scene(rng) for _ in range(SCENES)]
    torch.manual_seed(0)
    model, processor = tiny.save(make, tmp_path)
    pixels = processor(images=[scene.image for scene in scenes[:SEEN]], return_tensors="pt")["pixel_values"]
    masks = torch.stack([torch.from_numpy(scene.mask).float() for scene in scenes[:SEEN]])
    classes = functional.interpolate(masks[:, None], size=pixels.shape[-2:])[:, 0].long()
    teach(model, pixels, classes, targets)
    model.save_pretrained(tmp_path)

    exact, rounded = (loaded(tmp_path, subtask, dtype) for dtype in ("float32", "bfloat16"))
    for scene in scenes[SEEN:]:
        ours, others = ask(exact, scene, subtask), ask(rounded, scene, subtask)
        assert not np.array_equal(ours.confidence_map, others.confidence_map), "both are in one precision"
        one, other = ours.category_map == ELLIPSE + 1, others.category_map == ELLIPSE + 1
        assert overlap(one, scene.mask) > 0.85, "the test's model has learned nothing"
        assert overlap(one, other) > 0.99
