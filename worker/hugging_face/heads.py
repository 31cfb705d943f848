"""What the outputs of each kind of model mean: classes of pixels, or segments.

Each gives what the library's ``post_process_*_segmentation`` do, to the last pixel. But what the library
brings to the image's size all at once comes here one plane, or a few rows, at a time, wherever the kind of
model is known.
"""

import inspect
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import torch
import transformers
from torch.nn import functional
from torchvision.transforms.v2 import functional as images
from transformers.image_transforms import get_size_with_aspect_ratio

from maskline.requests import Subtask
from worker.bilinear import Resize
from worker.hugging_face.instances import (
    find_by_large_masks,
    find_by_small_masks,
    find_first_come,
    without_overlaps,
)
from worker.hugging_face.parameters import Parameters
from worker.hugging_face.queries import NOTHING, Found, FoundSegments, Queries
from worker.hugging_face.reduction import ClassMap, most_likely
from worker.hugging_face.regions import (
    ByLargeProbability,
    ByLogit,
    ByProbability,
    find_regions,
    likely_classes,
    likely_queries,
)
from worker.masks import Probabilities
from worker.packed_mask import PackedMask

# Any: what the library's classes are is known when a model's configuration is read.
Library = Any
Size = tuple[int, int]

_ALL = -1  # for the ids of all segments of a class
_MASK2FORMER_SIDE = 384  # the library brings its masks to this size first


def _resize_smoothly(plane: torch.Tensor, size: Size) -> torch.Tensor:
    """A plane (h, w) brought to this height and width, as torchvision does it: with antialiasing."""
    return images.resize(plane[None, None], list(size))[0, 0]


class Head:
    """A kind of model that is not known here: the library makes everything of its outputs, at full size."""

    def __init__(self, processor: Library) -> None:
        """``processor``: of the model's images."""
        self._processor = processor

    def classes(self, outputs: Library, size: Size) -> tuple[ClassMap, Probabilities]:
        """The likeliest class of each pixel, and its probability.

        Args:
            outputs: of the model, for one image.
            size: height and width of the image.
        """
        full = self._semantic(outputs, {"target_sizes": [size]})
        classes = full.segmentation.cpu().numpy().astype(np.uint16)
        return classes, full.segmentation_scores.amax(0).clamp(0, 1).cpu().numpy()

    def regions(
        self, outputs: Library, size: Size, parameters: Parameters, fused: Collection[int]
    ) -> FoundSegments:
        """Segments that share the image: the panoptic segmentation.

        Args:
            outputs: of the model, for one image.
            size: height and width of the image.
            parameters: of the request.
            fused: classes of which there is one segment at most.
        """
        return self._found(Subtask.PANOPTIC, outputs, size, parameters, fused)

    def instances(self, outputs: Library, size: Size, parameters: Parameters) -> FoundSegments:
        """Segments each for itself: the instance segmentation."""
        return self._found(Subtask.INSTANCE, outputs, size, parameters, ())

    def _semantic(self, outputs: Library, wanted: Mapping[str, object]) -> Library:
        [result] = self._post_process(
            Subtask.SEMANTIC, outputs, {"return_segmentation_scores": True, **wanted}
        )
        return result

    def _found(
        self,
        subtask: Subtask,
        outputs: Library,
        size: Size,
        parameters: Parameters,
        fused: Collection[int],
    ) -> FoundSegments:
        """All that is known of a pixel's probability is its segment's score."""
        [result] = self._post_process(
            subtask,
            outputs,
            {
                "target_sizes": [size],
                "threshold": parameters.threshold,
                "mask_threshold": parameters.mask_threshold,
                "overlap_mask_area_threshold": parameters.overlap_mask_area_threshold,
                "label_ids_to_fuse": set[int](),  # fused here: the library may give an id twice
            },
        )
        ids = result["segmentation"].cpu().numpy()
        class_map = np.full(size, NOTHING, np.int16)
        probabilities = np.zeros(size, np.float32)
        parts: dict[tuple[int, int], list[Library]] = {}
        for info in result["segments_info"]:
            mask = ids == info["id"]
            class_map[mask], probabilities[mask] = info["label_id"], info["score"]
            part = _ALL if info["label_id"] in fused else info["id"]
            parts.setdefault((info["label_id"], part), []).append(info)
        segments = tuple(
            Found(
                class_index=label,
                score=max(float(info["score"]) for info in infos),
                mask=PackedMask.pack(np.isin(ids, [info["id"] for info in infos])),
            )
            for (label, _), infos in parts.items()
        )
        return FoundSegments(segments=segments, class_map=class_map, probabilities=probabilities)

    def _post_process(self, subtask: Subtask, outputs: Library, wanted: Mapping[str, object]) -> Library:
        method = getattr(self._processor, post_processing(subtask))
        known = inspect.signature(method).parameters
        return method(outputs, **{name: value for name, value in wanted.items() if name in known})


class PixelHead(Head):
    """SegFormer, UperNet and all others that score each class at each pixel."""

    def classes(self, outputs: Library, size: Size) -> tuple[ClassMap, Probabilities]:
        """The likeliest class of each pixel, and its probability."""
        return most_likely(outputs.logits[0], size, are_logits=True)


class MaskFormerHead(Head):
    """MaskFormer, and what others have in common with it."""

    resize: Resize | None = None
    """How planes are brought to the image's size; None: as PyTorch's bilinear interpolation does it."""
    claiming: type[ByProbability] = ByProbability
    """What queries claim of the image that they share."""
    find_instances = staticmethod(find_by_small_masks)

    def classes(self, outputs: Library, size: Size) -> tuple[ClassMap, Probabilities]:
        """The likeliest class of each pixel, and its probability."""
        scores = self._semantic(outputs, self._small(outputs, size)).segmentation_scores
        return most_likely(scores, size, are_logits=False, resize=self.resize)

    def regions(
        self, outputs: Library, size: Size, parameters: Parameters, fused: Collection[int]
    ) -> FoundSegments:
        """Segments that share the image: the panoptic segmentation."""
        return find_regions(
            likely_queries(self._queries(outputs, size), parameters.threshold),
            size,
            self.claiming(size, parameters.mask_threshold, self.resize),
            overlap_mask_area_threshold=parameters.overlap_mask_area_threshold,
            fused=fused,
        )

    def instances(self, outputs: Library, size: Size, parameters: Parameters) -> FoundSegments:
        """Segments each for itself: the instance segmentation."""
        found = self.find_instances(self._queries(outputs, size), size, threshold=parameters.threshold)
        return found if parameters.overlapping else without_overlaps(found)

    def _small(self, outputs: Library, size: Size) -> Mapping[str, object]:
        """What has the library leave the scores of classes at the size that the model gave them."""
        return {}

    def _queries(self, outputs: Library, size: Size) -> Queries:
        return Queries(
            class_logits=outputs.class_queries_logits[0], mask_logits=outputs.masks_queries_logits[0]
        )


class Mask2FormerHead(MaskFormerHead):
    """Mask2Former."""

    def _queries(self, outputs: Library, size: Size) -> Queries:
        side = (_MASK2FORMER_SIDE, _MASK2FORMER_SIDE)
        masks = functional.interpolate(
            outputs.masks_queries_logits, size=side, mode="bilinear", align_corners=False
        )
        return Queries(class_logits=outputs.class_queries_logits[0], mask_logits=masks[0])


class DetrHead(MaskFormerHead):
    """DETR, whose instances share the image too."""

    def instances(self, outputs: Library, size: Size, parameters: Parameters) -> FoundSegments:
        """Segments each for itself: the instance segmentation."""
        return self.regions(outputs, size, parameters, ())

    def _queries(self, outputs: Library, size: Size) -> Queries:
        return Queries(class_logits=outputs.logits[0], mask_logits=outputs.pred_masks[0])


class OneFormerHead(MaskFormerHead):
    """OneFormer, whose instances share the image too; its masks are enlarged with antialiasing."""

    resize = staticmethod(_resize_smoothly)

    def instances(self, outputs: Library, size: Size, parameters: Parameters) -> FoundSegments:
        """Segments each for itself: the instance segmentation."""
        return find_regions(
            likely_classes(self._queries(outputs, size), parameters.threshold),
            size,
            ByLogit(size, parameters.mask_threshold, self.resize),
            overlap_mask_area_threshold=parameters.overlap_mask_area_threshold,
        )


class EomtHead(MaskFormerHead):
    """EoMT, which sees the image in a padded frame, or in several for the semantic segmentation."""

    claiming = ByLargeProbability
    find_instances = staticmethod(find_by_large_masks)

    def _small(self, outputs: Library, size: Size) -> Mapping[str, object]:
        return {"target_sizes": [self._seen(size) if outputs.patch_offsets else self._frame]}

    def _queries(self, outputs: Library, size: Size) -> Queries:
        [masks] = functional.interpolate(outputs.masks_queries_logits, size=self._frame, mode="bilinear")
        height, width = self._seen(size)
        return Queries(class_logits=outputs.class_queries_logits[0], mask_logits=masks[:, :height, :width])

    @property
    def _frame(self) -> Size:
        sides = self._processor.size
        return sides["shortest_edge"], sides["longest_edge"] or sides["shortest_edge"]

    def _seen(self, size: Size) -> Size:
        """Height and width of the image as the model sees it."""
        sides = self._processor.size
        return get_size_with_aspect_ratio(size, sides["shortest_edge"], sides["longest_edge"])


class RfDetrHead(Head):
    """RF-DETR, which does instances alone."""

    def instances(self, outputs: Library, size: Size, parameters: Parameters) -> FoundSegments:
        """Segments each for itself: the instance segmentation."""
        return find_first_come(
            Queries(class_logits=outputs.logits[0], mask_logits=outputs.pred_masks[0]),
            size,
            threshold=parameters.threshold,
            mask_threshold=parameters.mask_threshold,
        )


#: By ``model_type``, of the models that say what they see in queries.
HEADS: dict[str, type[Head]] = {
    "detr": DetrHead,
    "eomt": EomtHead,
    "eomt_dinov3": EomtHead,
    "mask2former": Mask2FormerHead,
    "maskformer": MaskFormerHead,
    "oneformer": OneFormerHead,
    "rf_detr": RfDetrHead,
}


def head_of(model: Library, processor: Library) -> Head:
    """What reads a model's outputs."""
    is_of_pixels = type(model.config) in transformers.MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING
    return (PixelHead if is_of_pixels else HEADS.get(model.config.model_type, Head))(of_images(processor))


def of_images(processor: Library) -> Library:
    """A processor of several inputs has one for images in it."""
    return getattr(processor, "image_processor", processor)


def post_processing(subtask: Subtask) -> str:
    """Name of the library's method."""
    return f"post_process_{subtask.value}_segmentation"
