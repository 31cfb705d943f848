"""Segment Anything (Kirillov et al., ICCV 2023), by the ``segment-anything`` package."""

from functools import partial

from maskline.catalog import ModelSpec
from maskline.results import ModelCard
from worker.family import Resources, Segmenter, promptable_card
from worker.sam.parameters import Options, Parameters
from worker.torch_import import import_torch

__all__ = ["PACKAGES", "Parameters", "describe", "load"]

PACKAGES = ("torch", "torchvision", "segment_anything")


def describe(spec: ModelSpec) -> ModelCard:
    """The card of a Segment Anything model.

    Raises:
        pydantic.ValidationError: the entry's options are wrong.
    """
    Options.model_validate(spec.options)
    return promptable_card(spec, Parameters)


def load(spec: ModelSpec, resources: Resources) -> Segmenter:
    """The model on its device.

    Raises:
        WeightsUnusable: the weights are not there, can't be read, or are of another variant.
    """
    path = import_torch(meanwhile=partial(resources.weights.verify, spec))
    from worker.sam import segmenter  # noqa: PLC0415 (torch takes seconds and memory: only who needs it pays)

    return segmenter.load(spec, Options.model_validate(spec.options), resources, path)
