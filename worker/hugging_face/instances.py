"""Segments each for itself, from queries: each a class, a score, and a mask.

The steps are those of the library's ``post_process_instance_segmentation``, with the same result to the last
pixel. But one mask at a time is brought to the image's size, where the library brings all of them.
"""

from dataclasses import replace

import numpy as np
import torch
from torch.nn import functional

from worker.bilinear import resize
from worker.hugging_face.queries import NOTHING, Found, FoundSegments, Queries, likeliest_pairs
from worker.packed_mask import Mask, PackedMask

_ROUNDING = 1e-3  # far more than the sum over an image's pixels is off by


class _Painting:
    """Instances, the later ones over the earlier."""

    def __init__(self, size: tuple[int, int], device: torch.device) -> None:
        self._class_map = np.full(size, NOTHING, np.int16)
        self._painted = torch.zeros(size, device=device)
        self._best = torch.zeros(size, device=device)
        self._segments: list[Found] = []

    def add(self, class_index: int, score: float, inside: torch.Tensor, probability: torch.Tensor) -> None:
        """``inside``: bool (H, W), not empty; ``probability``: float32 (H, W)."""
        mask: Mask = inside.cpu().numpy()
        torch.where(inside, probability, self._painted, out=self._painted)
        torch.maximum(self._best, probability, out=self._best)
        self._class_map[mask] = class_index
        self._segments.append(Found(class_index=class_index, score=score, mask=PackedMask.pack(mask)))

    def found(self) -> FoundSegments:
        is_empty = self._class_map == NOTHING
        probabilities = np.where(is_empty, self._best.cpu().numpy(), self._painted.cpu().numpy())
        return FoundSegments(
            segments=tuple(self._segments), class_map=self._class_map, probabilities=probabilities
        )


def find_by_small_masks(queries: Queries, size: tuple[int, int], *, threshold: float) -> FoundSegments:
    """The instances of MaskFormer and Mask2Former, which may overlap.

    Args:
        queries: of the image.
        size: height and width of the image.
        threshold: segments with a smaller score are left out; the score is that of the class times the mean
            probability inside the mask, both as the model gives it.
    """
    pairs = likeliest_pairs(queries)
    scores, logits = pairs.scores, pairs.mask_logits
    insides = (logits > 0).float()
    mask_scores = (logits.sigmoid() * insides).flatten(1).sum(1) / (insides.flatten(1).sum(1) + 1e-6)
    painting = _Painting(size, logits.device)
    for k, score in enumerate((scores * mask_scores).tolist()):
        if score < threshold:
            continue
        inside = functional.interpolate(insides[k][None, None], size=size, mode="nearest")[0, 0] > 0
        if inside.any():
            painting.add(pairs.classes[k], score, inside, resize(logits[k].sigmoid(), size).mul_(scores[k]))
    return painting.found()


def find_by_large_masks(queries: Queries, size: tuple[int, int], *, threshold: float) -> FoundSegments:
    """The instances of EoMT, which may overlap.

    Args:
        queries: of the image.
        size: height and width of the image.
        threshold: segments with a smaller score are left out; the score is that of the class times the mean
            probability inside the mask, both at the image's size.
    """
    scores, labels = queries.class_logits.softmax(-1)[:, :-1].max(-1)
    painting = _Painting(size, queries.mask_logits.device)
    for logits, label, class_score in zip(queries.mask_logits, labels.tolist(), scores, strict=True):
        if class_score < threshold - _ROUNDING:  # the mean inside is 1 at most, so the score is no larger
            continue
        large = resize(logits, size)
        inside = large > 0
        likely = large.sigmoid_()
        mask_score = (likely * inside).sum() / (inside.sum() + 1e-6)
        score = float(class_score * mask_score)
        if score >= threshold and inside.any():
            painting.add(label, score, inside, likely.mul_(class_score))
    return painting.found()


def find_first_come(
    queries: Queries, size: tuple[int, int], *, threshold: float, mask_threshold: float
) -> FoundSegments:
    """The instances of RF-DETR: what several claim belongs to the one with the best score.

    Args:
        queries: of the image; each class has a probability of its own, and there is none for no class.
        size: height and width of the image.
        threshold: pairs of a query and a class that are no more likely are left out.
        mask_threshold: from which probability on a pixel is inside.
    """
    count, classes = queries.class_logits.shape
    scores, flat = queries.class_logits.sigmoid().flatten().topk(count)
    keeps = scores > threshold
    cut_off = torch.tensor(mask_threshold).logit().item()
    taken = torch.zeros(size, dtype=torch.bool, device=scores.device)
    painting = _Painting(size, scores.device)
    for score, pair in zip(scores[keeps], flat[keeps].tolist(), strict=True):
        large = resize(queries.mask_logits[pair // classes], size)
        inside = (large > cut_off) & ~taken
        if inside.any():
            taken |= inside
            painting.add(pair % classes, float(score), inside, large.sigmoid_().mul_(score))
    return painting.found()


def without_overlaps(found: FoundSegments) -> FoundSegments:
    """The same, each segment without what later ones cover; nothing may be left of it."""
    covered = np.zeros(found.class_map.shape, np.bool_)
    segments = []
    for segment in reversed(found.segments):
        mask = segment.mask.unpack()
        segments.append(replace(segment, mask=PackedMask.pack(mask & ~covered)))
        covered |= mask
    return replace(found, segments=tuple(reversed(segments)))
