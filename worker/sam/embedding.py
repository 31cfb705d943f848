"""An image as Segment Anything's encoder sees it, and what workers share of it."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import structlog
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from worker.family import Shelf

logger = structlog.get_logger(module=__name__)

_NAMES = {"features", "sizes", "sha256"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Embedding:
    """What ``SamPredictor.set_image`` computes."""

    features: torch.Tensor
    """float32 (1, 256, S/16, S/16)."""
    input_size: tuple[int, int]
    """Height and width of the image as the encoder sees it."""
    original_size: tuple[int, int]
    """Height and width of the image."""

    @property
    def size(self) -> int:
        """Bytes in memory."""
        return self.features.nbytes

    def to_bytes(self) -> bytes:
        """As safetensors, with a SHA-256 over it all."""
        features = self.features.cpu().contiguous()
        sizes = torch.tensor([self.input_size, self.original_size])
        return save({"features": features, "sizes": sizes, "sha256": _sha256(features, sizes)})

    @classmethod
    def from_bytes(cls, content: bytes, device: torch.device) -> Self:
        """What ``to_bytes`` made, to the last bit.

        Raises:
            ValueError: it is anything else.
        """
        try:
            tensors = load(content)
        except SafetensorError as error:
            raise ValueError("not in the format of safetensors") from error
        if tensors.keys() != _NAMES:
            raise ValueError("not the tensors of an embedding")
        features, sizes = tensors["features"], tensors["sizes"]
        if not torch.equal(tensors["sha256"], _sha256(features, sizes)):
            raise ValueError("not what was written")
        (input_height, input_width), (height, width) = sizes.tolist()
        return cls(
            features=features.to(device),
            input_size=(input_height, input_width),
            original_size=(height, width),
        )


class SharedEmbeddings:
    """The embeddings that all workers with the same encoder compute once."""

    def __init__(self, shelf: Shelf, encoder: str, device: torch.device) -> None:
        """``encoder``: stands for all that an embedding depends on beside the image; ``device``: where those
        that are found are put."""
        self._shelf = shelf
        self._encoder = encoder
        self._device = device

    def get(self, image_key: str, make: Callable[[], Embedding]) -> Embedding:
        """The image's embedding, made and left for others if none is there or what is there is damaged."""
        key = hashlib.sha256(f"{self._encoder}\n{image_key}".encode()).hexdigest()
        content = self._shelf.find(key)
        if content is not None:
            try:
                return Embedding.from_bytes(content, self._device)
            except ValueError as error:
                logger.warning("shared embedding damaged", key=key, reason=str(error))
                self._shelf.drop(key)
        made = make()
        self._shelf.keep(key, made.to_bytes())
        return made


def fingerprint(module: torch.nn.Module) -> str:
    """SHA-256, in hex, over all weights of a module on the CPU, with their names, types and shapes."""
    digest = hashlib.sha256()
    for name, value in module.state_dict().items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(_bytes(value))
    return digest.hexdigest()


def _sha256(*tensors: torch.Tensor) -> torch.Tensor:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(_bytes(tensor))
    return torch.tensor(list(digest.digest()), dtype=torch.uint8)


def _bytes(tensor: torch.Tensor) -> memoryview:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data
