"""The encoder's attention over the whole image, for processors: the same sums, a part of the image at a time.

Upstream holds the attention of every place to every other in several planes of 0.8 GB each, and most of the
time goes into fetching that memory from the system. In parts that stay in the processor's caches it takes a
third of the time, and none of the memory. Each number comes of the same operations in the same order.
"""

import torch
from segment_anything.modeling import ImageEncoderViT
from segment_anything.modeling.image_encoder import Attention, get_rel_pos

_PART_BYTES = 8 << 20  # of the attention of some rows of places to all places


class AttentionInParts(torch.nn.Module):
    """Stands where an ``Attention`` with relative positions stood."""

    def __init__(self, attention: Attention) -> None:
        """``attention``: upstream's, with its weights."""
        super().__init__()
        self._attention = attention

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """What upstream's gives: (B, H, W, C) of (B, H, W, C)."""
        attention = self._attention
        batch, height, width, _ = x.shape
        places, heads = height * width, attention.num_heads
        projected = attention.qkv(x).reshape(batch, places, 3, heads, -1).permute(2, 0, 3, 1, 4)
        queries, keys, values = projected.reshape(3, batch * heads, places, -1).unbind(0)
        by_row, by_column = _position_scores(attention, queries.unflatten(1, (height, width)))
        scaled, keys = queries * attention.scale, keys.transpose(1, 2)
        rows = max(1, _PART_BYTES // (width * places * x.element_size()))
        found = torch.empty_like(values)
        for head in range(batch * heads):
            for first in range(0, height, rows):
                part = slice(first, first + rows)
                asking = slice(first * width, (first + rows) * width)
                scores = scaled[head, asking] @ keys[head]
                on_grid = scores.view(-1, width, height, width)
                on_grid += by_row[head, part, :, :, None]
                on_grid += by_column[head, part, :, None, :]
                found[head, asking] = scores.softmax(-1) @ values[head]
        found = found.view(batch, heads, height, width, -1).permute(0, 2, 3, 1, 4)
        out: torch.Tensor = attention.proj(found.reshape(batch, height, width, -1))
        return out


def _position_scores(attention: Attention, queries: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What queries (B, H, W, D) get for each row, (B, H, W, H), and each column, (B, H, W, W)."""
    height, width = queries.shape[1:3]
    rows = get_rel_pos(height, height, attention.rel_pos_h)
    columns = get_rel_pos(width, width, attention.rel_pos_w)
    return (
        torch.einsum("bhwc,hkc->bhwk", queries, rows),
        torch.einsum("bhwc,wkc->bhwk", queries, columns),
    )


def attend_in_parts(encoder: ImageEncoderViT) -> None:
    """Let an encoder, changed in place, attend over whole images in parts."""
    for block in encoder.blocks:
        if block.window_size == 0 and block.attn.use_rel_pos:
            block.attn = AttentionInParts(block.attn)
