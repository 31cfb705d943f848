"""Segment Anything (Kirillov et al., ICCV 2023), by the ``segment-anything`` package."""

from maskline.catalog import ModelSpec
from maskline.requests import PromptKind, Subtask
from maskline.results import ModelCard
from worker.family import Resources, Segmenter
from worker.sam.parameters import Options, Parameters

__all__ = ["PACKAGES", "Parameters", "describe", "load"]

PACKAGES = ("torch", "torchvision", "segment_anything")


def describe(spec: ModelSpec) -> ModelCard:
    """The card of a Segment Anything model."""
    return ModelCard(
        id=spec.id,
        family=spec.family,
        display_name=spec.display_name,
        description=spec.description,
        license=spec.license,
        subtasks=(Subtask.INSTANCE, Subtask.SEMANTIC),
        prompt_kinds=(PromptKind.BOX, PromptKind.POINTS),
        parameters_schema=Parameters.model_json_schema(by_alias=True),
    )


def load(spec: ModelSpec, resources: Resources) -> Segmenter:
    """The model on its device.

    Raises:
        WeightsUnusable: the weights are not there, can't be read, or are of another variant.
    """
    from worker.sam import segmenter  # noqa: PLC0415 (torch takes seconds and memory: only who needs it pays)

    return segmenter.load(spec, Options.model_validate(spec.options), resources)
