"""Masks of a client as Segment Anything's prompt encoder takes them."""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from segment_anything import SamPredictor

from maskline.run_lengths import RunLengthMask
from worker.masks import decode_rle
from worker.packed_mask import Mask

_SURE = 10.0  # the logit of a cell that is wholly on the object; its probability is 0.99995


def encode_masks(predictor: SamPredictor, masks: Sequence[RunLengthMask]) -> torch.Tensor:
    """Logits, float32 (B, 1, 256, 256), of masks of the size of the image that is set in ``predictor``.

    Raises:
        ValueError: the run lengths of a mask are none.
    """
    frame = predictor.model.image_encoder.img_size
    cells = predictor.model.prompt_encoder.mask_input_size[0]
    logits = [low_resolution_logits(decode_rle(mask), predictor.input_size, frame, cells) for mask in masks]
    return torch.as_tensor(np.stack(logits)[:, None], device=predictor.device)


def low_resolution_logits(
    mask: Mask, input_size: tuple[int, int], frame: int, cells: int
) -> NDArray[np.float32]:
    """A mask in the form of the decoder's own masks, which is the one that the prompt encoder was trained on.

    The encoder sees the image resized to ``input_size``, in the upper left corner of a square frame that is
    padded on the right and below. The decoder lays a grid of cells over that frame, and gives each a logit.
    Here a cell's logit is ::

        20 * share - 10

    where ``share``, from 0 to 1, is how much of the cell the mask covers; padding is never covered. So the
    logits go from -10 to 10, as those do that Segment Anything 2 makes of a given mask, and the decoder's own
    are of that order. The share counts as it is, not by its log-odds: then the logits are bilinear across an
    edge, and where they are enlarged as the decoder's are, they cross 0 close to where the edge was. Log-odds
    would draw every edge to the middle of a cell.

    Args:
        mask: bool (H, W).
        input_size: height and width of the resized image, in pixels of the frame.
        frame: pixels of the frame's side, 1024.
        cells: cells along the frame's side, 256.

    Returns:
        float32 (cells, cells), -10..10.
    """
    height, width = input_size
    # OpenCV wants rows that lie together; those of a decoded mask's transpose do.
    resized = cv2.resize(mask.T.view(np.uint8) * np.uint8(255), (height, width), interpolation=cv2.INTER_AREA)
    framed = np.zeros((frame, frame), np.float32)
    framed[:height, :width] = resized.T
    shares = cv2.resize(framed, (cells, cells), interpolation=cv2.INTER_AREA) / np.float32(255)
    return np.asarray(2 * _SURE * shares - _SURE, np.float32)
