"""The one place that asks Segment Anything's decoder."""

import torch
from segment_anything import SamPredictor


def decode(
    predictor: SamPredictor,
    *,
    points: tuple[torch.Tensor, torch.Tensor] | None,
    boxes: torch.Tensor | None,
    masks: torch.Tensor | None = None,
    multimask: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (B, C, 256, 256) and scores (B, C) for prompts on the image that is set in ``predictor``.

    Args:
        predictor: with an image's embedding.
        points: coordinates (B, N, 2) as the model sees them, and their labels (B, N).
        boxes: (B, 4), as the model sees them.
        masks: low-resolution logits (B, 1, 256, 256).
        multimask: whether C is 3, not 1.
    """
    model = predictor.model
    sparse, dense = model.prompt_encoder(points=points, boxes=boxes, masks=masks)
    logits, scores = model.mask_decoder(
        image_embeddings=predictor.features,
        image_pe=model.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=multimask,
    )
    return logits, scores
