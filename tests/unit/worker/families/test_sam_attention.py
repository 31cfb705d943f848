"""Attention in parts against upstream's, on random weights."""

import pytest
import torch
from segment_anything.modeling.image_encoder import Attention

from worker.sam import attention
from worker.sam.attention import AttentionInParts


@torch.inference_mode()
@pytest.mark.parametrize("part_bytes", [1, 3 * 12 * 120 * 4, 1 << 23])
@pytest.mark.parametrize("batch", [1, 2])
def test_the_parts_are_the_whole(part_bytes: int, batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "_PART_BYTES", part_bytes)
    torch.manual_seed(3)
    height, width = 10, 12
    whole = Attention(32, num_heads=4, use_rel_pos=True, input_size=(height, width))
    torch.nn.init.normal_(whole.rel_pos_h)
    torch.nn.init.normal_(whole.rel_pos_w)
    places = torch.randn(batch, height, width, 32)
    assert torch.allclose(AttentionInParts(whole)(places), whole(places), rtol=0, atol=1e-6)
