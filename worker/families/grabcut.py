"""GrabCut: cuts labelled objects out of a photo by their boxes and points, from colours alone.

The cut is OpenCV's (Rother, Kolmogorov and Blake: GrabCut, SIGGRAPH 2004). It runs on the neighbourhood of
each prompt at a bounded size, so its time does not grow with the image; the result is carried to full
resolution by a fast guided filter (He and Sun, arXiv:1505.00996), which puts the edge where the image has it.

The probability of a pixel comes from two witnesses of equal weight, both heard in a small neighbourhood: the
colour models that the cut learned (the posterior of the foreground mixture), and the cut itself (the share on
the object's side). They say how sure the cut is, and never overrule it: a pixel that the cut gave to the
object has a probability of at least 0.5, any other of at most 0.5.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from maskline.catalog import ModelSpec
from maskline.requests import Prompt, PromptKind, Subtask
from maskline.results import ModelCard
from worker.colors import annotation_specs
from worker.family import (
    CommonParameters,
    Image,
    Segmentation,
    SegmentationInput,
    Segmenter,
    SegmentMask,
)
from worker.guided_filter import Plane, enlarge
from worker.masks import Composer

Trimap = NDArray[np.uint8]  #: (H, W) of cv2.GC_BGD, GC_FGD, GC_PR_BGD, GC_PR_FGD

_SEED = 1  # OpenCV's k-means draws from a generator of the calling thread
_MARGIN = 0.25  # of the box, on each side: the surroundings that the background's colours are learned from
_MIN_MARGIN = 8.0  # pixels
_SEED_RADIUS = 1 / 60  # of the neighbourhood's longer side: how far a point is sure of its object
_REACH = 1 / 4  # of the image's shorter side: how far from its points an object without a box is looked for
_BORDER = 1 / 40  # of the neighbourhood's shorter side: background where nothing else is
_AROUND = 1 / 80  # of the neighbourhood's longer side: how far the witnesses look around a pixel
_POSSIBLE = float(np.finfo(np.float32).tiny)  # a segment never holds what is impossible
_COMPONENTS = 5  # Gaussians in each of GrabCut's two mixtures
_BORDER_COLORS = 4  # that the background of an image without prompts is described by


class Parameters(CommonParameters):
    """GrabCut's own parameters."""

    iterations: int = Field(default=4, ge=1, le=20)
    """Rounds of learning the colours and cutting."""
    max_side: int = Field(default=384, ge=64, le=2048)
    """Pixels of the longer side at which the cut is made."""
    min_area: float = Field(default=0.005, ge=0, le=1)
    """Without prompts: the least part of the image that a segment covers."""
    max_segments: int = Field(default=32, ge=1, le=1000)
    """Without prompts: at most so many segments, the largest."""


def describe(spec: ModelSpec) -> ModelCard:
    """The card of a GrabCut model."""
    return ModelCard(
        id=spec.id,
        family=spec.family,
        display_name=spec.display_name,
        description=spec.description,
        license=spec.license,
        subtasks=(Subtask.INSTANCE, Subtask.SEMANTIC),
        prompt_kinds=(PromptKind.BOX, PromptKind.POINTS),
        parameters_schema=Parameters.model_json_schema(by_alias=True),
    )


def load(spec: ModelSpec) -> Segmenter:
    """The model; there is nothing to load."""
    return GrabCut()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Window:
    """A rectangle of whole pixels; the right and lower bounds are outside it."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.bottom - self.top, self.right - self.left

    @property
    def pixels(self) -> tuple[slice, slice]:
        return slice(self.top, self.bottom), slice(self.left, self.right)


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
    labels = list(dict.fromkeys(prompt.label for prompt in prompts))
    ids = {label: i for i, label in enumerate(labels, 1)}
    height, width = image.shape[:2]
    composer = Composer(height, width, len(labels))
    segments = []
    for prompt in prompts:
        others = [other for other in prompts if other.label != prompt.label]
        window, probabilities = _cut_out(image, prompt, others, parameters)
        composer.add(ids[prompt.label], probabilities, window.left, window.top)
        found = probabilities >= max(parameters.confidence_threshold, _POSSIBLE)
        if found.any():
            mask = np.zeros((height, width), np.bool_)
            mask[window.pixels] = found
            segments.append(
                SegmentMask(
                    label=prompt.label,
                    category_id=ids[prompt.label],
                    score=float(probabilities[found].mean()),
                    mask=mask,
                )
            )
    category_map, confidence_map = composer.maps(parameters.confidence_threshold)
    return Segmentation(
        category_map=category_map,
        confidence_map=confidence_map,
        segments=tuple(segments),
        annotation_specs=annotation_specs(labels),
    )


def _segment_everything(image: Image, parameters: Parameters) -> Segmentation:
    height, width = image.shape[:2]
    small = _shrunk(image, parameters.max_side)
    probabilities = enlarge(_cut(small, _salience(small), parameters.iterations), small, image)
    threshold = max(parameters.confidence_threshold, _POSSIBLE)
    found = (probabilities >= threshold).view(np.uint8)
    _, parts, stats, _ = cv2.connectedComponentsWithStats(found, connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA]
    large = np.flatnonzero(areas >= parameters.min_area * height * width)
    chosen = large[np.argsort(-areas[large], kind="stable")][: parameters.max_segments]
    labels = [f"segment-{i}" for i in range(1, len(chosen) + 1)]
    composer = Composer(height, width, len(labels))
    segments = []
    for category_id, (label, part) in enumerate(zip(labels, chosen, strict=True), 1):
        mask = parts == part + 1
        composer.add(category_id, np.where(mask, probabilities, np.float32(0)))
        score = float(probabilities[mask].mean())
        segments.append(SegmentMask(label=label, category_id=category_id, score=score, mask=mask))
    category_map, confidence_map = composer.maps(parameters.confidence_threshold)
    return Segmentation(
        category_map=category_map,
        confidence_map=confidence_map,
        segments=tuple(segments),
        annotation_specs=annotation_specs(labels),
    )


def _cut_out(
    image: Image, prompt: Prompt, others: Sequence[Prompt], parameters: Parameters
) -> tuple[_Window, Plane]:
    """The prompt's part of the image, and there each pixel's probability to be of the object."""
    box, window = _windows(prompt, *image.shape[:2])
    part = image[window.pixels]
    small = _shrunk(part, parameters.max_side)
    trimap = _trimap(prompt, others, box, window, small.shape[:2])
    probabilities = enlarge(_cut(small, trimap, parameters.iterations), small, part)
    if prompt.box is not None:  # what is outside the box is not of the object, whatever its colour
        rows = slice(box.top - window.top, box.bottom - window.top)
        columns = slice(box.left - window.left, box.right - window.left)
        return box, np.ascontiguousarray(probabilities[rows, columns])
    return window, probabilities


def _windows(prompt: Prompt, height: int, width: int) -> tuple[_Window, _Window]:
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


def _rounded(x_min: float, y_min: float, x_max: float, y_max: float, *, height: int, width: int) -> _Window:
    """The pixels that the rectangle touches, and always one at least."""
    left = min(max(int(np.floor(x_min)), 0), width - 1)
    top = min(max(int(np.floor(y_min)), 0), height - 1)
    right = min(max(int(np.ceil(x_max)), left + 1), width)
    bottom = min(max(int(np.ceil(y_max)), top + 1), height)
    return _Window(left=left, top=top, right=right, bottom=bottom)


def _trimap(
    prompt: Prompt, others: Sequence[Prompt], box: _Window, window: _Window, shape: tuple[int, int]
) -> Trimap:
    """What the prompts say of the window's pixels, at the size of the cut."""
    height, width = shape
    scale_y, scale_x = height / window.shape[0], width / window.shape[1]

    def to_small(x: float, y: float) -> tuple[int, int]:
        column = int((x - window.left) * scale_x)
        row = int((y - window.top) * scale_y)
        return min(max(column, 0), width - 1), min(max(row, 0), height - 1)

    trimap = np.full(shape, cv2.GC_BGD, np.uint8)
    left, top = to_small(box.left, box.top)
    right, bottom = to_small(box.right - 1, box.bottom - 1)
    trimap[top : bottom + 1, left : right + 1] = cv2.GC_PR_FGD
    radius = max(1, round(_SEED_RADIUS * max(shape)))
    if prompt.box is None:
        trimap[...] = cv2.GC_PR_BGD
        for x, y, label in prompt.labelled_points:
            if label:
                reach = max(1, round(_REACH * min(shape)))
                cv2.circle(trimap, to_small(x, y), reach, cv2.GC_PR_FGD, cv2.FILLED)
    for x, y, label in _evidence(prompt, others):
        if window.left <= x <= window.right and window.top <= y <= window.bottom:
            cv2.circle(trimap, to_small(x, y), radius, cv2.GC_FGD if label else cv2.GC_BGD, cv2.FILLED)
    return trimap


def _evidence(prompt: Prompt, others: Sequence[Prompt]) -> Iterator[tuple[float, float, int]]:
    """The prompt's points, after those on objects of another label: these are beside this one."""
    for other in others:
        yield from ((x, y, 0) for x, y, label in other.labelled_points if label)
    yield from prompt.labelled_points


def _salience(image: Image) -> Trimap:
    """Without prompts: what differs from the image's border in colour is probably an object."""
    height, width = image.shape[:2]
    trimap = np.full((height, width), cv2.GC_PR_BGD, np.uint8)
    if min(height, width) < 3:
        return trimap
    lab = cv2.cvtColor(cv2.GaussianBlur(image, (0, 0), 1.5), cv2.COLOR_RGB2LAB).astype(np.float32)
    border = _border(height, width)
    colors = lab[border]
    cv2.setRNGSeed(_SEED)
    until = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 20, 0.5)
    clusters = min(_BORDER_COLORS, len(colors))
    _, _, centers = cv2.kmeans(colors, clusters, None, until, 1, cv2.KMEANS_PP_CENTERS)  # type: ignore[call-overload]
    distance = np.min([np.linalg.norm(lab - center, axis=2) for center in centers], axis=0)
    scaled = np.clip(distance, 0, 255).astype(np.uint8)
    _, salient = cv2.threshold(scaled, 0, 1, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    trimap[salient.astype(np.bool_)] = cv2.GC_PR_FGD
    trimap[border] = cv2.GC_BGD
    return trimap


def _border(height: int, width: int) -> NDArray[np.bool_]:
    line = max(1, round(_BORDER * min(height, width)))
    border = np.ones((height, width), np.bool_)
    border[line : height - line, line : width - line] = False
    return border


def _cut(image: Image, trimap: Trimap, iterations: int) -> Plane:
    """Each pixel's probability to be of the object; float32 (h, w), at the size of ``image``."""
    _complete(trimap)
    is_foreground = np.isin(trimap, (cv2.GC_FGD, cv2.GC_PR_FGD))
    if is_foreground.all() or not is_foreground.any():
        return is_foreground.astype(np.float32)
    background_model, foreground_model = np.zeros((2, 1, 13 * _COMPONENTS))
    cv2.setRNGSeed(_SEED)
    cv2.grabCut(
        image,
        trimap,
        None,
        background_model,
        foreground_model,
        iterations,
        cv2.GC_INIT_WITH_MASK,  # type: ignore[call-overload]
    )
    side = np.isin(trimap, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.float32)
    odds = _log_likelihood(image, foreground_model) - _log_likelihood(image, background_model)
    posterior = 1 / (1 + np.exp(-np.clip(odds, -30, 30)))
    around = 2 * max(1, round(_AROUND * max(side.shape))) + 1
    evidence = cv2.blur((posterior + side) / 2, (around, around), borderType=cv2.BORDER_REPLICATE)
    return np.asarray((side + evidence) / 2, np.float32)


def _complete(trimap: Trimap) -> None:
    """Give a trimap that knows no background its border as such."""
    if not np.isin(trimap, (cv2.GC_BGD, cv2.GC_PR_BGD)).any():
        border = _border(*trimap.shape) & (trimap == cv2.GC_PR_FGD)
        trimap[border] = cv2.GC_PR_BGD


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
