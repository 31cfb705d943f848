"""Which ids a batch has had: of a million items in 16 MB."""

from collections.abc import Mapping, Sequence

import numpy as np


class SeenIds:
    """The ids so far, and the line of each. Of each id 64 bits are kept: that two of a million ids share them
    comes about once in forty million batches of that size."""

    def __init__(self) -> None:
        self._hashes = np.empty(0, np.int64)  # ascending
        self._lines = np.empty(0, np.int64)

    def add(self, ids: Sequence[str], lines: Sequence[int]) -> Mapping[int, int]:
        """Note these ids, each with the number of its line; of those that were there before, the number of
        the line to that of the first line that had it."""
        hashes = np.fromiter(map(hash, ids), np.int64, len(ids))
        numbers = np.asarray(lines, np.int64)
        order = np.argsort(hashes, kind="stable")  # of equal ones that of the first line comes first
        hashes, numbers = hashes[order], numbers[order]
        first = np.searchsorted(hashes, hashes)
        first_lines = numbers[first]
        before = np.searchsorted(self._hashes, hashes)
        within = np.minimum(before, max(len(self._hashes) - 1, 0))
        if len(self._hashes):
            is_known = self._hashes[within] == hashes
            first_lines = np.where(is_known, self._lines[within], first_lines)
        is_new = first_lines == numbers
        self._hashes = np.insert(self._hashes, before[is_new], hashes[is_new])
        self._lines = np.insert(self._lines, before[is_new], numbers[is_new])
        repeated = ~is_new
        return dict(zip(numbers[repeated].tolist(), first_lines[repeated].tolist(), strict=True))
