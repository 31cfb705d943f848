"""The prompts of a request through Segment Anything's decoder, on the image that is set."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from segment_anything import SamPredictor

from maskline.requests import Prompt, PromptKind
from worker.sam.mask_input import encode_masks
from worker.torch_device import in_halves

_TOGETHER = 64
_TOGETHER_ON_CPU = 8  # with more, memory grows by 30 MB each, and speed does not
_POINTS_LIKE_A_PROMPT = 64  # so many more points of a prompt take the memory of another one


@dataclass(frozen=True, kw_only=True, slots=True)
class Decoded:
    """A prompt's mask."""

    logits: torch.Tensor
    """As the decoder gives them, (256, 256)."""
    score: float
    """Its quality as the model predicts it, 0..1."""


def decode_prompts(
    predictor: SamPredictor,
    prompts: Sequence[Prompt],
    multimask: bool | None,
    check_wanted: Callable[[], None] = lambda: None,
) -> list[Decoded]:
    """A mask for each prompt.

    Only prompts of one form share a call: points that fill up the shorter ones would change their masks.

    Args:
        predictor: with an image's embedding.
        prompts: on that image.
        multimask: whether each gets three masks, of which the best by its score counts; None: those of a
            single point and nothing else do.
        check_wanted: called before each run of the decoder; what it raises ends the work.
    """
    forms: defaultdict[tuple[frozenset[PromptKind], int], list[int]] = defaultdict(list)
    for i, prompt in enumerate(prompts):
        forms[prompt.kinds, len(prompt.points)].append(i)
    decoded: dict[int, Decoded] = {}
    for (kinds, points), members in forms.items():
        is_ambiguous = kinds == {PromptKind.POINTS} and points == 1
        best_of_three = is_ambiguous if multimask is None else multimask
        decode = partial(_decode, predictor, prompts, best_of_three)
        for part in _parts(members, points, predictor.device):
            check_wanted()
            for found in in_halves(decode, part):
                decoded |= found
    return [decoded[i] for i in range(len(prompts))]


def _parts(members: Sequence[int], points: int, device: torch.device) -> list[NDArray[np.intp]]:
    """Of one form, those that go through the decoder together: few enough for the memory.

    They are of nearly equal size, for the decoder rounds one or two prompts otherwise than many.
    """
    most = _TOGETHER_ON_CPU if device.type == "cpu" else _TOGETHER
    most = max(1, most // (1 + points // _POINTS_LIKE_A_PROMPT))
    return np.array_split(np.array(members), -(-len(members) // most))


def _decode(
    predictor: SamPredictor, prompts: Sequence[Prompt], multimask: bool, members: NDArray[np.intp]
) -> dict[int, Decoded]:
    """Of those of the prompts, which are of one form."""
    logits, scores = _run(predictor, [prompts[i] for i in members], multimask)
    rows = torch.arange(len(members), device=logits.device)
    best = scores.argmax(dim=1)
    chosen = zip(members.tolist(), logits[rows, best], scores[rows, best].clamp(0, 1).tolist(), strict=True)
    return {i: Decoded(logits=mask, score=score) for i, mask, score in chosen}


def _run(
    predictor: SamPredictor, prompts: Sequence[Prompt], multimask: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (B, C, 256, 256) and scores (B, C) of prompts of one form; C is 3 with ``multimask``, else 1."""
    device, model = predictor.device, predictor.model
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
    sparse, dense = model.prompt_encoder(points=points, boxes=boxes, masks=masks)
    logits, scores = model.mask_decoder(
        image_embeddings=predictor.features,
        image_pe=model.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=multimask,
    )
    return logits, scores
