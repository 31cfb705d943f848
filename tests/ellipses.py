"""Scenes that a small model learns within seconds: a bright ellipse in noise."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worker.family import Image

SIDE = 256


@dataclass(frozen=True, kw_only=True)
class Scene:
    """An ellipse in noise, its mask, and a box that is somewhat too large."""

    image: Image
    mask: NDArray[np.bool_]
    box: tuple[float, float, float, float]


def make_scene(rng: np.random.Generator) -> Scene:
    rows, columns = np.mgrid[:SIDE, :SIDE]
    x, y = rng.uniform(70, SIDE - 70, 2)
    a, b = rng.uniform(25, 60, 2)
    mask = ((columns - x) / a) ** 2 + ((rows - y) / b) ** 2 <= 1
    image = rng.integers(0, 60, (SIDE, SIDE, 3), np.uint8)
    image[mask] += 150
    left, top, right, bottom = np.clip(
        np.array([x - a, y - b, x + a, y + b]) + rng.uniform(0, 60, 4) * [-1, -1, 1, 1], 0, SIDE - 1
    ).tolist()
    return Scene(image=image, mask=mask, box=(left, top, right, bottom))


def overlap(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Intersection over union of two masks."""
    return float((one & other).sum() / (one | other).sum())
