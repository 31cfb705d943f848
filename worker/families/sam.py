"""Segment Anything (Kirillov et al., ICCV 2023), by the ``segment-anything`` package."""

from functools import partial

from maskline.catalog import ModelSpec
from maskline.requests import PromptKind
from maskline.results import ModelCard
from worker.family import Resources, Segmenter, promptable_card, require_weights
from worker.sam.parameters import VARIANTS, Options, Parameters
from worker.torch_import import import_torch

__all__ = ["PACKAGES", "Parameters", "describe", "load"]

PACKAGES = ("torch", "torchvision", "segment_anything")


def describe(spec: ModelSpec) -> ModelCard:
    """The card of a Segment Anything model.

    Raises:
        ValueError: the entry names no weights, or a variant that there is not.
        pydantic.ValidationError: its options are wrong.
    """
    require_weights(spec)
    if Options.model_validate(spec.options).variant not in VARIANTS:
        raise ValueError(f"options.variant: give one of {', '.join(VARIANTS)}")
    card = promptable_card(spec, Parameters, PromptKind.BOX, PromptKind.POINTS, PromptKind.MASK)
    return card.model_copy(update={"embeds": True})


def load(spec: ModelSpec, resources: Resources) -> Segmenter:
    """The model on its device.

    Raises:
        WeightsUnusable: the weights are not there, can't be read, or are of another variant.
    """
    path = import_torch(meanwhile=partial(resources.weights.verify, spec))
    from worker.sam import segmenter  # noqa: PLC0415 (torch takes seconds and memory: only who needs it pays)

    return segmenter.load(spec, Options.model_validate(spec.options), resources, path)
