"""Segments from the queries of MaskFormer, Mask2Former and DETR: each a class, a score, and a mask.

The steps are those of the library's ``post_process_panoptic_segmentation`` and
``post_process_instance_segmentation``, with the same result to the last pixel. But one mask at a time is
brought to the image's size, where the library brings all of them.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from worker.bilinear import resize
from worker.masks import Probabilities
from worker.packed_mask import PackedMask

NOTHING = -1  #: in a class map: no class


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """One segment."""

    class_index: int
    score: float
    """0..1"""
    mask: PackedMask
    """(H, W); instances may overlap."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundSegments:
    """The segments of an image, and what they make of each pixel."""

    segments: tuple[Found, ...]
    class_map: NDArray[np.int16]
    """(H, W): 0..C-1, or ``NOTHING``."""
    probabilities: Probabilities
    """float32 (H, W), 0..1: that the pixel belongs to the best of the segments there, found or left out."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Queries:
    """What a model says of one image."""

    class_logits: torch.Tensor
    """float32 (Q, C + 1); the last class is none."""
    mask_logits: torch.Tensor
    """float32 (Q, h, w)"""


def find_regions(
    queries: Queries,
    size: tuple[int, int],
    *,
    threshold: float,
    mask_threshold: float,
    overlap_mask_area_threshold: float,
    fused: Collection[int] = (),
) -> FoundSegments:
    """Segments that share the image among them: panoptic segmentation.

    Args:
        queries: of the image.
        size: height and width of the image.
        threshold: queries with no larger score are left out.
        mask_threshold: from which weighted probability on a pixel counts for the area that a query claims.
        overlap_mask_area_threshold: what keeps no more than this part of that area is left out.
        fused: classes of which there is one segment at most.
    """
    scores, labels = queries.class_logits.softmax(-1).max(-1)
    keeps = (labels != queries.class_logits.shape[-1] - 1) & (scores > threshold)
    kept_scores, kept_labels = scores[keeps], labels[keeps].tolist()
    device = queries.mask_logits.device
    owner = torch.zeros(size, dtype=torch.int16, device=device)
    best = torch.full(size, -torch.inf, device=device)
    claimed = []
    for k, (logits, score) in enumerate(zip(queries.mask_logits[keeps], kept_scores, strict=True)):
        plane = resize(logits.sigmoid(), size).mul_(score)
        claimed.append(int(torch.count_nonzero(plane >= mask_threshold)))
        owner.masked_fill_(plane > best, k)
        torch.maximum(best, plane, out=best)
    owners = owner.cpu().numpy()
    owned = np.bincount(owners.reshape(-1), minlength=len(kept_labels)).tolist()
    lives = [
        own > 0 and claim > 0 and own / claim > overlap_mask_area_threshold
        for own, claim in zip(owned, claimed, strict=False)
    ]
    parts: dict[int, list[int]] = {}
    for k, label in enumerate(kept_labels):
        if lives[k]:
            first = next((j for j in parts if kept_labels[j] == label), k) if label in fused else k
            parts.setdefault(first, []).append(k)
    segments = tuple(
        Found(
            class_index=kept_labels[first],
            score=max(float(kept_scores[k]) for k in members),
            mask=PackedMask.pack(np.isin(owners, members) if len(members) > 1 else owners == first),
        )
        for first, members in parts.items()
    )
    classes = np.array([label if lives[k] else NOTHING for k, label in enumerate(kept_labels)], np.int16)
    return FoundSegments(
        segments=segments,
        class_map=classes[owners] if kept_labels else np.full(size, NOTHING, np.int16),
        probabilities=best.clamp_(0, 1).cpu().numpy(),
    )


def find_instances(queries: Queries, size: tuple[int, int], *, threshold: float) -> FoundSegments:
    """Segments each for itself, which may overlap: the instance segmentation of MaskFormer and Mask2Former.

    Args:
        queries: of the image.
        size: height and width of the image.
        threshold: segments with a smaller score are left out; the score is that of the class times the mean
            probability inside.
    """
    count, classes = queries.class_logits.shape[0], queries.class_logits.shape[1] - 1
    scores, flat = queries.class_logits.softmax(-1)[:, :-1].flatten().topk(count, sorted=False)
    labels, rows = (flat % classes).tolist(), flat // classes
    logits = queries.mask_logits[rows]
    insides = (logits > 0).float()
    mask_scores = (logits.sigmoid() * insides).flatten(1).sum(1) / (insides.flatten(1).sum(1) + 1e-6)
    segment_scores = (scores * mask_scores).tolist()
    class_map = np.full(size, NOTHING, np.int16)
    painted = torch.zeros(size, device=logits.device)
    best = torch.zeros(size, device=logits.device)
    segments = []
    for k, score in enumerate(segment_scores):
        if score < threshold:
            continue
        inside = functional.interpolate(insides[k][None, None], size=size, mode="nearest")[0, 0] > 0
        mask = inside.cpu().numpy()
        if not mask.any():
            continue
        plane = resize(logits[k].sigmoid(), size).mul_(scores[k])
        torch.where(inside, plane, painted, out=painted)
        torch.maximum(best, plane, out=best)
        class_map[mask] = labels[k]
        segments.append(Found(class_index=labels[k], score=score, mask=PackedMask.pack(mask)))
    probabilities = np.where(class_map == NOTHING, best.cpu().numpy(), painted.cpu().numpy())
    return FoundSegments(segments=tuple(segments), class_map=class_map, probabilities=probabilities)


def without_overlaps(found: FoundSegments) -> FoundSegments:
    """The same, each segment without what later ones cover; nothing may be left of it."""
    covered = np.zeros(found.class_map.shape, np.bool_)
    segments = []
    for segment in reversed(found.segments):
        mask = segment.mask.unpack()
        segments.append(replace(segment, mask=PackedMask.pack(mask & ~covered)))
        covered |= mask
    return replace(found, segments=tuple(reversed(segments)))
