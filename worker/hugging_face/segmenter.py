"""Running models of the ``transformers`` library, one image at a time.

In a batch an image could come out with other bytes, for the sums of a matrix product depend on its shape.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
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
from worker.hugging_face.heads import head_of, of_images, post_processing
from worker.hugging_face.labels import CONFIG, Labels, labels_in, labels_of
from worker.hugging_face.parameters import Options, Parameters
from worker.hugging_face.queries import FoundSegments
from worker.hugging_face.reduction import ClassMap
from worker.masks import Probabilities, to_confidence
from worker.packed_mask import PackedMask
from worker.torch_device import choose_device, memory_errors_told

_ONEFORMER = "oneformer"
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
    device = choose_device(resources.device, options.device)
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
    lacking = [subtask for subtask in subtasks if not hasattr(of_images(processor), post_processing(subtask))]
    if lacking:
        does = [subtask for subtask in Subtask if hasattr(of_images(processor), post_processing(subtask))]
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
        self._head = head_of(model, processor)

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
        outputs, parameters = self._run(one), one.parameters
        match one.subtask:
            case Subtask.SEMANTIC:
                classes, probabilities = self._head.classes(outputs, size)
                return self._from_classes(classes, probabilities, parameters.confidence_threshold)
            case Subtask.INSTANCE:
                found = self._head.instances(outputs, size, parameters)
            case Subtask.PANOPTIC:
                fused = self._labels.stuff if parameters.fuse_stuff else frozenset[int]()
                found = self._head.regions(outputs, size, parameters, fused)
        return self._from_segments(found, parameters.confidence_threshold)

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

    def _from_classes(
        self, classes: ClassMap, probabilities: Probabilities, confidence_threshold: float
    ) -> Segmentation:
        category_map = self._category_map(classes + 1)
        category_map[probabilities < confidence_threshold] = BACKGROUND_ID
        present = np.flatnonzero(np.bincount(category_map.reshape(-1)))
        segments = []
        for category in present[present != BACKGROUND_ID].tolist():
            mask = category_map == category
            score = float(probabilities[mask].mean(dtype=np.float64))
            segments.append(self._segment_mask(category - 1, score, PackedMask.pack(mask)))
        return self._segmentation(category_map, probabilities, segments)

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


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).strip().splitlines()[0]
