"""Segment Anything (Kirillov et al., ICCV 2023), by the ``segment-anything`` package.

The encoder's embedding of an image is kept, so that further prompts on it cost the decoder alone. Masks stay
at the decoder's 256 x 256 until it is known which are wanted; only these are brought to the image's size, one
at a time.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from segment_anything import SamPredictor, sam_model_registry

from maskline.catalog import ModelSpec
from maskline.errors import WeightsUnusable
from worker.checkpoint import RandomStartLeftOut, load_state
from worker.family import (
    Image,
    Resources,
    Segmentation,
    SegmentationInput,
    Segmenter,
)
from worker.sam.attention import attend_in_parts
from worker.sam.embedding import Embedding, SharedEmbeddings, fingerprint
from worker.sam.encoder import Encoder
from worker.sam.everything import find_everything
from worker.sam.parameters import Options, Parameters
from worker.sam.prompt_decoder import decode_prompts
from worker.sam.visible import visible_part
from worker.segmentation_builder import SegmentationBuilder, segment_labels
from worker.sized_cache import SizedCache
from worker.torch_device import choose_device, memory_errors_told


def load(spec: ModelSpec, options: Options, resources: Resources, path: Path) -> Segmenter:
    """The model of a verified checkpoint on its device.

    Raises:
        WeightsUnusable: the weights can't be read, or are of another variant.
    """
    variant = options.variant
    if variant not in sam_model_registry:
        known = ", ".join(sam_model_registry)
        raise WeightsUnusable(f"the catalog's entry {spec.id}: no variant {variant!r}; there are: {known}")
    with RandomStartLeftOut():
        model = sam_model_registry[variant]()
    load_state(model, path, f"Segment Anything {variant}")
    device = choose_device(resources.device, options.device)
    if device.type == "cpu" and not options.compile:
        attend_in_parts(model.image_encoder)
    model.image_encoder = Encoder(
        model.image_encoder, getattr(torch, options.dtype), compiled=options.compile
    )
    shared = None
    if resources.shelf is not None:
        computed = options.model_dump_json(exclude={"device"})
        encoder = f"{fingerprint(model.image_encoder)} {computed} {device.type}"
        shared = SharedEmbeddings(resources.shelf, encoder, device)
    return SegmentAnything(SamPredictor(model.to(device)), resources.embedding_cache_bytes, shared)


class SegmentAnything:
    """The segmenter; ``SamPredictor`` does its preparations."""

    def __init__(
        self, predictor: SamPredictor, cache_bytes: int, shared: SharedEmbeddings | None = None
    ) -> None:
        """``cache_bytes``: for embeddings of images; ``shared``: those of all workers."""
        self._predictor = predictor
        self._shared = shared
        self._cache: SizedCache[Embedding] = SizedCache(cache_bytes, lambda kept: kept.size)

    @torch.inference_mode()
    def segment(self, inputs: Sequence[SegmentationInput]) -> Sequence[Segmentation]:
        """Each request by itself, so that none depends on its neighbours.

        Those on one image come in a row, while its embedding is there.
        """
        in_order = sorted(range(len(inputs)), key=lambda i: inputs[i].image_key)
        segmentations = {i: self._segment_or_tell(inputs[i]) for i in in_order}
        return [segmentations[i] for i in range(len(inputs))]

    def _segment_or_tell(self, one: SegmentationInput) -> Segmentation:
        height, width = one.image.shape[:2]
        with memory_errors_told(f"Segment Anything with an image of {width} x {height} pixels"):
            return self._segment(one)

    def _segment(self, one: SegmentationInput) -> Segmentation:
        parameters = one.parameters
        assert isinstance(parameters, Parameters)  # noqa: S101 (the registry made them from this family's model)
        embedded = self._set_image(one)
        segment = self._segment_prompts if one.prompts else self._segment_everything
        made = segment(one, parameters)
        if not one.wants_embedding:
            return made
        return replace(made, embedding=embedded.features.float().cpu().numpy())

    def _set_image(self, one: SegmentationInput) -> Embedding:
        predictor = self._predictor
        embedded = self._cache.get(one.image_key, lambda: self._embed(one))
        predictor.features = embedded.features
        predictor.input_size, predictor.original_size = embedded.input_size, embedded.original_size
        predictor.is_image_set = True
        return embedded

    def _embed(self, one: SegmentationInput) -> Embedding:
        if self._shared is None:
            return self._encode(one.image)
        return self._shared.get(one.image_key, lambda: self._encode(one.image))

    def _encode(self, image: Image) -> Embedding:
        self._predictor.set_image(image)
        return Embedding(
            features=self._predictor.get_image_embedding(),
            input_size=self._predictor.input_size,
            original_size=self._predictor.original_size,
        )

    def _segment_prompts(self, one: SegmentationInput, parameters: Parameters) -> Segmentation:
        labels = [prompt.label for prompt in one.prompts]
        height, width = one.image.shape[:2]
        builder = SegmentationBuilder(height, width, labels, parameters.confidence_threshold)
        predictor = self._predictor
        sizes = predictor.input_size, predictor.original_size
        decoded = decode_prompts(predictor, one.prompts, parameters.multimask_output, one.check_wanted)
        for label, mask in zip(labels, decoded, strict=True):
            window, likely = visible_part(
                predictor.model, mask.logits, *sizes, parameters.confidence_threshold
            )
            builder.add(label, likely, x=window.left, y=window.top, score=mask.score)
        return builder.build()

    def _segment_everything(self, one: SegmentationInput, parameters: Parameters) -> Segmentation:
        found = find_everything(self._predictor, one.image, parameters, one.check_wanted)
        labels = segment_labels(len(found))
        height, width = one.image.shape[:2]
        threshold = parameters.confidence_threshold
        builder = SegmentationBuilder(height, width, labels, threshold)
        for label, mask in zip(labels, found, strict=True):
            window, inside, likely = mask.probabilities(self._predictor.model, threshold)
            builder.add(label, likely, x=window.left, y=window.top, inside=inside, score=mask.score)
        return builder.build()
