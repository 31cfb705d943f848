"""All masks of an image, from a grid of points: ``SamAutomaticMaskGenerator``'s result at a part of its cost.

The steps and their order are upstream's, so the masks are the same. But the points go through a decoder that
saves what they have in common, a mask is brought to the image's size only after it passed the first filter, a
few at a time, and no run lengths are made on the way.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

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

from maskline.errors import Fault, InvalidRequest
from worker.family import Image
from worker.masks import Probabilities
from worker.packed_mask import Mask, PackedMask
from worker.sam.parameters import Everything
from worker.sam.point_decoder import PointDecoder
from worker.sam.visible import visible_part
from worker.torch_device import in_halves
from worker.window import Window

_AT_ONCE_PIXELS = 1 << 24  # of masks that are brought to the image's size together
_ROOM_BYTES = 2 << 30  # for the masks of a request (8192 as the decoder gives them); copies may double it
_CPU_POINTS = 4  # through the decoder together: with more, what is made of them leaves the caches
_TOO_MANY = (
    "more masks are found than there is memory for; raise predIouThreshold or stabilityScoreThreshold, "
    "lower boxNmsThreshold, or give a smaller pointsPerSide"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundMask:
    """A mask that survived."""

    logits: torch.Tensor
    """(256, 256), at the decoder's resolution."""
    input_size: tuple[int, int]
    """Height and width of the crop as the encoder saw it."""
    crop: Window
    score: float
    inside: PackedMask
    """Of the image."""

    def probabilities(self, model: Sam, threshold: float) -> tuple[Window, Mask, Probabilities]:
        """What ``SegmentationBuilder.add`` wants of the mask.

        Returns:
            The part of the image outside of which it can't be seen (see ``window_of``); and there bool, the
            mask, and float32, at least 0.5 inside it and less outside, mended as it may be.
        """
        window, likely = visible_part(model, self.logits, self.input_size, self.crop.size, threshold)
        in_image = window.shifted(self.crop.left, self.crop.top)
        inside = self.inside.unpack()[in_image.slices]
        np.copyto(likely, np.float32(0.5), where=inside & (likely < 0.5))
        np.copyto(likely, np.float32(0), where=~inside & (likely >= 0.5))
        return in_image, inside, likely


@dataclass(kw_only=True, slots=True)
class _Candidates:
    """Masks on their way, one a row: upstream's ``MaskData`` without the masks."""

    logits: torch.Tensor
    scores: torch.Tensor
    boxes: torch.Tensor

    def __getitem__(self, rows: torch.Tensor) -> "_Candidates":
        return _Candidates(logits=self.logits[rows], scores=self.scores[rows], boxes=self.boxes[rows])


class _Found(NamedTuple):
    """What was found in one crop, with the height and width that the encoder saw it in."""

    candidates: _Candidates
    input_size: tuple[int, int]
    crop: Window


class _Room:
    """Memory for the masks of a request: a worker must not end for one that wants them all."""

    def __init__(self) -> None:
        self._left_bytes = _ROOM_BYTES

    def take(self, count: int) -> None:
        """So many bytes.

        Raises:
            InvalidRequest: there is no room.
        """
        self._left_bytes -= count
        if self._left_bytes < 0:
            raise InvalidRequest([Fault("/parameters", _TOO_MANY)])

    def give_back(self, count: int) -> None:
        """So many bytes that were taken."""
        self._left_bytes += count


def find_everything(
    predictor: SamPredictor,
    image: Image,
    parameters: Everything,
    check_wanted: Callable[[], None] = lambda: None,
) -> list[FoundMask]:
    """The masks of an image, largest first.

    The image's embedding must be set in ``predictor``; crops are embedded on the way. ``check_wanted`` is
    called before each run of the decoder; what it raises ends the work.

    Raises:
        InvalidRequest: the parameters let more masks through than there is memory for.
    """
    room = _Room()
    height, width = image.shape[:2]
    crops, layers = generate_crop_boxes(
        (height, width), parameters.crop_layers, parameters.crop_overlap_ratio
    )
    grids = build_all_layer_point_grids(
        parameters.points_per_side, parameters.crop_layers, parameters.crop_points_downscale_factor
    )
    found: list[_Found] = []
    for corners, layer in zip(crops, layers, strict=True):
        crop = Window(*corners)
        if layer > 0:
            predictor.set_image(np.ascontiguousarray(image[crop.slices]))
        search = _Search(predictor, crop, (height, width), parameters)
        found.append(_Found(search.candidates(grids[layer], room, check_wanted), predictor.input_size, crop))
    masks = []
    for in_crop, row in _without_duplicates(found, parameters):
        masks.append(_found_mask(predictor.model, in_crop, row, (height, width)))
        room.take(masks[-1].inside.bits.nbytes)
    if parameters.min_mask_region_area > 0:
        masks = _mended(masks, parameters)
    return sorted(masks, key=lambda one: -one.inside.area)


def _found_mask(model: Sam, found: "_Found", row: int, image_size: tuple[int, int]) -> FoundMask:
    crop = found.crop
    logits = found.candidates.logits[row]
    inside = (_full(model, logits[None, None], found.input_size, crop.size) > 0)[0].cpu().numpy()
    return FoundMask(
        logits=logits,
        input_size=found.input_size,
        crop=crop,
        score=min(max(float(found.candidates.scores[row]), 0.0), 1.0),
        inside=PackedMask.pack(inside, crop.left, crop.top, image_size),
    )


class _Search:
    """Looks for the masks of one crop."""

    def __init__(
        self,
        predictor: SamPredictor,
        crop: Window,
        image_size: tuple[int, int],
        parameters: Everything,
    ) -> None:
        """``predictor``: with the crop's embedding; ``image_size``: height and width."""
        self._predictor = predictor
        self._decoder = PointDecoder(predictor.model, predictor.features)
        self._crop = crop
        self._image_size = image_size
        self._parameters = parameters

    def candidates(
        self, grid: NDArray[np.float64], room: _Room, check_wanted: Callable[[], None]
    ) -> _Candidates:
        """What is found at a grid of points (P, 2), 0..1, without duplicates; boxes in the image."""
        points = grid * np.array(self._crop.size)[None, ::-1]
        at_once = self._parameters.points_per_batch
        if self._predictor.device.type == "cpu":
            at_once = min(at_once, _CPU_POINTS)
        batches: list[_Candidates] = []
        for (batch,) in batch_iterator(at_once, points):
            check_wanted()
            for candidates in in_halves(self._at, batch):
                room.take(candidates.logits.nbytes)
                batches.append(candidates)
        logits = [mask for batch in batches for mask in batch.logits]
        scores = torch.cat([batch.scores for batch in batches])
        boxes = torch.cat([batch.boxes for batch in batches])
        one_class = torch.zeros(len(boxes), device=boxes.device)
        keep = batched_nms(boxes.float(), scores, one_class, self._parameters.box_nms_threshold)
        corner = self._crop.left, self._crop.top
        kept = _Candidates(
            logits=torch.stack([logits[row] for row in keep.tolist()]) if len(keep) else batches[0].logits,
            scores=scores[keep],
            boxes=boxes[keep] + torch.tensor([[*corner, *corner]], device=boxes.device),
        )
        room.give_back(sum(batch.logits.nbytes for batch in batches) - kept.logits.nbytes)
        return kept

    def _at(self, points: NDArray[np.float64]) -> _Candidates:
        """What is found at some points, in pixels of the crop; boxes in the crop."""
        predictor, parameters = self._predictor, self._parameters
        coordinates = torch.as_tensor(
            predictor.transform.apply_coords(points, self._crop.size),
            dtype=torch.float if predictor.device.type == "mps" else None,  # which has no 64 bits
            device=predictor.device,
        )
        logits, scores = self._decoder.decode(coordinates, parameters.pred_iou_threshold)
        cut_off = predictor.model.mask_threshold
        stable, boxes = [], []
        for part in _parts(logits, self._crop.size):
            large = _full(predictor.model, part[:, None], predictor.input_size, self._crop.size)
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


def _without_duplicates(found: Sequence[_Found], parameters: Everything) -> Iterator[tuple[_Found, int]]:
    """Every row that is kept; where crops overlap, the one from the smaller crop."""
    rows = [(in_crop, row) for in_crop in found for row in range(len(in_crop.candidates.scores))]
    if len(found) == 1 or not rows:
        yield from rows
        return
    boxes = torch.cat([in_crop.candidates.boxes for in_crop in found]).float()
    scores = torch.tensor([1 / in_crop.crop.area for in_crop, _ in rows], device=boxes.device)
    one_class = torch.zeros(len(boxes), device=boxes.device)
    for i in batched_nms(boxes, scores, one_class, parameters.crop_nms_threshold).tolist():
        yield rows[i]


def _mended(masks: list[FoundMask], parameters: Everything) -> list[FoundMask]:
    """The masks without small holes and islands, and without those that became duplicates by that."""
    mended, untouched, boxes = [], [], []
    for one in masks:
        whole = one.inside.unpack()
        whole, holes = remove_small_regions(whole, parameters.min_mask_region_area, mode="holes")
        whole, islands = remove_small_regions(whole, parameters.min_mask_region_area, mode="islands")
        untouched.append(float(not (holes or islands)))
        mended.append(replace(one, inside=PackedMask.pack(whole)))
        boxes.append(_box(whole))
    if not masks:
        return masks
    keep = batched_nms(
        torch.tensor(boxes, dtype=torch.float),
        torch.tensor(untouched),
        torch.zeros(len(boxes)),
        max(parameters.box_nms_threshold, parameters.crop_nms_threshold),
    )
    return [mended[i] for i in keep.tolist()]


def _box(mask: Mask) -> tuple[int, int, int, int]:
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    return (x, y, x + width - 1, y + height - 1) if width else (0, 0, 0, 0)


def _parts(logits: torch.Tensor, size: tuple[int, int]) -> Iterator[torch.Tensor]:
    at_once = max(1, _AT_ONCE_PIXELS // (size[0] * size[1]))
    for start in range(0, len(logits), at_once):
        yield logits[start : start + at_once]


def _full(
    model: Sam, logits: torch.Tensor, input_size: tuple[int, int], size: tuple[int, int]
) -> torch.Tensor:
    """Logits (N, H, W) at the crop's size."""
    full: torch.Tensor = model.postprocess_masks(logits, input_size, size)
    return full[:, 0]
