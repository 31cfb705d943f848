"""The part of an image where a mask can be seen: most masks are small, and their planes are not."""

import math

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from segment_anything.modeling import Sam

from worker.bilinear import resize, resize_part
from worker.masks import Probabilities
from worker.window import Window

_LEAST_SHOWN = 0.0019  # a probability below 1 / 510 changes no confidence of 8 bits
_REACH = 2  # cells: resizing in two steps takes from the neighbours, and from theirs


def visible_part(
    model: Sam, logits: torch.Tensor, input_size: tuple[int, int], size: tuple[int, int], threshold: float
) -> tuple[Window, Probabilities]:
    """A mask's ``window_of``, and its probabilities there, float32 (h, w), brought to size as upstream."""
    window = window_of(model, logits, input_size, size, threshold)
    padded = model.image_encoder.img_size
    seen = resize(logits, (padded, padded))[: input_size[0], : input_size[1]]
    likely: NDArray[np.float32] = resize_part(seen, size, window).sigmoid_().float().cpu().numpy()
    return window, likely


def window_of(
    model: Sam, logits: torch.Tensor, input_size: tuple[int, int], size: tuple[int, int], threshold: float
) -> Window:
    """Where a mask can be shown: outside its probability is below ``threshold``, and too small to be seen.

    Args:
        model: says how large the padded input is that the logits stand for.
        logits: (h, w), at the decoder's resolution.
        input_size: height and width of the image as the encoder saw it, without the padding.
        size: height and width of the image.
        threshold: 0..1; 0: the whole image.
    """
    height, width = size
    if threshold <= 0:
        return Window(0, 0, width, height)
    least = min(threshold, _LEAST_SHOWN)
    likely = logits.cpu().numpy() > math.log(least / (1 - least))
    x, y, columns, rows = cv2.boundingRect(likely.view(np.uint8))
    if columns == 0:
        return Window(0, 0, 0, 0)
    padded = model.image_encoder.img_size
    top, bottom = _pixels(y, y + rows, height * padded / input_size[0] / likely.shape[0], height)
    left, right = _pixels(x, x + columns, width * padded / input_size[1] / likely.shape[1], width)
    return Window(left, top, right, bottom)


def _pixels(first: int, end: int, scale: float, length: int) -> tuple[int, int]:
    """The first pixel that cells reach, and the one after the last; ``scale``: pixels of a cell."""
    start, stop = math.floor((first - _REACH) * scale), math.ceil((end + _REACH) * scale)
    return min(max(start, 0), length), min(stop, length)
