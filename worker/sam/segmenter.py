"""Segment Anything (Kirillov et al., ICCV 2023), by the ``segment-anything`` package.

The encoder's embedding of an image is kept, so that further prompts on it cost the decoder alone. Prompts of
one form go through the decoder together. Masks stay at the decoder's 256 x 256 until it is known which are
wanted; only these are brought to the image's size, one at a time.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from segment_anything import SamPredictor, sam_model_registry

from maskline.catalog import ModelSpec
from maskline.errors import WeightsUnusable
from maskline.requests import Prompt, PromptKind
from worker.checkpoint import RandomStartLeftOut, load_state
from worker.family import (
    Image,
    Resources,
    Segmentation,
    SegmentationInput,
    Segmenter,
)
from worker.sam.attention import attend_in_parts
from worker.sam.decoder import decode
from worker.sam.embedding import Embedding, SharedEmbeddings, fingerprint
from worker.sam.encoder import Encoder
from worker.sam.everything import find_everything
from worker.sam.mask_input import encode_masks
from worker.sam.parameters import Options, Parameters
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
    device = choose_device(options.device or resources.device)
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


@dataclass(frozen=True, kw_only=True, slots=True)
class _Decoded:
    """A prompt's mask: its logits as the decoder gives them, (256, 256), and its predicted quality."""

    logits: torch.Tensor
    score: float


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
        made = (
            self._segment_prompts(one.image, one.prompts, parameters)
            if one.prompts
            else self._segment_everything(one.image, parameters)
        )
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

    def _segment_prompts(
        self, image: Image, prompts: Sequence[Prompt], parameters: Parameters
    ) -> Segmentation:
        labels = [prompt.label for prompt in prompts]
        height, width = image.shape[:2]
        builder = SegmentationBuilder(height, width, labels, parameters.confidence_threshold)
        predictor = self._predictor
        sizes = predictor.input_size, predictor.original_size
        for prompt, decoded in zip(prompts, self._decode(prompts, parameters), strict=True):
            window, likely = visible_part(
                predictor.model, decoded.logits, *sizes, parameters.confidence_threshold
            )
            builder.add(prompt.label, likely, x=window.left, y=window.top, score=decoded.score)
        return builder.build()

    def _segment_everything(self, image: Image, parameters: Parameters) -> Segmentation:
        found = find_everything(self._predictor, image, parameters)
        labels = segment_labels(len(found))
        height, width = image.shape[:2]
        builder = SegmentationBuilder(height, width, labels, parameters.confidence_threshold)
        for label, one in zip(labels, found, strict=True):
            window, inside, likely = one.probabilities(self._predictor.model, parameters.confidence_threshold)
            builder.add(label, likely, x=window.left, y=window.top, inside=inside, score=one.score)
        return builder.build()

    def _decode(self, prompts: Sequence[Prompt], parameters: Parameters) -> list[_Decoded]:
        """A mask for each prompt.

        Only prompts of one form share a call: points that fill up the shorter ones would change their masks.
        """
        forms: defaultdict[tuple[frozenset[PromptKind], int], list[int]] = defaultdict(list)
        for i, prompt in enumerate(prompts):
            forms[prompt.kinds, len(prompt.points)].append(i)
        decoded: dict[int, _Decoded] = {}
        for (kinds, points), members in forms.items():
            is_ambiguous = kinds == {PromptKind.POINTS} and points == 1
            multimask = is_ambiguous if parameters.multimask_output is None else parameters.multimask_output
            logits, scores = self._run_decoder([prompts[i] for i in members], multimask)
            best = scores.argmax(dim=1)
            for row, i in enumerate(members):
                choice = best[row]
                decoded[i] = _Decoded(
                    logits=logits[row, choice],
                    score=min(max(float(scores[row, choice]), 0.0), 1.0),
                )
        return [decoded[i] for i in range(len(prompts))]

    def _run_decoder(self, prompts: Sequence[Prompt], multimask: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (B, C, 256, 256) and scores (B, C) of prompts of one form."""
        predictor = self._predictor
        device = predictor.device
        points = boxes = masks = None
        if prompts[0].points:
            coordinates = np.array([prompt.points for prompt in prompts], np.float64)
            labels = [[label for _, _, label in prompt.labelled_points] for prompt in prompts]
            points = (
                torch.as_tensor(
                    predictor.transform.apply_coords(coordinates, predictor.original_size),
                    dtype=torch.float,
                    device=device,
                ),
                torch.as_tensor(labels, dtype=torch.int, device=device),
            )
        if prompts[0].box is not None:
            corners = np.array([prompt.box for prompt in prompts], np.float64)
            boxes = torch.as_tensor(
                predictor.transform.apply_boxes(corners, predictor.original_size),
                dtype=torch.float,
                device=device,
            )
        if prompts[0].mask is not None:
            masks = encode_masks(predictor, [prompt.mask for prompt in prompts if prompt.mask is not None])
        return decode(predictor, points=points, boxes=boxes, masks=masks, multimask=multimask)
