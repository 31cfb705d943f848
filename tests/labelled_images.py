"""Images with labels, as a batch gives them: real ones, and shapes that are hard on formats."""

import json
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maskline.batch_results import ItemResult, ItemTimings
from maskline.file_names import file_name
from maskline.requests import Prompt, Subtask
from maskline.results import AnnotationSpec, Prediction
from tests.factories import disc_mask, encoded
from worker.colors import annotation_specs
from worker.exporting.labelled_image import LabelledImage
from worker.families.grabcut import GrabCut, Parameters
from worker.family import Segmentation, SegmentationInput, SegmentMask
from worker.masks import render_category_mask, render_confidence_mask, to_segments
from worker.packed_mask import PackedMask

Mask = NDArray[np.bool_]
Labelled = tuple[str, Mask, float]
TIMINGS = ItemTimings(fetch=1, decode=1, model=1, batch=1, render=1)
ODD_LABEL = '# <b>"cup & saucer": größer'


def labelled(
    number: int, item_id: str, segmentation: Segmentation, image: bytes = b"", address: str | None = None
) -> LabelledImage:
    """The image as it comes from a line of a batch's results."""
    segments = to_segments(segmentation)
    used = set(np.unique(segmentation.category_map).tolist()) | {one.category_id for one in segments.segments}
    result = ItemResult(
        id=item_id,
        line=number,
        instance={"image": address or {"pack": 1, "offset": 0, "length": 1}},
        prediction=Prediction(
            category_mask=b64encode(render_category_mask(segmentation)).decode(),
            confidence_mask=b64encode(render_confidence_mask(segmentation)).decode(),
        ),
        width=segments.width,
        height=segments.height,
        bit_depth=segmentation.category_map.itemsize * 8,
        annotation_specs=tuple(one for one in segmentation.annotation_specs if one.id in used | {0}),
        segments=segments.segments,
        mean_confidence=float(segmentation.confidence_map.mean() / 255),
        timings=TIMINGS,
    )
    return LabelledImage(
        number=number,
        file_name=file_name(item_id, "png"),
        result=ItemResult.model_validate(json.loads(result.to_json())),
        image_bytes=lambda: image,
    )


def drawn(
    size_hw: tuple[int, int], segments: Sequence[Labelled], specs: Sequence[AnnotationSpec] | None = None
) -> Segmentation:
    """A segmentation of these labels, masks and scores; of segments that overlap the best score is on top."""
    specs = specs or annotation_specs(list(dict.fromkeys(label for label, _, _ in segments)))
    ids = {spec.display_name: spec.id for spec in specs}
    category_map = np.zeros(size_hw, np.uint8 if max(ids.values()) < 256 else np.uint16)
    for label, mask, _ in sorted(segments, key=lambda one: one[2]):
        category_map[mask] = ids[label]
    return Segmentation(
        category_map=category_map,
        confidence_map=np.full(size_hw, 230, np.uint8),
        segments=tuple(
            SegmentMask(label=label, category_id=ids[label], score=score, packed=PackedMask.pack(mask))
            for label, mask, score in segments
        ),
        annotation_specs=tuple(specs),
    )


def cut_out(pixels: NDArray[np.uint8], *prompts: Prompt) -> Segmentation:
    """What the embedded default finds."""
    given = SegmentationInput(
        image=pixels, image_key="", prompts=prompts, subtask=Subtask.INSTANCE, parameters=Parameters()
    )
    [segmentation] = GrabCut().segment([given])
    return segmentation


def sample(photos: Path) -> list[LabelledImage]:
    """Photos, holes, parts, touching and overlapping segments, nothing at all; ids and labels of any kind."""
    coffee = np.asarray(Image.open(photos / "coffee.png").convert("RGB"))
    astronaut = np.asarray(Image.open(photos / "astronaut.png").convert("RGB"))
    blank = np.full((60, 80, 3), 90, np.uint8)
    found = [
        (
            "coffee",
            coffee,
            cut_out(
                coffee,
                Prompt(label="cup", box=(120, 40, 420, 330)),
                Prompt(label="spoon", box=(330, 130, 520, 330)),
            ),
        ),
        ("Astronaut.PNG", astronaut, cut_out(astronaut, Prompt(label="person", box=(80, 0, 420, 511)))),
        ("../../etc/passwd", blank, drawn((60, 80), hard_shapes())),
        ("con", blank, drawn((60, 80), [])),
        ("A7", blank, drawn((60, 80), overlapping())),
        ("a7", blank, drawn((60, 80), [("spoon", box_mask(5, 5, 30, 30), 0.8), ("cup", disc(40), 0.9)])),
    ]
    return [
        labelled(
            number,
            item_id,
            segmentation,
            encoded(pixels, "PNG"),
            f"s3://photos/{number}.png" if number % 2 else None,
        )
        for number, (item_id, pixels, segmentation) in enumerate(found, 1)
    ]


def hard_shapes() -> list[Labelled]:
    """A ring, two parts, two that touch, one pixel, a line, and a diagonal; 60 x 80."""
    ring = disc(20) & ~box_mask(15, 25, 25, 35)
    parts = box_mask(2, 60, 10, 75) | box_mask(30, 60, 33, 70)
    diagonal = np.zeros((60, 80), bool)
    diagonal[np.arange(40, 55), np.arange(5, 20)] = True
    return [
        ("ring", ring, 0.9),
        ("parts", parts, 0.8),
        ("left", box_mask(45, 40, 55, 50), 0.7),
        (ODD_LABEL, box_mask(45, 50, 55, 60), 0.6),
        ("pixel", box_mask(59, 79, 60, 80), 0.5),
        ("line", box_mask(0, 0, 1, 2), 0.5),
        ("diagonal", diagonal, 0.5),
    ]


def overlapping() -> list[Labelled]:
    """Three that nobody named, two of which overlap."""
    return [
        ("segment-1", box_mask(0, 0, 40, 40), 0.6),
        ("segment-2", box_mask(20, 20, 50, 60), 0.9),
        ("segment-3", box_mask(52, 62, 58, 78), 0.7),
    ]


def disc(x: int) -> Mask:
    """Of radius 20, within 60 x 80."""
    return np.roll(disc_mask(60, 80), x - 40, axis=1)


def box_mask(top: int, left: int, bottom: int, right: int) -> Mask:
    """Within 60 x 80."""
    mask = np.zeros((60, 80), bool)
    mask[top:bottom, left:right] = True
    return mask


def iou(one: Mask, other: Mask) -> float:
    """What they share of what either has; 1 for two that are empty."""
    either = np.count_nonzero(one | other)
    return np.count_nonzero(one & other) / either if either else 1.0
