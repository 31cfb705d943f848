"""What catalog entries of every family on torch may say."""

from typing import Literal

from maskline.settings import Device
from maskline.wire import WireModel


class TorchOptions(WireModel):
    """Where and how the model computes."""

    device: Device | None = None
    """Where the model runs; None: where the worker's models do."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the weights and the computation, of Segment Anything its image encoder's; what comes after is in
    float32."""
    compile: bool = False
    """Whether it (of Segment Anything the image encoder) goes through ``torch.compile``."""
