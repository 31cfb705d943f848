"""Puts a segmentation together from one mask after another, as every promptable family has to."""

from collections.abc import Sequence

import numpy as np

from worker.colors import annotation_specs
from worker.family import Segmentation, SegmentMask
from worker.masks import Composer, Probabilities
from worker.packed_mask import Mask, PackedMask

POSSIBLE = float(np.finfo(np.float32).tiny)  #: a segment never holds what is less likely: the impossible
_ANY_CATEGORY = 1


def segment_labels(count: int) -> list[str]:
    """The labels of segments that nobody named."""
    return [f"segment-{i}" for i in range(1, count + 1)]


class SegmentationBuilder:
    """Collects masks; those with one label share a category. Ids follow the order of the labels, from 1."""

    def __init__(self, height: int, width: int, labels: Sequence[str], confidence_threshold: float) -> None:
        """``labels``: of the masks that will come; a label that comes again counts once."""
        self._labels = list(dict.fromkeys(labels))
        self._ids = {label: i for i, label in enumerate(self._labels, 1)}
        self._shape = height, width
        self._threshold = confidence_threshold
        self._composer = Composer(height, width, len(self._labels))
        self._segments: list[SegmentMask] = []

    def add(
        self,
        label: str,
        probabilities: Probabilities,
        *,
        x: int = 0,
        y: int = 0,
        inside: Mask | None = None,
        score: float | None = None,
    ) -> None:
        """Count a mask.

        Args:
            label: one of the builder's.
            probabilities: float32 (h, w), 0..1, of the part of the image whose top left corner is (x, y); to
                be left as they are until ``build``.
            x: pixels from the left.
            y: pixels from the top.
            inside: bool (h, w), the segment; left out: where the threshold is reached, and no segment if that
                is nowhere.
            score: 0..1; left out: the mean probability inside.
        """
        self._composer.add(self._ids[label], probabilities, x, y)
        if inside is None:
            inside = probabilities >= max(self._threshold, POSSIBLE)
            if not inside.any():
                return
        self._segments.append(
            SegmentMask(
                label=label,
                category_id=self._ids[label],
                score=float(probabilities[inside].mean()) if score is None else score,
                packed=PackedMask.pack(inside, x, y, self._shape),
            )
        )

    def doubt(self, probabilities: Probabilities) -> None:
        """Count probabilities of what became no segment: they only tell how sure the background is.

        ``probabilities``: float32 (H, W), below the threshold everywhere; to be left as they are until
        ``build``.
        """
        self._composer.add(_ANY_CATEGORY, probabilities)

    def build(self) -> Segmentation:
        """The segmentation; to be called once, at the end."""
        category_map, confidence_map = self._composer.maps(self._threshold)
        return Segmentation(
            category_map=category_map,
            confidence_map=confidence_map,
            segments=tuple(self._segments),
            annotation_specs=annotation_specs(self._labels),
        )
