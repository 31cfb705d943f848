"""What a model family must offer, and the arrays that it exchanges with the rest of the worker."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from maskline.catalog import ModelSpec
from maskline.requests import Prompt, PromptKind, Subtask
from maskline.results import AnnotationSpec, ModelCard
from maskline.weights import WeightStore
from maskline.wire import WireModel
from worker.packed_mask import Mask, PackedMask

Image = NDArray[np.uint8]  #: (H, W, 3), RGB, 0..255, upright
CategoryMap = NDArray[np.uint8] | NDArray[np.uint16]  #: (H, W), annotation spec ids, 0 is background
ConfidenceMap = NDArray[np.uint8]  #: (H, W), 0 no confidence .. 255 complete confidence


class CommonParameters(WireModel):
    """The parameters that every family takes; a family's own model extends this one."""

    confidence_threshold: float = Field(default=0.5, ge=0, le=1)
    """A pixel whose best category is less probable than this is background."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentationInput:
    """One image with what is asked of it."""

    image: Image
    """uint8 (H, W, 3), RGB; not to be changed, for others may use it too."""
    image_key: str
    """The same for the same pixels, and for no others; a key for caches."""
    prompts: tuple[Prompt, ...]
    """In pixels of ``image``, and inside it; masks are of its size."""
    subtask: Subtask
    """One of the card's."""
    parameters: CommonParameters
    """An instance of the family's own parameters model."""
    wants_embedding: bool = False
    """Whether the result must have the embedding too; only if the card says that the model can."""
    check_wanted: Callable[[], None] = lambda: None
    """Raises when nobody wants the result any more; for models that take long to ask now and then."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentMask:
    """One segment as the model found it."""

    label: str
    category_id: int
    score: float
    """0..1"""
    packed: PackedMask

    @property
    def mask(self) -> Mask:
        """bool (H, W), the size of the image; made anew at each call."""
        return self.packed.unpack()


@dataclass(frozen=True, kw_only=True, slots=True)
class Segmentation:
    """What a model found in one image."""

    category_map: CategoryMap
    """uint8 (or uint16 when an id is above 255) (H, W): annotation spec ids, 0 is background."""
    confidence_map: ConfidenceMap
    """uint8 (H, W): 255 times the probability that ``category_map`` is right at the pixel."""
    segments: tuple[SegmentMask, ...]
    """The instances or regions behind the map."""
    annotation_specs: tuple[AnnotationSpec, ...]
    """Background first, then every category of the map, ascending ids."""
    embedding: NDArray[np.float32] | None = None
    """What the encoder made of the image, if it was wanted: (1, channels, rows, columns)."""


class Shelf(Protocol):
    """Where workers leave each other what they computed. May lose anything at any time, and never raises."""

    def find(self, key: str) -> bytes | None:
        """What was kept under this key, if it is there."""
        ...

    def keep(self, key: str, content: bytes) -> None:
        """Leave it there."""
        ...

    def drop(self, key: str) -> None:
        """Remove what was found under this key, for it is of no use."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Resources:
    """What a model may use of the worker's machine."""

    weights: WeightStore
    """Finds its weights."""
    device: str | None = None
    """As torch names it; None: the best that is there."""
    embedding_cache_bytes: int = 0
    """Memory for what can be kept of an image."""
    shelf: Shelf | None = None
    """For what can be shared with other workers; None: nothing is."""


class Segmenter(Protocol):
    """A loaded model. One thread owns it and calls it."""

    def segment(self, inputs: Sequence[SegmentationInput]) -> Sequence[Segmentation]:
        """The segmentation of each input, in the same order.

        The result for an input must not depend on its neighbours in ``inputs``.

        Raises:
            ServiceError: with a message that is safe to show.
            Exception: anything else becomes ``PredictionFailed``.
        """
        ...


def promptable_card(
    spec: ModelSpec, parameters: type[CommonParameters], *prompt_kinds: PromptKind
) -> ModelCard:
    """The card of a model that cuts out what prompts of these kinds tell of, or everything."""
    return ModelCard(
        id=spec.id,
        family=spec.family,
        display_name=spec.display_name,
        description=spec.description,
        license=spec.license,
        subtasks=(Subtask.INSTANCE, Subtask.SEMANTIC),
        prompt_kinds=prompt_kinds,
        parameters_schema=parameters.model_json_schema(by_alias=True),
    )


def require_weights(spec: ModelSpec) -> None:
    """Return if the catalog says where the model's weights are.

    Raises:
        ValueError: it does not.
    """
    if spec.weights is None:
        raise ValueError(f"weights: a model of the family {spec.family!r} needs them")


class ModelFamily(Protocol):
    """The contents of a module ``worker/families/<family>.py``.

    The folder is the registry: a family's name is its file's name.
    """

    PACKAGES: tuple[str, ...]
    """What must be installed for ``load``; importing the module must not need it."""
    Parameters: type[CommonParameters]
    """The family's parameters; its JSON schema goes into the card."""

    def describe(self, spec: ModelSpec) -> ModelCard:
        """The card of a model of this family; must not load weights.

        Raises:
            ValueError: the entry lacks something.
            pydantic.ValidationError: its options are wrong.
        """
        ...

    def load(self, spec: ModelSpec, resources: Resources) -> Segmenter:
        """The model, ready to run.

        Raises:
            WeightsUnusable: the weights are missing, altered or of another kind.
        """
        ...
