"""Segments that share an image among them, from queries: each a class, a score, and a mask.

The steps are those of the library's ``post_process_panoptic_segmentation``, with the same result to the last
pixel. But one mask at a time is brought to the image's size, where the library brings all of them.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
import torch

from worker import bilinear
from worker.bilinear import Resize
from worker.hugging_face.queries import NOTHING, Candidates, Found, FoundSegments, Queries, likeliest_pairs
from worker.packed_mask import PackedMask


class Claim(NamedTuple):
    """What a candidate makes of each pixel of the image."""

    strength: torch.Tensor
    """float32 (H, W): the candidate with the largest owns the pixel."""
    inside: torch.Tensor
    """bool (H, W): the pixel is of the area that it claims."""


class ByProbability:
    """MaskFormer's way: the mask's probability, brought to size, times the score."""

    owns_outside = True
    """Whether a segment keeps the pixels that it owns outside the area that it claims."""

    def __init__(self, size: tuple[int, int], mask_threshold: float, resize: Resize | None = None) -> None:
        """``size``: height and width of the image; ``resize``: brings planes to it, None: bilinearly."""
        self._size = size
        self._mask_threshold = mask_threshold
        self._resize = resize or bilinear.resize

    def claim(self, logits: torch.Tensor, score: torch.Tensor) -> Claim:
        """Of a candidate's logits (h, w) and its score."""
        strength = self._resize(logits.sigmoid(), self._size).mul_(score)
        return Claim(strength, strength >= self._mask_threshold)

    def probability(self, strength: torch.Tensor, score: torch.Tensor) -> torch.Tensor:
        """That a pixel belongs to its owner; ``strength`` and ``score``: the owner's, (H, W)."""
        return strength.clamp(0, 1)

    def fused_score(self, scores: Sequence[float]) -> float:
        """Of the segment of several candidates."""
        return max(scores)


class ByLogit(ByProbability):
    """OneFormer's way with instances: the mask's logit, brought to size, times the score."""

    def claim(self, logits: torch.Tensor, score: torch.Tensor) -> Claim:
        """Of a candidate's logits (h, w) and its score."""
        strength = self._resize(logits, self._size).mul_(score)
        return Claim(strength, strength >= self._mask_threshold)

    def probability(self, strength: torch.Tensor, score: torch.Tensor) -> torch.Tensor:
        """That a pixel belongs to its owner; ``strength`` and ``score``: the owner's, (H, W)."""
        return (strength / score).sigmoid_().mul_(score)


class ByLargeProbability(ByProbability):
    """EoMT's way: the probability of the mask's logit, brought to size; the score counts against others."""

    owns_outside = False

    def claim(self, logits: torch.Tensor, score: torch.Tensor) -> Claim:
        """Of a candidate's logits (h, w) and its score."""
        likely = self._resize(logits, self._size).sigmoid_()
        inside = likely >= self._mask_threshold
        return Claim(likely.mul_(score), inside)

    def fused_score(self, scores: Sequence[float]) -> float:
        """Of the segment of several candidates: the first one's."""
        return scores[0]


def likely_queries(queries: Queries, threshold: float) -> Candidates:
    """Each query with its likeliest class, unless that is none, or no more likely than ``threshold``."""
    scores, labels = queries.class_logits.softmax(-1).max(-1)
    keeps = (labels != queries.class_logits.shape[-1] - 1) & (scores > threshold)
    return Candidates(
        classes=labels[keeps].tolist(), scores=scores[keeps], mask_logits=queries.mask_logits[keeps]
    )


def likely_classes(queries: Queries, threshold: float) -> Candidates:
    """The likeliest pairs of a query and a class, each likelier than ``threshold``."""
    pairs = likeliest_pairs(queries)
    keeps = pairs.scores > threshold
    return Candidates(
        classes=[label for label, is_kept in zip(pairs.classes, keeps.tolist(), strict=True) if is_kept],
        scores=pairs.scores[keeps],
        mask_logits=pairs.mask_logits[keeps],
    )


def find_regions(
    candidates: Candidates,
    size: tuple[int, int],
    claiming: ByProbability,
    *,
    overlap_mask_area_threshold: float,
    fused: Collection[int] = (),
) -> FoundSegments:
    """The segments of candidates, of which each pixel has one at most.

    Args:
        candidates: in the library's order.
        size: height and width of the image.
        claiming: what each claims.
        overlap_mask_area_threshold: what owns no more than this part of the area that it claims is left out.
        fused: classes of which there is one segment at most.
    """
    classes, scores = candidates.classes, candidates.scores
    if not classes:
        nothing = np.full(size, NOTHING, np.int16)
        return FoundSegments(segments=(), class_map=nothing, probabilities=np.zeros(size, np.float32))
    owner = torch.zeros(size, dtype=torch.int16, device=scores.device)
    strongest = torch.full(size, -torch.inf, device=scores.device)
    is_inside = torch.ones(size, dtype=torch.bool, device=scores.device)
    claimed = []
    for k, (logits, score) in enumerate(zip(candidates.mask_logits, scores, strict=True)):
        claim = claiming.claim(logits, score)
        claimed.append(int(torch.count_nonzero(claim.inside)))
        is_stronger = claim.strength > strongest
        owner.masked_fill_(is_stronger, k)
        if not claiming.owns_outside:
            torch.where(is_stronger, claim.inside, is_inside, out=is_inside)
        torch.maximum(strongest, claim.strength, out=strongest)
    probabilities = claiming.probability(strongest, scores[owner.long()]).cpu().numpy()
    owners = owner.cpu().numpy()
    owned = kept = np.bincount(owners.reshape(-1), minlength=len(classes))
    if not claiming.owns_outside:
        owners[~is_inside.cpu().numpy()] = len(classes)  # nobody's
        kept = np.bincount(owners.reshape(-1), minlength=len(classes))
    lives = [
        kept[k] > 0 and area > 0 and _ratio(owned[k], area) > overlap_mask_area_threshold
        for k, area in enumerate(claimed)
    ]
    parts: dict[int, list[int]] = {}
    for k, label in enumerate(classes):
        if lives[k]:
            first = next((j for j in parts if classes[j] == label), k) if label in fused else k
            parts.setdefault(first, []).append(k)
    segments = tuple(
        Found(
            class_index=classes[first],
            score=claiming.fused_score([float(scores[k]) for k in members]),
            mask=PackedMask.pack(np.isin(owners, members) if len(members) > 1 else owners == first),
        )
        for first, members in parts.items()
    )
    told = [label if lives[k] else NOTHING for k, label in enumerate(classes)]
    return FoundSegments(
        segments=segments,
        class_map=np.array([*told, NOTHING], np.int16)[owners],
        probabilities=probabilities,
    )


def _ratio(owned: int, claimed: int) -> float:
    """As the library rounds it, so that 4 of 5 are more than 0.8."""
    return float(np.float32(owned) / np.float32(claimed))
