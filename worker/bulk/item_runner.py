"""One item, from its image to its masks."""

import base64
import hashlib
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Lock

import numpy as np
import structlog

from maskline.batch_results import ItemTimings, ReviewFlag, ReviewThresholds
from maskline.batches import LabelSum
from maskline.errors import DependencyError, InvalidRequest, PredictionFailed, ServiceError
from maskline.image_header import ImageLimits
from maskline.jobs import Failure
from maskline.request_faults import faults_for_model
from maskline.requests import Output, Priority, SegmentationRequest, Subtask, outside
from maskline.results import BACKGROUND_ID, MAX_PALETTE_ID, AnnotationSpec, ModelCard, Prediction, Segment
from worker.bulk.images import ChunkImages
from worker.bulk.lines import Item
from worker.bulk.quality import flags_of, mean_confidence
from worker.decoding import decode
from worker.family import Image, Segmentation, SegmentationInput
from worker.masks import render_category_mask, render_confidence_mask, to_segments
from worker.runner import Models
from worker.sized_cache import SizedCache
from worker.stopwatch import Stopwatch

logger = structlog.get_logger(module=__name__)

_REMEMBERED_BYTES = 1 << 25  # of results: an image that comes again soon is not run again


@dataclass(frozen=True, kw_only=True, slots=True)
class Labelled:
    """What came of an item."""

    prediction: Prediction
    width: int
    height: int
    bit_depth: int
    annotation_specs: tuple[AnnotationSpec, ...]
    """Background, and those that the masks or segments have."""
    segments: tuple[Segment, ...]
    mean_confidence: float
    flags: tuple[ReviewFlag, ...]
    sums: dict[str, LabelSum]
    timings: ItemTimings

    @property
    def size(self) -> int:
        """About how many bytes it takes."""
        masks = (self.prediction.category_mask, self.prediction.confidence_mask)
        return sum(len(mask) for mask in masks if mask) + 1000 * len(self.segments)


class ItemRunner:
    """Runs items, each in the thread that calls. Identical images are run once, as long as they come soon
    after each other."""

    def __init__(self, *, models: Models, cards: dict[str, ModelCard], limits: ImageLimits) -> None:
        """``models``: where images are run; ``cards``: theirs; ``limits``: of images."""
        self._models = models
        self._cards = cards
        self._limits = limits
        self._finished: SizedCache[Labelled] = SizedCache(_REMEMBERED_BYTES, lambda one: one.size)
        self._under_way: dict[str, Future[Labelled]] = {}
        self._lock = Lock()

    def run(self, item: Item, images: ChunkImages, thresholds: ReviewThresholds) -> Labelled | Failure:
        """What came of the item.

        Raises:
            DependencyError: the store does not answer.
        """
        if item.failure is not None:
            return item.failure
        try:
            return self._run(item, images, thresholds)
        except DependencyError:
            raise
        except ServiceError as error:
            return Failure(code=error.code, message=error.message)
        except Exception:
            logger.exception("prediction failed", line=item.line)
            message = "the model failed on this image; the operator's log has the reason"
            return Failure(code=PredictionFailed.code, message=message)

    def _run(self, item: Item, images: ChunkImages, thresholds: ReviewThresholds) -> Labelled:
        assert item.request is not None  # noqa: S101 (an item without has a failure)
        assert item.image is not None  # noqa: S101
        watch = Stopwatch()
        faults = faults_for_model(item.request, self._cards[item.request.model or ""])
        if faults:
            raise InvalidRequest(faults)
        with watch.stage("fetch"):
            data = images.get(item.image)
        sha256 = hashlib.sha256(data).hexdigest()
        asked = item.request.model_dump_json(exclude={"metadata"}) + thresholds.model_dump_json()
        key = hashlib.sha256(f"{sha256} {asked}".encode()).hexdigest()
        with self._lock:
            known = self._finished.find(key)
            if known is not None:
                return known
            other = self._under_way.get(key)
            if other is None:
                mine = self._under_way[key] = Future()
        if other is not None:
            return other.result()
        try:
            labelled = self._label(item.request, data, sha256, thresholds, watch)
        except BaseException as error:
            mine.set_exception(error)
            raise
        else:
            self._finished.keep(key, labelled)
            mine.set_result(labelled)
            return labelled
        finally:
            with self._lock:
                del self._under_way[key]

    def _label(
        self,
        request: SegmentationRequest,
        data: bytes | memoryview,
        sha256: str,
        thresholds: ReviewThresholds,
        watch: Stopwatch,
    ) -> Labelled:
        with watch.stage("decode"):
            image = decode(data, self._limits, auto_orient=request.auto_orient)
        given = self._input(request, image, f"{sha256} {request.auto_orient}")
        modelled = self._models.submit(request.model or "", given, Priority.BULK).result()
        segmentation = modelled.segmentation
        with watch.stage("render"):
            prediction = _prediction(segmentation, request)
            segments = to_segments(segmentation).segments
            sums = _sums(segmentation, segments)
            confidence = mean_confidence(segmentation)
            height, width = segmentation.category_map.shape
        return Labelled(
            prediction=prediction,
            width=width,
            height=height,
            bit_depth=8 if segmentation.annotation_specs[-1].id <= MAX_PALETTE_ID else 16,
            annotation_specs=tuple(
                spec
                for spec in segmentation.annotation_specs
                if spec.id == BACKGROUND_ID or spec.display_name in sums
            ),
            segments=segments,
            mean_confidence=confidence,
            flags=flags_of(segmentation, segments, confidence, request.prompts, thresholds),
            sums=sums,
            timings=ItemTimings(
                model=round(modelled.ran_s * 1000, 3),
                batch=round(modelled.waited_s * 1000, 3),
                **watch.spent_ms,
            ),
        )

    def _input(self, request: SegmentationRequest, image: Image, image_key: str) -> SegmentationInput:
        height, width = image.shape[:2]
        faults = outside(request.prompts, width, height)
        if faults:
            raise InvalidRequest(faults)
        model = request.model or ""
        return SegmentationInput(
            image=image,
            image_key=image_key,
            prompts=request.prompts,
            subtask=request.subtask or self._cards[model].subtasks[0] or Subtask.SEMANTIC,
            parameters=self._models.parameters(model, dict(request.parameters)),
        )


def _prediction(segmentation: Segmentation, request: SegmentationRequest) -> Prediction:
    wants = request.outputs
    category = _base64(render_category_mask(segmentation)) if Output.CATEGORY_MASK in wants else None
    confidence = _base64(render_confidence_mask(segmentation)) if Output.CONFIDENCE_MASK in wants else None
    return Prediction.model_construct(category_mask=category, confidence_mask=confidence)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _sums(segmentation: Segmentation, segments: tuple[Segment, ...]) -> dict[str, LabelSum]:
    pixels = np.bincount(segmentation.category_map.ravel())
    by_label: dict[str, LabelSum] = {}
    for spec in segmentation.annotation_specs:
        of_it = sum(segment.category_id == spec.id for segment in segments)
        count = int(pixels[spec.id]) if spec.id < len(pixels) else 0
        if spec.id != BACKGROUND_ID and (of_it or count):
            known = by_label.get(spec.display_name, LabelSum())
            by_label[spec.display_name] = LabelSum(
                items=1, segments=known.segments + of_it, pixels=known.pixels + count
            )
    return by_label
