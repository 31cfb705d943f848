"""Semantic, instance and panoptic models that the ``transformers`` library loads."""

from functools import partial

from maskline.catalog import ModelSpec
from maskline.results import ModelCard
from worker.family import Resources, Segmenter, require_weights
from worker.hugging_face.labels import labels_of
from worker.hugging_face.parameters import Options, Parameters
from worker.torch_import import import_torch

__all__ = ["PACKAGES", "Parameters", "describe", "load"]

PACKAGES = ("torch", "torchvision", "scipy", "transformers")


def describe(spec: ModelSpec) -> ModelCard:
    """The card of a ``transformers`` model.

    Raises:
        ValueError: the entry names no weights.
        pydantic.ValidationError: its options are wrong.
    """
    require_weights(spec)
    labels = labels_of(spec)
    return ModelCard(
        id=spec.id,
        family=spec.family,
        display_name=spec.display_name,
        description=spec.description,
        license=spec.license,
        subtasks=Options.model_validate(spec.options).subtasks,
        annotation_specs=labels.annotation_specs() if labels else (),
        parameters_schema=Parameters.model_json_schema(by_alias=True),
    )


def load(spec: ModelSpec, resources: Resources) -> Segmenter:
    """The model on its device.

    Raises:
        WeightsUnusable: the weights are not there, can't be read, or are of a model that does not do this.
    """
    folder = import_torch(meanwhile=partial(resources.weights.verify, spec))
    from worker.hugging_face import segmenter  # noqa: PLC0415 (torch takes seconds and memory)

    return segmenter.load(spec, Options.model_validate(spec.options), resources, folder)
