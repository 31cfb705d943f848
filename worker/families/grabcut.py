"""GrabCut: cuts labelled objects out of a photo by their boxes and points, from colours alone.

The cut is OpenCV's (Rother, Kolmogorov and Blake: GrabCut, SIGGRAPH 2004). It runs on the neighbourhood of
each prompt, so its time does not grow with the image, and on three levels. On a coarse one it learns the
colours. On a finer one it cuts once more, only in a band along the coarse edge (Lombaert et al.: a multilevel
banded graph cuts method, ICCV 2005). A fast guided filter (He and Sun, arXiv:1505.00996) carries the result
to full resolution, and puts the edge where the image has it.

The probability of a pixel comes from two witnesses of equal weight, both heard in a small neighbourhood: the
colour models that the cut learned (the posterior of the foreground mixture), and the cut itself (the share on
the object's side). They say how sure the cut is, and never overrule it: a pixel that the cut gave to the
object has a probability of at least 0.5, any other of at most 0.5. Where colours can't tell, as in a picture
of a single colour, their witness is 0.5.
"""

import math
from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from maskline.catalog import ModelSpec
from maskline.requests import Prompt, PromptKind
from maskline.results import ModelCard
from worker.family import (
    CommonParameters,
    Image,
    Resources,
    Segmentation,
    SegmentationInput,
    Segmenter,
    promptable_card,
)
from worker.guided_filter import Plane, enlarge
from worker.packed_mask import Mask
from worker.segmentation_builder import POSSIBLE, SegmentationBuilder, segment_labels
from worker.window import Window

PACKAGES = ("cv2",)

Trimap = NDArray[np.uint8]  #: (H, W) of cv2.GC_BGD, GC_FGD, GC_PR_BGD, GC_PR_FGD
Mixtures = NDArray[np.float64]  #: (2, 1, 65), OpenCV's models of the background's and the object's colours

_SEED = 1  # OpenCV's k-means draws from a generator of the calling thread
_MARGIN = 0.25  # of the box, on each side: the surroundings that the background's colours are learned from
_MIN_MARGIN = 8.0  # pixels
_SEED_RADIUS = 1 / 60  # of the neighbourhood's longer side: how far a point is sure of its object
_REACH = 1 / 4  # of the image's shorter side: how far from its points an object without a box is looked for
_BORDER = 1 / 40  # of the neighbourhood's shorter side: background where nothing else is
_AROUND = 1 / 80  # of the neighbourhood's longer side: how far the witnesses look around a pixel
_COMPONENTS = 5  # Gaussians in each of GrabCut's two mixtures
_COARSE_AREA = 240 * 240  # pixels of the coarse level
_BAND = 2  # coarse pixels on each side of the coarse edge, between which the finer cut decides
_SALIENCE_SIDE = 160  # pixels of the longer side at which salience is measured
_SALIENCE_BORDER = 1 / 10  # of the shorter side: the strips whose colours are the background's
_SALIENCE_SWEEPS = 3  # Zhang et al., section 3.2: three passes come close to the exact distance
_COLOR_NOISE = 4.0  # variance that every strip's colours have at least, in 8-bit Lab


class Parameters(CommonParameters):
    """GrabCut's own parameters."""

    iterations: int = Field(default=4, ge=1, le=20)
    """Rounds of learning the colours and cutting."""
    max_side: int = Field(default=384, ge=64, le=2048)
    """Pixels of the longer side of an object's neighbourhood at which its edge is cut."""
    min_area: float = Field(default=0.005, ge=0, le=1)
    """Without prompts: the least part of the image that a segment covers."""
    max_segments: int = Field(default=32, ge=1, le=1000)
    """Without prompts: at most so many segments, the largest."""


def describe(spec: ModelSpec) -> ModelCard:
    """The card of a GrabCut model."""
    return promptable_card(spec, Parameters, PromptKind.BOX, PromptKind.POINTS)


def load(spec: ModelSpec, resources: Resources) -> Segmenter:
    """The model; there is nothing to load."""
    return GrabCut()


class GrabCut:
    """The segmenter; it keeps nothing between images."""

    def segment(self, inputs: Sequence[SegmentationInput]) -> Sequence[Segmentation]:
        """Each image by itself."""
        return [_segment(one) for one in inputs]


def _segment(one: SegmentationInput) -> Segmentation:
    parameters = one.parameters
    assert isinstance(parameters, Parameters)  # noqa: S101 (the registry made them from this family's model)
    if one.prompts:
        return _segment_prompts(one.image, one.prompts, parameters)
    return _segment_everything(one.image, parameters)


def _segment_prompts(image: Image, prompts: Sequence[Prompt], parameters: Parameters) -> Segmentation:
    labels = [prompt.label for prompt in prompts]
    height, width = image.shape[:2]
    builder = SegmentationBuilder(height, width, labels, parameters.confidence_threshold)
    for prompt in prompts:
        others = [other for other in prompts if other.label != prompt.label]
        window, probabilities = _cut_out(image, prompt, others, parameters)
        builder.add(prompt.label, probabilities, x=window.left, y=window.top)
    return builder.build()


def _segment_everything(image: Image, parameters: Parameters) -> Segmentation:
    height, width = image.shape[:2]
    small = _shrunk(image, parameters.max_side)
    probabilities = enlarge(_cut(small, _salient(small), parameters.iterations), small, image)
    found = probabilities >= max(parameters.confidence_threshold, POSSIBLE)
    _, parts, stats, _ = cv2.connectedComponentsWithStats(found.view(np.uint8), connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA]
    large = np.flatnonzero(areas >= parameters.min_area * height * width)
    chosen = large[np.argsort(-areas[large], kind="stable")][: parameters.max_segments] + 1
    labels = segment_labels(len(chosen))
    builder = SegmentationBuilder(height, width, labels, parameters.confidence_threshold)
    builder.doubt(np.where(found, np.float32(0), probabilities))
    for label, part in zip(labels, chosen, strict=True):
        left, top, part_width, part_height = (int(value) for value in stats[part, :4])
        pixels = np.s_[top : top + part_height, left : left + part_width]
        inside = parts[pixels] == part
        builder.add(
            label, np.where(inside, probabilities[pixels], np.float32(0)), x=left, y=top, inside=inside
        )
    return builder.build()


def _cut_out(
    image: Image, prompt: Prompt, others: Sequence[Prompt], parameters: Parameters
) -> tuple[Window, Plane]:
    """The prompt's part of the image, and there each pixel's probability to be of the object."""
    box, window = _windows(prompt, *image.shape[:2])
    part = image[window.slices]
    small = _shrunk(part, parameters.max_side)
    trimap = _trimap(prompt, others, box, window, small.shape[:2])
    probabilities = enlarge(_cut(small, trimap, parameters.iterations), small, part)
    if prompt.box is not None:  # what is outside the box is not of the object, whatever its colour
        in_window = box.shifted(-window.left, -window.top)
        return box, np.ascontiguousarray(probabilities[in_window.slices])
    return window, probabilities


def _windows(prompt: Prompt, height: int, width: int) -> tuple[Window, Window]:
    """Where the object can be, and that with its surroundings."""
    if prompt.box is not None:
        x_min, y_min, x_max, y_max = prompt.box
    else:
        reach = _REACH * min(height, width)
        near = [(x, y) for x, y, label in prompt.labelled_points if label]
        x_min, x_max = min(x for x, _ in near) - reach, max(x for x, _ in near) + reach
        y_min, y_max = min(y for _, y in near) - reach, max(y for _, y in near) + reach
    margin_x = max(_MIN_MARGIN, _MARGIN * (x_max - x_min))
    margin_y = max(_MIN_MARGIN, _MARGIN * (y_max - y_min))
    box = _rounded(x_min, y_min, x_max, y_max, height=height, width=width)
    return box, _rounded(
        x_min - margin_x, y_min - margin_y, x_max + margin_x, y_max + margin_y, height=height, width=width
    )


def _rounded(x_min: float, y_min: float, x_max: float, y_max: float, *, height: int, width: int) -> Window:
    """The pixels that the rectangle touches, and always one at least."""
    left = min(max(int(np.floor(x_min)), 0), width - 1)
    top = min(max(int(np.floor(y_min)), 0), height - 1)
    right = min(max(int(np.ceil(x_max)), left + 1), width)
    bottom = min(max(int(np.ceil(y_max)), top + 1), height)
    return Window(left=left, top=top, right=right, bottom=bottom)


def _trimap(
    prompt: Prompt, others: Sequence[Prompt], box: Window, window: Window, shape: tuple[int, int]
) -> Trimap:
    """What the prompts say of the window's pixels, at the size of the cut."""
    height, width = shape
    scale_y, scale_x = height / window.size[0], width / window.size[1]

    def to_small(x: float, y: float) -> tuple[int, int]:
        column = int((x - window.left) * scale_x)
        row = int((y - window.top) * scale_y)
        return min(max(column, 0), width - 1), min(max(row, 0), height - 1)

    if prompt.box is not None:
        trimap = np.full(shape, cv2.GC_BGD, np.uint8)
        left, top = to_small(box.left, box.top)
        right, bottom = to_small(box.right - 1, box.bottom - 1)
        trimap[top : bottom + 1, left : right + 1] = cv2.GC_PR_FGD
    else:
        trimap = np.full(shape, cv2.GC_PR_BGD, np.uint8)
        reach = max(1, round(_REACH * min(shape)))
        for x, y, label in prompt.labelled_points:
            if label:
                cv2.circle(trimap, to_small(x, y), reach, cv2.GC_PR_FGD, cv2.FILLED)
    radius = max(1, round(_SEED_RADIUS * max(shape)))
    for x, y, label in _evidence(prompt, others):
        if window.left <= x <= window.right and window.top <= y <= window.bottom:
            cv2.circle(trimap, to_small(x, y), radius, cv2.GC_FGD if label else cv2.GC_BGD, cv2.FILLED)
    return trimap


def _evidence(prompt: Prompt, others: Sequence[Prompt]) -> Iterator[tuple[float, float, int]]:
    """The prompt's points, after those on objects of another label: these are beside this one."""
    for other in others:
        yield from ((x, y, 0) for x, y, label in other.labelled_points if label)
    yield from prompt.labelled_points


def _salient(image: Image) -> Trimap:
    """Without prompts: what stands out against the image's border is probably an object.

    It stands out where both measures of Zhang et al. (Minimum barrier salient object detection at 80 FPS,
    ICCV 2015) say so: it is fenced off from the border, and unlike it in colour. Their product, not their
    sum, leaves a graded sky alone. Otsu's threshold splits it.
    """
    small = cv2.GaussianBlur(_shrunk(image, _SALIENCE_SIDE), (0, 0), 1)
    lab = cv2.cvtColor(small, cv2.COLOR_RGB2LAB).astype(np.float32)
    salience = _barrier_distance(lab) * _unlikeness(lab)
    scaled = np.rint(salience * (255 / max(float(salience.max()), 1e-6))).astype(np.uint8)
    _, salient = cv2.threshold(scaled, 0, 1, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    large = _resized(np.asarray(salient, np.uint8), *image.shape[:2])
    return np.where(large == 1, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)


def _barrier_distance(lab: NDArray[np.float32]) -> Plane:
    """How much colour must change on the way from the border; float32 (h, w).

    It is the least, over all paths, of the range of values on the path, summed over the channels.

    Args:
        lab: float32 (h, w, 3).
    """
    distance = np.full_like(lab, np.inf)
    for line in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]):
        distance[line] = 0
    state = np.stack([lab, distance, lab, lab])
    across = state.swapaxes(1, 2)
    for _ in range(_SALIENCE_SWEEPS):
        for way in (state, state[:, ::-1], across, across[:, ::-1]):
            _sweep(*way)
    return state[1].sum(axis=2)


def _sweep(
    values: NDArray[np.float32],
    distance: NDArray[np.float32],
    highest: NDArray[np.float32],
    lowest: NDArray[np.float32],
) -> None:
    """Lengthen the best path of each pixel of a line by one step to the next line, where that is better."""
    for i in range(1, len(values)):
        high = np.maximum(highest[i - 1], values[i])
        low = np.minimum(lowest[i - 1], values[i])
        better = high - low < distance[i]
        np.copyto(distance[i], high - low, where=better)
        np.copyto(highest[i], high, where=better)
        np.copyto(lowest[i], low, where=better)


def _unlikeness(lab: NDArray[np.float32]) -> Plane:
    """How far each colour is from those along the border (Mahalanobis); float32 (h, w).

    The side of the border that is least like a pixel is not asked: an object may touch it.
    """
    line = max(1, round(_SALIENCE_BORDER * min(lab.shape[:2])))
    distances = []
    for strip in (lab[:line], lab[-line:], lab[:, :line], lab[:, -line:]):
        colors = strip.reshape(-1, 3).astype(np.float64)
        offset = lab - colors.mean(axis=0)
        spread = np.cov(colors, rowvar=False, bias=True) + _COLOR_NOISE * np.eye(3)
        distance = np.sqrt(np.einsum("hwi,ij,hwj->hw", offset, np.linalg.inv(spread), offset))
        distances.append(distance / max(float(distance.max()), 1e-6))
    return np.asarray(np.sum(distances, axis=0) - np.max(distances, axis=0), np.float32)


def _cut(image: Image, trimap: Trimap, iterations: int) -> Plane:
    """Each pixel's probability to be of the object; float32 (h, w), at the size of ``image``."""
    height, width = trimap.shape
    trimap = _with_background(trimap)
    models = np.zeros((2, 1, 13 * _COMPONENTS))
    scale = math.sqrt(_COARSE_AREA / trimap.size)
    coarse = _resized(trimap, max(1, round(height * scale)), max(1, round(width * scale)))
    if scale < 1 and not _is_one_sided(coarse):
        small = cv2.resize(image, coarse.shape[::-1], interpolation=cv2.INTER_AREA)
        _grab_cut(np.asarray(small, np.uint8), coarse, models, iterations, cv2.GC_INIT_WITH_MASK)
        trimap = _banded(coarse, trimap)
        _grab_cut(image, trimap, models, 1, cv2.GC_EVAL_FREEZE_MODEL)
    else:
        _grab_cut(image, trimap, models, iterations, cv2.GC_INIT_WITH_MASK)
    side = _is_foreground(trimap).astype(np.float32)
    around = 2 * max(1, round(_AROUND * max(side.shape))) + 1
    heard = cv2.blur(
        (_posterior(image, models) + side) / 2, (around, around), borderType=cv2.BORDER_REPLICATE
    )
    return np.asarray((side + heard) / 2, np.float32)


def _grab_cut(image: Image, trimap: Trimap, models: Mixtures, iterations: int, mode: int) -> None:
    """Cut, in place: ``trimap`` gets the sides, ``models`` the colours. With one side only nothing is cut."""
    if not _is_one_sided(trimap):
        background, foreground = models
        cv2.setRNGSeed(_SEED)
        cv2.grabCut(image, trimap, (0, 0, 0, 0), background, foreground, iterations, mode)


def _banded(coarse: Trimap, trimap: Trimap) -> Trimap:
    """The coarse cut at the size of ``trimap``, sure outside a band along its edge; the user's marks stay."""
    side = _is_foreground(coarse).astype(np.uint8)
    near = np.ones((2 * _BAND + 1, 2 * _BAND + 1), np.uint8)
    banded = np.where(side, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    banded[cv2.erode(side, near) == 1] = cv2.GC_FGD
    banded[cv2.dilate(side, near) == 0] = cv2.GC_BGD
    is_marked = (trimap == cv2.GC_FGD) | (trimap == cv2.GC_BGD)
    return np.where(is_marked, trimap, _resized(banded, *trimap.shape))


def _with_background(trimap: Trimap) -> Trimap:
    """The trimap; where it knows no background, its border is that, if anything is left inside."""
    border = _border(*trimap.shape)
    if border.all() or not _is_foreground(trimap).all():
        return trimap
    return np.where(border & (trimap == cv2.GC_PR_FGD), np.uint8(cv2.GC_PR_BGD), trimap)


def _border(height: int, width: int) -> Mask:
    line = max(1, round(_BORDER * min(height, width)))
    border = np.ones((height, width), np.bool_)
    border[line : height - line, line : width - line] = False
    return border


def _is_foreground(trimap: Trimap) -> Mask:
    return (trimap == cv2.GC_FGD) | (trimap == cv2.GC_PR_FGD)


def _is_one_sided(trimap: Trimap) -> bool:
    is_foreground = _is_foreground(trimap)
    return bool(is_foreground.all() or not is_foreground.any())


def _resized(labels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8)


def _posterior(image: Image, models: Mixtures) -> Plane:
    """The probability of the object by colour alone, either side being as likely; float32 (h, w).

    A mixture that no pixel was left to has nothing to say; then it is 0.5.
    """
    background, foreground = models
    if not (background.any() and foreground.any()):
        return np.full(image.shape[:2], 0.5, np.float32)
    odds = _log_likelihood(image, foreground) - _log_likelihood(image, background)
    return np.asarray(1 / (1 + np.exp(-np.clip(odds, -30, 30))), np.float32)


def _log_likelihood(image: Image, model: NDArray[np.float64]) -> Plane:
    """Log of the colours' density under one of GrabCut's mixtures, up to a constant; float32 (h, w).

    ``model`` holds, as OpenCV lays them out, the components' weights, their means, and their covariances.
    """
    weights = model[0, :_COMPONENTS]
    means = model[0, _COMPONENTS : 4 * _COMPONENTS].reshape(_COMPONENTS, 3)
    covariances = model[0, 4 * _COMPONENTS :].reshape(_COMPONENTS, 3, 3)
    pixels = image.reshape(-1, 3).astype(np.float32)
    density = np.full(len(pixels), -np.inf, np.float32)
    for weight, mean, covariance in zip(weights, means, covariances, strict=True):
        if weight <= 0:
            continue
        regular = covariance + 0.01 * np.eye(3)  # as OpenCV does with a component of a single colour
        whitening = np.linalg.cholesky(np.linalg.inv(regular)).astype(np.float32)
        offset = (pixels - mean.astype(np.float32)) @ whitening
        log_density = (
            np.log(weight) - 0.5 * np.linalg.slogdet(regular)[1] - 0.5 * np.einsum("ij,ij->i", offset, offset)
        )
        np.logaddexp(density, log_density.astype(np.float32), out=density)
    return density.reshape(image.shape[:2])


def _shrunk(image: Image, max_side: int) -> Image:
    height, width = image.shape[:2]
    scale = max_side / max(height, width)
    if scale >= 1:
        return np.ascontiguousarray(image)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(np.ascontiguousarray(image), size, interpolation=cv2.INTER_AREA), np.uint8)
