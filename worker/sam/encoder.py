"""Segment Anything's image encoder in the precision that a catalog's entry wants, compiled if it says so."""

import torch


class Encoder(torch.nn.Module):
    """Stands where the model's own encoder stood: prompts and masks are computed in float32 as before."""

    def __init__(self, encoder: torch.nn.Module, dtype: torch.dtype, *, compiled: bool) -> None:
        """``encoder``: upstream's, whose weights become ``dtype``."""
        super().__init__()
        self.img_size = encoder.img_size
        self._dtype = dtype
        encoder = encoder.to(dtype)
        self._encode = torch.compile(encoder) if compiled else encoder

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The embedding, float32 (B, 256, S/16, S/16), of prepared images, float32 (B, 3, S, S)."""
        return self._encode(images.to(self._dtype)).float()
