"""What models say in queries, each a class, a score and a mask; and the segments that are found in them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from worker.masks import Probabilities
from worker.packed_mask import PackedMask

NOTHING = -1  #: in a class map: no class


@dataclass(frozen=True, kw_only=True, slots=True)
class Queries:
    """What a model says of one image."""

    class_logits: torch.Tensor
    """float32 (Q, C + 1), the last class is none; of RF-DETR (Q, C)."""
    mask_logits: torch.Tensor
    """float32 (Q, h, w)"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidates:
    """Those of the queries that may become segments."""

    classes: Sequence[int]
    scores: torch.Tensor
    """float32 (K,), 0..1"""
    mask_logits: torch.Tensor
    """float32 (K, h, w)"""


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


def likeliest_pairs(queries: Queries) -> Candidates:
    """The likeliest pairs of a query and a class, as many as there are queries."""
    count, classes = queries.class_logits.shape[0], queries.class_logits.shape[1] - 1
    scores, flat = queries.class_logits.softmax(-1)[:, :-1].flatten().topk(count, sorted=False)
    return Candidates(
        classes=(flat % classes).tolist(), scores=scores, mask_logits=queries.mask_logits[flat // classes]
    )
