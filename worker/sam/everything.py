"""All masks of an image, from a grid of points: ``SamAutomaticMaskGenerator``'s result at a part of its cost.

The steps and their order are upstream's, so the masks are the same. But the points go through a decoder that
saves what they have in common, a mask is brought to the image's size only after it passed the first filter, a
few at a time, and no run lengths are made on the way.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from segment_anything import SamPredictor
from segment_anything.modeling import Sam
from segment_anything.utils.amg import (
    batch_iterator,
    batched_mask_to_box,
    build_all_layer_point_grids,
    calculate_stability_score,
    generate_crop_boxes,
    is_box_near_crop_edge,
    remove_small_regions,
)
from torchvision.ops.boxes import batched_nms

from worker.family import Image
from worker.masks import Probabilities
from worker.packed_mask import Mask
from worker.sam.parameters import Everything
from worker.sam.point_decoder import PointDecoder
from worker.torch_device import in_halves

_AT_ONCE_PIXELS = 1 << 24  # of masks that are brought to the image's size together
_CPU_POINTS = 4  # through the decoder together: with more, what is made of them leaves the caches


@dataclass(kw_only=True, slots=True)
class FoundMask:
    """A mask that survived, in its crop."""

    logits: torch.Tensor
    """(1, 1, 256, 256), at the decoder's resolution."""
    input_size: tuple[int, int]
    """Height and width of the crop as the encoder saw it."""
    crop: tuple[int, int, int, int]
    """Left, top, right, bottom."""
    score: float
    inside: Mask
    """bool, the crop's size."""

    @property
    def left(self) -> int:
        """Of the crop."""
        return self.crop[0]

    @property
    def top(self) -> int:
        """Of the crop."""
        return self.crop[1]

    def mask(self, height: int, width: int) -> Mask:
        """bool (height, width), the image's size."""
        left, top, right, bottom = self.crop
        mask = np.zeros((height, width), np.bool_)
        mask[top:bottom, left:right] = self.inside
        return mask

    def probabilities(self, model: Sam) -> Probabilities:
        """float32, the crop's size; at least 0.5 inside the mask and less outside, mended as it may be."""
        plane: NDArray[np.float32] = (
            _full(model, self.logits, self.input_size, self.crop).sigmoid()[0].cpu().numpy()
        )
        np.copyto(plane, np.float32(0.5), where=self.inside & (plane < 0.5))
        np.copyto(plane, np.float32(0), where=~self.inside & (plane >= 0.5))
        return plane


@dataclass(kw_only=True, slots=True)
class _Candidates:
    """Masks on their way, one a row: upstream's ``MaskData`` without the masks."""

    logits: torch.Tensor
    scores: torch.Tensor
    boxes: torch.Tensor

    def __getitem__(self, rows: torch.Tensor) -> "_Candidates":
        return _Candidates(logits=self.logits[rows], scores=self.scores[rows], boxes=self.boxes[rows])


def find_everything(predictor: SamPredictor, image: Image, parameters: Everything) -> list[FoundMask]:
    """The masks of an image, largest first.

    The image's embedding must be set in ``predictor``; crops are embedded on the way.
    """
    height, width = image.shape[:2]
    crops, layers = generate_crop_boxes(
        (height, width), parameters.crop_layers, parameters.crop_overlap_ratio
    )
    grids = build_all_layer_point_grids(
        parameters.points_per_side, parameters.crop_layers, parameters.crop_points_downscale_factor
    )
    found: list[tuple[_Candidates, tuple[int, int], tuple[int, int, int, int]]] = []
    for (left, top, right, bottom), layer in zip(crops, layers, strict=True):
        crop = left, top, right, bottom
        if layer > 0:
            predictor.set_image(np.ascontiguousarray(image[top:bottom, left:right]))
        search = _Search(predictor, crop, (height, width), parameters)
        found.append((search.candidates(grids[layer]), predictor.input_size, crop))
    kept = _without_duplicates(found, parameters)
    masks = [
        FoundMask(
            logits=candidates.logits[row][None, None],
            input_size=input_size,
            crop=crop,
            score=min(max(float(candidates.scores[row]), 0.0), 1.0),
            inside=(_full(predictor.model, candidates.logits[row][None, None], input_size, crop) > 0)[0]
            .cpu()
            .numpy(),
        )
        for candidates, input_size, crop, row in kept
    ]
    if parameters.min_mask_region_area > 0:
        masks = _mended(masks, (height, width), parameters)
    return sorted(masks, key=lambda one: -int(one.inside.sum()))


class _Search:
    """Looks for the masks of one crop."""

    def __init__(
        self,
        predictor: SamPredictor,
        crop: tuple[int, int, int, int],
        image_size: tuple[int, int],
        parameters: Everything,
    ) -> None:
        """``predictor``: with the crop's embedding; ``image_size``: height and width."""
        self._predictor = predictor
        self._decoder = PointDecoder(predictor.model, predictor.features)
        self._crop = crop
        self._image_size = image_size
        self._parameters = parameters
        left, top, right, bottom = crop
        self._size = bottom - top, right - left

    def candidates(self, grid: NDArray[np.float64]) -> _Candidates:
        """What is found at a grid of points (P, 2), 0..1, without duplicates; boxes in the image."""
        points = grid * np.array(self._size)[None, ::-1]
        at_once = self._parameters.points_per_batch
        if self._predictor.device.type == "cpu":
            at_once = min(at_once, _CPU_POINTS)
        batches = [
            candidates
            for (batch,) in batch_iterator(at_once, points)
            for candidates in in_halves(self._at, batch)
        ]
        together = _Candidates(
            logits=torch.cat([batch.logits for batch in batches]),
            scores=torch.cat([batch.scores for batch in batches]),
            boxes=torch.cat([batch.boxes for batch in batches]),
        )
        boxes = together.boxes.float()
        one_class = torch.zeros(len(boxes), device=boxes.device)
        keep = batched_nms(boxes, together.scores, one_class, self._parameters.box_nms_threshold)
        kept = together[keep]
        left, top, _, _ = self._crop
        kept.boxes = kept.boxes + torch.tensor([[left, top, left, top]], device=boxes.device)
        return kept

    def _at(self, points: NDArray[np.float64]) -> _Candidates:
        """What is found at some points, in pixels of the crop; boxes in the crop."""
        predictor, parameters = self._predictor, self._parameters
        coordinates = torch.as_tensor(
            predictor.transform.apply_coords(points, self._size), device=predictor.device
        )
        logits, scores = self._decoder.decode(coordinates, parameters.pred_iou_threshold)
        cut_off = predictor.model.mask_threshold
        stable, boxes = [], []
        for part in _parts(logits, self._size):
            large = _full(predictor.model, part[:, None], predictor.input_size, self._crop)
            stability = calculate_stability_score(large, cut_off, parameters.stability_score_offset)
            stable.append(stability >= parameters.stability_score_threshold)
            boxes.append(batched_mask_to_box(large > cut_off))
        if not stable:
            empty = torch.zeros(0, 4, dtype=torch.int64, device=logits.device)
            return _Candidates(logits=logits, scores=scores, boxes=empty)
        candidates = _Candidates(logits=logits, scores=scores, boxes=torch.cat(boxes))
        if parameters.stability_score_threshold > 0:
            candidates = candidates[torch.cat(stable)]
        height, width = self._image_size
        at_edge = is_box_near_crop_edge(candidates.boxes, list(self._crop), [0, 0, width, height])
        return candidates[~at_edge]


def _without_duplicates(
    found: list[tuple[_Candidates, tuple[int, int], tuple[int, int, int, int]]], parameters: Everything
) -> Iterator[tuple[_Candidates, tuple[int, int], tuple[int, int, int, int], int]]:
    """Every row that is kept; where crops overlap, the one from the smaller crop."""
    rows = [
        (part, row) for part, (candidates, _, _) in enumerate(found) for row in range(len(candidates.scores))
    ]
    keep: list[int] = list(range(len(rows)))
    if len(found) > 1 and rows:
        boxes = torch.cat([candidates.boxes for candidates, _, _ in found]).float()
        areas = torch.tensor(
            [(crop[2] - crop[0]) * (crop[3] - crop[1]) for _, _, crop in found], device=boxes.device
        )
        scores = 1 / areas[torch.tensor([part for part, _ in rows], device=boxes.device)]
        keep = batched_nms(
            boxes, scores, torch.zeros(len(boxes), device=boxes.device), parameters.crop_nms_threshold
        ).tolist()
    for i in keep:
        part, row = rows[i]
        yield (*found[part], row)


def _mended(masks: list[FoundMask], image_size: tuple[int, int], parameters: Everything) -> list[FoundMask]:
    """The masks without small holes and islands, and without those that became duplicates by that."""
    untouched, boxes = [], []
    for one in masks:
        whole = one.mask(*image_size)
        whole, holes = remove_small_regions(whole, parameters.min_mask_region_area, mode="holes")
        whole, islands = remove_small_regions(whole, parameters.min_mask_region_area, mode="islands")
        untouched.append(float(not (holes or islands)))
        left, top, right, bottom = one.crop
        one.inside = np.ascontiguousarray(whole[top:bottom, left:right])
        boxes.append(_box(whole))
    if not masks:
        return masks
    keep = batched_nms(
        torch.tensor(boxes, dtype=torch.float),
        torch.tensor(untouched),
        torch.zeros(len(boxes)),
        max(parameters.box_nms_threshold, parameters.crop_nms_threshold),
    )
    return [masks[i] for i in keep.tolist()]


def _box(mask: Mask) -> tuple[int, int, int, int]:
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    return (x, y, x + width - 1, y + height - 1) if width else (0, 0, 0, 0)


def _parts(logits: torch.Tensor, size: tuple[int, int]) -> Iterator[torch.Tensor]:
    at_once = max(1, _AT_ONCE_PIXELS // (size[0] * size[1]))
    for start in range(0, len(logits), at_once):
        yield logits[start : start + at_once]


def _full(
    model: Sam, logits: torch.Tensor, input_size: tuple[int, int], crop: tuple[int, int, int, int]
) -> torch.Tensor:
    """Logits (N, H, W) at the crop's size."""
    left, top, right, bottom = crop
    full: torch.Tensor = model.postprocess_masks(logits, input_size, (bottom - top, right - left))
    return full[:, 0]
