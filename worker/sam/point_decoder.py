"""Segment Anything's decoder for many points on one image, at a part of its cost.

It computes what ``segment_anything.modeling.MaskDecoder`` does with ``multimask_output``, from the same
weights and in another order, so that results differ by rounding alone:

- What the first layer makes of the image is the same for all points, and is made once.
- A few tokens attend to thousands of places. So a token is taken to the places through the projection's
  transpose, and not each place to the tokens through the projection: ``(W x) · q = x · (Wᵀ q)``.
- The masks' qualities come first; only what is wanted is brought to the masks' resolution.
- Channels come last, which makes a product of matrices of each step.
"""

from collections.abc import Iterable
from math import sqrt
from typing import Any

import torch
from segment_anything.modeling import Sam
from segment_anything.modeling.transformer import Attention, TwoWayAttentionBlock
from torch import Tensor, nn
from torch.nn import functional

# In the shapes below: P points, T tokens, N places of the embedding, C channels, H heads of D channels.


class PointDecoder:
    """The decoder for one image."""

    def __init__(self, model: Sam, features: Tensor) -> None:
        """``features``: the image's embedding, (1, C, h, w)."""
        self._prompts = model.prompt_encoder
        self._decoder = model.mask_decoder
        _, _, height, width = features.shape
        self._grid = height, width
        transformer = self._decoder.transformer
        _, dense = self._prompts(points=None, boxes=None, masks=None)
        self._position = _places(self._prompts.get_dense_pe())
        self._first = _FirstLayer(transformer.layers[0], _places(features + dense), self._position)
        self._later = [_Layer(layer) for layer in transformer.layers[1:]]
        self._last = _FromPlaces(transformer.final_attn_token_to_image)
        self._norm = transformer.norm_final_attn
        self._upscaling = _Upscaling(self._decoder.output_upscaling)

    def decode(self, coordinates: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
        """The masks of each point, three a point, of which the decoder thinks more than ``threshold``.

        Args:
            coordinates: (P, 2), x and y as the model sees them; each on an object.
            threshold: of the quality; 0: all are wanted.

        Returns:
            Logits (M, 4 h, 4 w) and qualities (M,), by point, and by mask within a point.
        """
        labels = torch.ones(len(coordinates), 1, dtype=torch.int, device=coordinates.device)
        sparse, _ = self._prompts(points=(coordinates[:, None], labels), boxes=None, masks=None)
        decoder = self._decoder
        own = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
        tokens = torch.cat([own.expand(len(sparse), -1, -1), sparse], dim=1)
        tokens, places = self._attend(tokens)
        scores = decoder.iou_prediction_head(tokens[:, 0])[:, 1:]
        wanted = scores > threshold if threshold > 0 else torch.ones_like(scores, dtype=torch.bool)
        of_points = wanted.any(1)
        weights = torch.stack(
            [
                mlp(tokens[of_points, 1 + i])
                for i, mlp in enumerate(decoder.output_hypernetworks_mlps)
                if i > 0  # the first is for prompts that are not ambiguous
            ],
            dim=2,
        )
        logits = self._upscaling.masks(places[of_points], weights, self._grid)
        return logits[wanted[of_points]], scores[wanted]

    def _attend(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (P, T, C) and places (P, N, C) after the transformer."""
        queries, places = self._first.attend(tokens)
        placed = places + self._position
        for layer in self._later:
            queries, places = layer.attend(queries, tokens, places, placed)
            placed = places + self._position
        queries = queries + self._last.attend(queries + tokens, places, placed)
        return self._norm(queries), places


class _FirstLayer:
    """The first layer, where all points still see the same places."""

    def __init__(self, layer: TwoWayAttentionBlock, places: Tensor, position: Tensor) -> None:
        """``places``, ``position``: (N, C)."""
        self._layer = layer
        self._from, self._to = layer.cross_attn_token_to_image, layer.cross_attn_image_to_token
        placed = places + position
        heads = self._from.num_heads
        self._places = places
        self._keys = _by_head(self._from.k_proj(placed), heads)
        self._values = _by_head(self._from.v_proj(places), heads)
        self._queries = _by_head(self._to.q_proj(placed), heads)
        self._backwards = _ToPlaces(self._to)

    def attend(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (P, T, C) and places (P, N, C) after the layer."""
        layer = self._layer
        queries = layer.norm1(layer.self_attn(q=tokens, k=tokens, v=tokens))
        queries = layer.norm2(queries + self._from_places(queries + tokens))
        queries = layer.norm3(queries + layer.mlp(queries))
        keys, values = self._backwards.of_tokens(queries + tokens, queries)
        points, count, heads, _ = keys.shape
        scores = self._queries @ keys.permute(2, 3, 0, 1).flatten(2)  # (H, N, P T)
        scores = scores.unflatten(2, (points, count)).permute(2, 1, 0, 3)
        places = self._backwards.mix(scores.reshape(points, -1, heads, count), values, self._places)
        return queries, layer.norm4(places)

    def _from_places(self, queries: Tensor) -> Tensor:
        points, count, _ = queries.shape
        ours = _by_head(self._from.q_proj(queries).flatten(0, 1), self._from.num_heads)
        weights = (ours @ self._keys.transpose(1, 2) / sqrt(ours.shape[-1])).softmax(-1)  # (H, P T, N)
        found = (weights @ self._values).transpose(0, 1).reshape(points, count, -1)
        out: Tensor = self._from.out_proj(found)
        return out


class _Layer:
    """A later layer, where each point has places of its own."""

    def __init__(self, layer: TwoWayAttentionBlock) -> None:
        self._layer = layer
        self._from = _FromPlaces(layer.cross_attn_token_to_image)
        self._to = _ToPlaces(layer.cross_attn_image_to_token)

    def attend(
        self, queries: Tensor, tokens: Tensor, places: Tensor, placed: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Queries (P, T, C) and places (P, N, C) after the layer.

        ``tokens``: the queries' position; ``placed``: the places with theirs.
        """
        layer = self._layer
        asked = queries + tokens
        queries = layer.norm1(queries + layer.self_attn(q=asked, k=asked, v=queries))
        queries = layer.norm2(queries + self._from.attend(queries + tokens, places, placed))
        queries = layer.norm3(queries + layer.mlp(queries))
        return queries, layer.norm4(self._to.attend(queries + tokens, queries, places, placed))


class _FromPlaces:
    """Attention of tokens to places."""

    def __init__(self, attention: Attention) -> None:
        self._attention = attention
        heads = attention.num_heads
        self._key = attention.k_proj.weight.unflatten(0, (heads, -1))  # (H, D, C)
        self._value = attention.v_proj.weight.unflatten(0, (heads, -1))

    def attend(self, queries: Tensor, places: Tensor, placed: Tensor) -> Tensor:
        """What the tokens find, (P, T, C). The keys' bias is the same for all places: softmax drops it."""
        attention = self._attention
        ours = attention.q_proj(queries).unflatten(2, (attention.num_heads, -1))
        asked = torch.einsum("pthd,hdc->phtc", ours / sqrt(ours.shape[-1]), self._key)
        weights = (asked.flatten(1, 2) @ placed.transpose(1, 2)).softmax(-1)  # (P, H T, N)
        found = (weights @ places).view_as(asked)
        found = torch.einsum("phtc,hdc->pthd", found, self._value).flatten(2) + attention.v_proj.bias
        out: Tensor = attention.out_proj(found)
        return out


class _ToPlaces:
    """Attention of places to tokens."""

    def __init__(self, attention: Attention) -> None:
        self._attention = attention
        heads = attention.num_heads
        self._query = attention.q_proj.weight.unflatten(0, (heads, -1))  # (H, D, C)
        self._query_bias = attention.q_proj.bias.unflatten(0, (heads, -1))
        self._out = attention.out_proj.weight.unflatten(1, (heads, -1))  # (C, H, D)

    def of_tokens(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """The tokens' keys, (P, T, H, D), scaled; and what a place gets of each token, (P, H T, C)."""
        attention = self._attention
        heads = attention.num_heads
        keys = attention.k_proj(keys).unflatten(2, (heads, -1))
        values = attention.v_proj(values).unflatten(2, (heads, -1))
        given = torch.einsum("pthd,chd->phtc", values, self._out)
        # Each head's weights sum to 1, so that a place gets the bias once.
        given = given + attention.out_proj.bias / heads
        return keys / sqrt(keys.shape[-1]), given.flatten(1, 2)

    def attend(self, keys: Tensor, values: Tensor, places: Tensor, placed: Tensor) -> Tensor:
        """The places (P, N, C) with what they find."""
        ours, given = self.of_tokens(keys, values)
        asked = torch.einsum("pthd,hdc->pcht", ours, self._query).flatten(2)  # (P, C, H T)
        bias = torch.einsum("pthd,hd->pht", ours, self._query_bias).flatten(1)
        scores = torch.baddbmm(bias[:, None], placed, asked)
        return self.mix(scores.unflatten(2, (self._attention.num_heads, -1)), given, places)

    def mix(self, scores: Tensor, given: Tensor, places: Tensor) -> Tensor:
        """The places, (P, N, C) or (N, C), with what they get by scores (P, N, H, T)."""
        return torch.baddbmm(places.expand(len(scores), -1, -1), scores.softmax(-1).flatten(2), given)


class _Upscaling:
    """``MaskDecoder.output_upscaling``: two transposed convolutions, each makes four places of one."""

    def __init__(self, upscaling: Iterable[Any]) -> None:
        first, self._norm, self._activation, second, self._last_activation = upscaling
        self._first, self._second = _as_linear(first), _as_linear(second)

    def masks(self, places: Tensor, weights: Tensor, grid: tuple[int, int]) -> Tensor:
        """Logits (P, K, 4 h, 4 w).

        ``places``: (P, N, C); ``weights``: of the C / 8 channels that places end with, (P, C / 8, K).
        """
        norm = self._norm
        finer = functional.linear(places, *self._first).unflatten(2, (4, -1))
        finer = functional.layer_norm(finer, finer.shape[-1:], norm.weight, norm.bias, norm.eps)
        finest = functional.linear(self._activation(finer), *self._second)
        finest = self._last_activation(finest).unflatten(3, (4, -1)).flatten(1, 3)
        logits = (finest @ weights).transpose(1, 2)
        height, width = grid
        by_step = logits.unflatten(2, (height, width, 2, 2, 2, 2))  # y, x, then each convolution's y and x
        return by_step.permute(0, 1, 2, 4, 6, 3, 5, 7).flatten(5, 7).flatten(2, 4)


def _as_linear(convolution: nn.ConvTranspose2d) -> tuple[Tensor, Tensor]:
    """Weight (4 K, C) and bias (4 K,) for a convolution from C to K channels: by row, column and channel."""
    weight = convolution.weight.permute(2, 3, 1, 0).flatten(0, 2).contiguous()
    assert convolution.bias is not None  # noqa: S101 (upstream's have one)
    return weight, convolution.bias.repeat(4)


def _places(plane: Tensor) -> Tensor:
    """(N, C) of (1, C, h, w)."""
    return plane.flatten(2)[0].T.contiguous()


def _by_head(projected: Tensor, heads: int) -> Tensor:
    """(H, N, D) of (N, H D)."""
    return projected.unflatten(1, (heads, -1)).transpose(0, 1).contiguous()
