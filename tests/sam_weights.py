"""Weights for Segment Anything with which it finds blobs: masks as local, and of as many sizes, as a trained
model's, though nobody trained it. Random weights alone give masks all over the image."""

import numpy as np
import torch
from segment_anything import SamPredictor
from segment_anything.modeling import Sam
from segment_anything.modeling.common import LayerNorm2d
from torch import Tensor, nn

_SIGNALS = 4  # of a place: cos and sin of x, cos and sin of y; a further channel is constant
_LARGE = 30.0  # against what the blocks of the encoder add
_OFFSET = 6.0  # where GELU is a straight line
_STEEPNESS = 300.0
_CALIBRATION_SIDE = 6


@torch.no_grad()
def find_blobs(model: Sam) -> None:
    """Change a model with random weights so that its masks are blobs, whose places, sizes and qualities
    depend on the prompt and, a little, on the image.

    A mask is ``s (a cos x + b sin x + c cos y + d sin y - t)``, one period over the image: the encoder hands
    the places' part through to the end, and the prompt's token gives a to d.
    """
    _put_places_into_the_embedding(model)
    model.prompt_encoder.no_mask_embed.weight *= 0.05
    for layer in model.mask_decoder.transformer.layers:
        layer.cross_attn_image_to_token.out_proj.weight *= 0.3
    _hand_places_on(*model.mask_decoder.output_upscaling[:4])
    _make_blobs(model)


def _put_places_into_the_embedding(model: Sam) -> None:
    encoder = model.image_encoder
    side = encoder.pos_embed.shape[1]
    axis = (torch.arange(side) + 0.5) / side * 2 * torch.pi
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    signals = torch.stack([x.cos(), x.sin(), y.cos(), y.sin(), torch.ones_like(x)], -1)
    encoder.pos_embed[0, :, :, : _SIGNALS + 1] = _LARGE * signals
    first, _, second, _ = encoder.neck
    nn.init.normal_(first.weight, std=0.02)
    nn.init.normal_(second.weight, std=0.002)
    for channel in range(first.weight.shape[0]):
        signal = min(channel // 2, _SIGNALS)
        sign = 1 - 2 * (channel % 2)
        # The constant ones are most of the variance, so that the norms leave the others as they are.
        first.weight[channel, signal, 0, 0] += sign * (5 if signal == _SIGNALS else 1)
        second.weight[channel, channel, 1, 1] += 1


def _hand_places_on(
    first: nn.ConvTranspose2d, norm: LayerNorm2d, _: nn.Module, second: nn.ConvTranspose2d
) -> None:
    channels = first.weight.shape[1]
    assert first.bias is not None
    assert second.bias is not None
    for weights in (first.weight, second.weight, second.bias):
        nn.init.normal_(weights, std=0.01)
    nn.init.zeros_(first.bias)
    for channel in range(channels):
        signal = min(channel, _SIGNALS)
        sign = 1 if channel <= _SIGNALS else 1 - 2 * (channel % 2)
        first.weight[2 * signal, channel] += sign * 2.5
        first.weight[2 * signal + 1, channel] -= sign * 2.5
    norm.weight[:_SIGNALS] = 5.0
    norm.bias[:_SIGNALS] = _OFFSET
    for signal in range(_SIGNALS):
        second.weight[signal, signal] += 1
    second.bias[_SIGNALS] = _OFFSET


def _make_blobs(model: Sam) -> None:
    decoder = model.mask_decoder
    seen = _seen_by_last_layers(model)
    for number, mlp in enumerate(decoder.output_hypernetworks_mlps):
        last = mlp.layers[-1]
        last.weight[:] *= 0.5
        threshold = _STEEPNESS * (2.6 - 0.3 * number)
        last.weight[_SIGNALS], last.bias[_SIGNALS] = 0.0, -threshold / _OFFSET
        for signal in range(_SIGNALS):
            weight, bias = _scaled(_standardised(last.in_features, seen[mlp]), _STEEPNESS)
            last.weight[signal], last.bias[signal] = weight, bias
            # What the offset of the channel adds is taken off again.
            last.weight[_SIGNALS] -= weight
            last.bias[_SIGNALS] -= bias
    head = decoder.iou_prediction_head
    for mask in range(decoder.num_mask_tokens):
        weight, bias = _scaled(_standardised(head.layers[-1].in_features, seen[head]), 0.06)
        head.layers[-1].weight[mask], head.layers[-1].bias[mask] = weight, bias + 0.87


def _seen_by_last_layers(model: Sam) -> dict[nn.Module, Tensor]:
    """What reaches the last layer of each small network, for a grid of points on some image."""
    decoder = model.mask_decoder
    networks = [*decoder.output_hypernetworks_mlps, decoder.iou_prediction_head]
    seen: dict[nn.Module, Tensor] = {}
    hooks = [
        network.layers[-1].register_forward_pre_hook(
            lambda _, arguments, network=network: seen.update({network: arguments[0]})
        )
        for network in networks
    ]
    predictor = SamPredictor(model)
    side = model.image_encoder.img_size
    predictor.set_image(np.random.default_rng(0).integers(0, 255, (side, side, 3), np.uint8))
    axis = (torch.arange(_CALIBRATION_SIDE) + 0.5) / _CALIBRATION_SIDE * side
    points = torch.cartesian_prod(axis, axis)[:, None]
    predictor.predict_torch(points, torch.ones(points.shape[:2]))
    for hook in hooks:
        hook.remove()
    return seen


def _standardised(width: int, seen: Tensor) -> tuple[Tensor, Tensor]:
    """Weights and a bias that make numbers of mean 0 and deviation 1 of what was seen, (N, width)."""
    weight = torch.randn(width)
    made = seen @ weight
    return weight / made.std(), -made.mean() / made.std()


def _scaled(parts: tuple[Tensor, Tensor], factor: float) -> tuple[Tensor, Tensor]:
    return parts[0] * factor, parts[1] * factor
