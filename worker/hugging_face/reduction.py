"""The most likely class of each pixel of a large image, from a small plane of scores for each class.

The usual way brings every plane to the image's size and then looks for the largest: 150 classes of a picture
of 12 megapixels take 7 GB. Here a few rows are brought to size at a time, and of these only the classes that
can matter there. The classes are those of the usual way to the last pixel, for the arithmetic is the same.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from worker import bilinear
from worker.bilinear import Resize, bands, is_exact_by_rows
from worker.masks import Probabilities

ClassMap = NDArray[np.uint16]  #: (H, W), indices of classes

_NEGLIGIBLE = 16.0  # a class by so much less likely than another, in logits, changes nothing that 8 bits show
_ROUNDING = 1e-3


def most_likely(
    scores: torch.Tensor, size: tuple[int, int], *, are_logits: bool, resize: Resize | None = None
) -> tuple[ClassMap, Probabilities]:
    """The class with the largest score at each pixel, and its probability.

    Equal to ``interpolate(scores[None], size, mode="bilinear", align_corners=False)[0].argmax(0)``, unless
    another ``resize`` is given.

    Args:
        scores: float32 (C, h, w).
        size: height and width of the image.
        are_logits: a class's probability is its softmax among all; if not, its score, as far as 1.

    Returns:
        uint16 (H, W), 0..C-1, of equal scores any; and float32 (H, W), 0..1.
    """
    if resize is None and is_exact_by_rows(scores, size):
        return _by_bands(scores.contiguous(), size, are_logits=are_logits)
    return _by_planes(scores, size, are_logits=are_logits, resize=resize or bilinear.resize)


class _Best:
    """The best class so far, at some pixels."""

    def __init__(self, shape: tuple[int, ...], device: torch.device, highest: torch.Tensor | None) -> None:
        """``highest``: no logit of these pixels is larger; None if the scores are no logits."""
        self._score = torch.full(shape, -torch.inf, device=device)
        self._index = torch.zeros(shape, dtype=torch.int16, device=device)
        self._is_better = torch.empty(shape, dtype=torch.bool, device=device)
        self._highest = highest
        self._sum = torch.zeros(shape, device=device)

    def add(self, index: int, scores: torch.Tensor) -> None:
        """Count a class; ``scores`` is changed. Classes come in ascending order."""
        torch.gt(scores, self._score, out=self._is_better)
        self._index.masked_fill_(self._is_better, index)
        torch.maximum(self._score, scores, out=self._score)
        if self._highest is not None:
            self._sum.add_(scores.sub_(self._highest).exp_())

    def count(self, under_highest: torch.Tensor) -> None:
        """Count a class that can't be the best; its logits less ``highest``, which are changed."""
        self._sum.add_(under_highest.exp_())

    def probability(self) -> torch.Tensor:
        if self._highest is None:
            return self._score.clamp_(0, 1)
        # Far below the highest all are rounded to nothing, and what is left of the best is all that there is.
        return self._score.sub_(self._highest).exp_().div_(self._sum).nan_to_num_(1.0)

    @property
    def index(self) -> torch.Tensor:
        return self._index


def _by_planes(
    scores: torch.Tensor, size: tuple[int, int], *, are_logits: bool, resize: Resize = bilinear.resize
) -> tuple[ClassMap, Probabilities]:
    # Bringing the largest logit to size gives no less than the largest of those brought to size.
    best = _Best(size, scores.device, resize(scores.amax(0), size) if are_logits else None)
    for index, plane in enumerate(scores):
        best.add(index, resize(plane, size))
    return _to_numpy(best.index, best.probability())


def _by_bands(
    scores: torch.Tensor, size: tuple[int, int], *, are_logits: bool
) -> tuple[ClassMap, Probabilities]:
    height, width = size
    classes = np.empty(size, np.uint16)
    probabilities = np.empty(size, np.float32)
    rows: dict[int, torch.Tensor] = {}
    for band in bands(scores.shape[1], height):
        rows = {
            row: rows[row] if row in rows else _widened(scores, row, width) for row in (band.row, band.below)
        }
        upper, lower = rows[band.row], rows[band.below]
        highest = torch.maximum(upper, lower)
        # Between two rows a class stays between its two scores. Most can't win there, and some hardly count.
        surely = torch.minimum(upper, lower).amax(0)
        can_win = (highest > surely - _ROUNDING).any(1)
        counts = (highest > surely - _NEGLIGIBLE).any(1) & ~can_win
        top = highest.amax(0)
        shape = band.upper.shape[0], width
        best = _Best(shape, scores.device, top if are_logits else None)
        blend = torch.empty(shape)
        for index in can_win.nonzero().flatten().tolist():
            torch.mul(lower[index], band.lower, out=blend)
            best.add(index, blend.addcmul_(upper[index], band.upper))
        for index in counts.nonzero().flatten().tolist() if are_logits else ():
            torch.mul(lower[index] - top, band.lower, out=blend)
            best.count(blend.addcmul_(upper[index] - top, band.upper))
        window = np.s_[band.first : band.first + shape[0]]
        classes[window], probabilities[window] = _to_numpy(best.index, best.probability())
    return classes, probabilities


def _widened(scores: torch.Tensor, row: int, width: int) -> torch.Tensor:
    """One row of each class, (C, width)."""
    return functional.interpolate(
        scores[None, :, row : row + 1], size=(1, width), mode="bilinear", align_corners=False
    )[0, :, 0]


def _to_numpy(index: torch.Tensor, probability: torch.Tensor) -> tuple[ClassMap, Probabilities]:
    return index.cpu().numpy().view(np.uint16), probability.cpu().numpy()
