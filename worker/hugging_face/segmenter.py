"""Running models of the ``transformers`` library, one image at a time.

In a batch an image could come out with other bytes, for the sums of a matrix product depend on its shape.
"""

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from torch.nn import functional
from transformers import AutoConfig, AutoImageProcessor, AutoProcessor

from maskline.catalog import ModelSpec
from maskline.errors import ImageUnreadable, WeightsUnusable
from maskline.requests import Subtask
from maskline.results import BACKGROUND_ID, MAX_PALETTE_ID
from worker.family import (
    CategoryMap,
    Resources,
    Segmentation,
    SegmentationInput,
    Segmenter,
    SegmentMask,
)
from worker.hugging_face.labels import CONFIG, Labels, labels_in, labels_of
from worker.hugging_face.parameters import Options, Parameters
from worker.hugging_face.queries import (
    NOTHING,
    Found,
    FoundSegments,
    Queries,
    find_instances,
    find_regions,
    without_overlaps,
)
from worker.hugging_face.reduction import most_likely
from worker.masks import Probabilities, to_confidence
from worker.packed_mask import PackedMask
from worker.torch_device import choose_device, memory_errors_told

_QUERIES_OURS = {"detr", "mask2former", "maskformer"}  # whose masks are brought to size one at a time
_ONEFORMER = "oneformer"
_RF_DETR = "rf_detr"
_MASK2FORMER_SIDE = 384  # the library brings its masks to this size first
_LOADERS = (
    ("MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING", "AutoModelForSemanticSegmentation"),
    ("MODEL_FOR_UNIVERSAL_SEGMENTATION_MAPPING", "AutoModelForUniversalSegmentation"),
    ("MODEL_FOR_INSTANCE_SEGMENTATION_MAPPING", "AutoModelForInstanceSegmentation"),
)

# Any: what the library's classes are is known when a model's configuration is read.
Library = Any

transformers.logging.set_verbosity_warning()
transformers.logging.disable_progress_bar()


def load(spec: ModelSpec, options: Options, resources: Resources, folder: Path) -> Segmenter:
    """The model of a verified folder on its device.

    Raises:
        WeightsUnusable: the weights can't be read, or are of a model that does not do this.
    """
    config = _config(folder, spec)
    try:
        model = _model(folder, config, spec)
        labels = _labels(spec, folder, config.num_labels)
        processor = _processor(folder, config, labels)
    except WeightsUnusable:
        raise
    except Exception as error:  # the library lets through whatever its many parts raise
        raise WeightsUnusable(f"{spec.id}: {folder} can't be loaded: {_first_line(error)}") from error
    _require_methods(processor, options.subtasks, spec)
    device = choose_device(options.device or resources.device)
    model = model.to(device=device, dtype=getattr(torch, options.dtype)).eval()
    forward = torch.compile(model) if options.compile else model
    return TransformersSegmenter(model, forward, processor, labels)


def _config(folder: Path, spec: ModelSpec) -> Library:
    if not (folder / CONFIG).is_file():
        raise WeightsUnusable(f"{spec.id}: {folder} has no {CONFIG}; give a folder as save_pretrained writes")
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True)
    except Exception as error:
        raise WeightsUnusable(f"{spec.id}: {folder / CONFIG} can't be read: {_first_line(error)}") from error


def _processor(folder: Path, config: Library, labels: Labels) -> Library:
    if config.model_type != _ONEFORMER:
        return AutoImageProcessor.from_pretrained(folder, local_files_only=True)
    # It would fetch the names of its classes from the hub, whatever is there locally.
    names = {i: {"name": one.name, "isthing": not one.stuff} for i, one in enumerate(labels.classes)}
    with NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
        json.dump(names, file)
        file.flush()
        return AutoProcessor.from_pretrained(
            folder, local_files_only=True, repo_path="", class_info_file=file.name
        )


def _model(folder: Path, config: Library, spec: ModelSpec) -> torch.nn.Module:
    for mapping, loader in _LOADERS:
        if type(config) in getattr(transformers, mapping):
            model, found = getattr(transformers, loader).from_pretrained(
                folder, config=config, local_files_only=True, output_loading_info=True, dtype=torch.float32
            )
            lacking = sorted(found["missing_keys"])
            if lacking:
                raise ValueError(f"{len(lacking)} tensors are missing, such as {lacking[0]}")
            return model
    raise WeightsUnusable(f"{spec.id}: {config.model_type!r} is no segmentation model of the library's")


def _require_methods(processor: Library, subtasks: Sequence[Subtask], spec: ModelSpec) -> None:
    lacking = [subtask for subtask in subtasks if not hasattr(_of_images(processor), _method(subtask))]
    if lacking:
        does = [subtask for subtask in Subtask if hasattr(_of_images(processor), _method(subtask))]
        raise WeightsUnusable(
            f"{spec.id}: the model does not do {', '.join(lacking)}; put into its catalog entry: "
            f"options: {{subtasks: [{', '.join(does)}]}}"
        )


def _labels(spec: ModelSpec, folder: Path, count: int) -> Labels:
    labels = labels_of(spec) or labels_in(folder)
    if labels is None or len(labels.classes) != count:
        named = len(labels.classes) if labels else 0
        raise WeightsUnusable(f"{spec.id}: the model's head has {count} classes, but {named} are named")
    return labels


class TransformersSegmenter:
    """One loaded model."""

    def __init__(
        self,
        model: Library,
        forward: Callable[..., Library],
        processor: Library,
        labels: Labels,
    ) -> None:
        """``forward``: what runs the model, itself or compiled."""
        self._model = model
        self._forward = forward
        self._processor = processor
        self._labels = labels
        self._specs = labels.annotation_specs()
        self._keeps_masks_small = model.config.model_type in _QUERIES_OURS

    def segment(self, inputs: Sequence[SegmentationInput]) -> list[Segmentation]:
        """The segmentation of each image."""
        return [self._segment(one) for one in inputs]

    @torch.inference_mode()
    def _segment(self, one: SegmentationInput) -> Segmentation:
        height, width = one.image.shape[:2]
        model = self._model.config.model_type
        with memory_errors_told(f"{model} with an image of {width} x {height} pixels"):
            return self._segment_image(one, (height, width))

    def _segment_image(self, one: SegmentationInput, size: tuple[int, int]) -> Segmentation:
        assert isinstance(one.parameters, Parameters)  # noqa: S101 (the registry's promise)
        outputs = self._run(one)
        if one.subtask is Subtask.SEMANTIC:
            return self._semantic(outputs, size, one.parameters)
        found = self._find(outputs, size, one.subtask, one.parameters)
        return self._from_segments(found, one.parameters.confidence_threshold)

    def _run(self, one: SegmentationInput) -> Library:
        task = {"task_inputs": [one.subtask.value]} if self._model.config.model_type == _ONEFORMER else {}
        try:
            features = dict(
                self._processor(
                    images=[one.image], return_tensors="pt", input_data_format="channels_last", **task
                )
            )
        except (ValueError, RuntimeError, ZeroDivisionError) as error:
            height, width = one.image.shape[:2]
            raise ImageUnreadable(
                f"the model's preparation can't do with an image of {width} x {height} pixels: "
                f"{_first_line(error)}"
            ) from error
        patches = features.pop("patch_offsets", None)
        outputs = self._forward(
            **{
                name: value.to(self._model.device, self._model.dtype)
                if value.is_floating_point()
                else value.to(self._model.device)
                for name, value in features.items()
            }
        )
        for name, value in outputs.items():
            if isinstance(value, torch.Tensor) and value.is_floating_point():
                outputs[name] = value.float()
        if patches is not None:
            outputs.patch_offsets = patches
        return outputs

    def _semantic(self, outputs: Library, size: tuple[int, int], parameters: Parameters) -> Segmentation:
        logits = outputs.get("logits")
        if logits is not None and logits.ndim == 4:
            classes, probabilities = most_likely(logits[0], size, are_logits=True)
        elif self._keeps_masks_small:
            [low] = self._post_process(Subtask.SEMANTIC, outputs, {"return_segmentation_scores": True})
            classes, probabilities = most_likely(low.segmentation_scores, size, are_logits=False)
        else:
            [full] = self._post_process(
                Subtask.SEMANTIC, outputs, {"return_segmentation_scores": True, "target_sizes": [size]}
            )
            classes = full.segmentation.cpu().numpy().astype(np.uint16)
            probabilities = full.segmentation_scores.amax(0).clamp(0, 1).cpu().numpy()
        category_map = self._category_map(classes + 1)
        category_map[probabilities < parameters.confidence_threshold] = BACKGROUND_ID
        present = np.flatnonzero(np.bincount(category_map.reshape(-1)))
        segments = []
        for category in present[present != BACKGROUND_ID].tolist():
            mask = category_map == category
            score = float(probabilities[mask].mean(dtype=np.float64))
            segments.append(self._segment_mask(category - 1, score, PackedMask.pack(mask)))
        return self._segmentation(category_map, probabilities, segments)

    def _find(
        self, outputs: Library, size: tuple[int, int], subtask: Subtask, parameters: Parameters
    ) -> FoundSegments:
        if not self._keeps_masks_small:
            return self._found_by_library(outputs, size, subtask, parameters)
        queries = _queries(outputs, self._model.config.model_type)
        if subtask is Subtask.INSTANCE and self._model.config.model_type != "detr":
            found = find_instances(queries, size, threshold=parameters.threshold)
            return found if parameters.overlapping else without_overlaps(found)
        return find_regions(
            queries,
            size,
            threshold=parameters.threshold,
            mask_threshold=parameters.mask_threshold,
            overlap_mask_area_threshold=parameters.overlap_mask_area_threshold,
            fused=self._fused(parameters) if subtask is Subtask.PANOPTIC else (),
        )

    def _fused(self, parameters: Parameters) -> frozenset[int]:
        return self._labels.stuff if parameters.fuse_stuff else frozenset()

    def _found_by_library(
        self, outputs: Library, size: tuple[int, int], subtask: Subtask, parameters: Parameters
    ) -> FoundSegments:
        """What the library makes of it; all that is known of a pixel's probability is its segment's score."""
        mask_threshold = parameters.mask_threshold
        if self._model.config.model_type == _RF_DETR:  # the only one that takes a logit
            mask_threshold = torch.tensor(mask_threshold).logit().item()
        [result] = self._post_process(
            subtask,
            outputs,
            {
                "target_sizes": [size],
                "threshold": parameters.threshold,
                "mask_threshold": mask_threshold,
                "overlap_mask_area_threshold": parameters.overlap_mask_area_threshold,
                "label_ids_to_fuse": set(self._fused(parameters)),
                "stuff_classes": sorted(self._fused(parameters)),
            },
        )
        ids = result["segmentation"].cpu().numpy()
        class_map = np.full(size, NOTHING, np.int16)
        probabilities = np.zeros(size, np.float32)
        segments: dict[int, Found] = {}
        for info in result["segments_info"]:
            mask = ids == info["id"]
            score = max(float(info["score"]), segments[info["id"]].score if info["id"] in segments else 0.0)
            class_map[mask], probabilities[mask] = info["label_id"], score
            segments[info["id"]] = Found(
                class_index=info["label_id"], score=score, mask=PackedMask.pack(mask)
            )
        return FoundSegments(
            segments=tuple(segments.values()), class_map=class_map, probabilities=probabilities
        )

    def _post_process(self, subtask: Subtask, outputs: Library, wanted: Mapping[str, object]) -> Library:
        method = getattr(_of_images(self._processor), _method(subtask))
        known = inspect.signature(method).parameters
        return method(outputs, **{name: value for name, value in wanted.items() if name in known})

    def _from_segments(self, found: FoundSegments, confidence_threshold: float) -> Segmentation:
        category_map = self._category_map(found.class_map + 1)
        category_map[found.probabilities < confidence_threshold] = BACKGROUND_ID
        segments = [
            self._segment_mask(segment.class_index, segment.score, segment.mask) for segment in found.segments
        ]
        return self._segmentation(category_map, found.probabilities, segments)

    def _category_map(self, ids: NDArray[np.integer]) -> CategoryMap:
        few = len(self._labels.classes) <= MAX_PALETTE_ID
        return ids.astype(np.uint8) if few else ids.astype(np.uint16)

    def _segment_mask(self, class_index: int, score: float, mask: PackedMask) -> SegmentMask:
        label = self._labels.classes[class_index].name
        return SegmentMask(label=label, category_id=class_index + 1, score=score, packed=mask)

    def _segmentation(
        self, category_map: CategoryMap, probabilities: Probabilities, segments: Sequence[SegmentMask]
    ) -> Segmentation:
        right = np.where(category_map == BACKGROUND_ID, 1 - probabilities, probabilities)
        return Segmentation(
            category_map=category_map,
            confidence_map=to_confidence(right),
            segments=tuple(segments),
            annotation_specs=self._specs,
        )


def _queries(outputs: Library, model_type: str) -> Queries:
    if model_type == "detr":
        return Queries(class_logits=outputs.logits[0], mask_logits=outputs.pred_masks[0])
    masks = outputs.masks_queries_logits
    if model_type == "mask2former":
        side = (_MASK2FORMER_SIDE, _MASK2FORMER_SIDE)
        masks = functional.interpolate(masks, size=side, mode="bilinear", align_corners=False)
    return Queries(class_logits=outputs.class_queries_logits[0], mask_logits=masks[0])


def _of_images(processor: Library) -> Library:
    """A processor of several inputs has one for images in it."""
    return getattr(processor, "image_processor", processor)


def _method(subtask: Subtask) -> str:
    return f"post_process_{subtask.value}_segmentation"


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).strip().splitlines()[0]
