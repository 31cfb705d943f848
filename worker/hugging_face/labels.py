"""The classes of a model: from its catalog entry, or from the configuration beside its weights."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from maskline.catalog import ClassLabel, ModelSpec
from maskline.results import AnnotationSpec
from worker.colors import BACKGROUND, distinct_color

CONFIG = "config.json"


@dataclass(frozen=True, slots=True)
class Labels:
    """A model's classes, in the order of its head. A class's annotation spec has the next number as id."""

    classes: Sequence[ClassLabel]

    def annotation_specs(self) -> tuple[AnnotationSpec, ...]:
        """Background, then each class."""
        return (
            BACKGROUND,
            *(
                AnnotationSpec(id=i, display_name=label.name, color=label.color or distinct_color(i))
                for i, label in enumerate(self.classes, 1)
            ),
        )

    @property
    def stuff(self) -> frozenset[int]:
        """Indices of the classes that have no instances."""
        return frozenset(i for i, label in enumerate(self.classes) if label.stuff)


def labels_of(spec: ModelSpec) -> Labels | None:
    """The classes as the catalog tells of them, or the folder that it names; None if neither does."""
    if spec.labels is not None:
        return Labels(spec.classes())
    folder = spec.weights.path if spec.weights is not None else None
    return labels_in(folder.expanduser()) if folder is not None else None


def labels_in(folder: Path) -> Labels | None:
    """The classes that a model's ``config.json`` tells of, if it does."""
    try:
        names = json.loads((folder / CONFIG).read_text("utf-8")).get("id2label")
        ordered = sorted(names.items(), key=lambda item: int(item[0]))
        return Labels([ClassLabel(name=str(name).strip()) for _, name in ordered])
    except (OSError, ValueError, AttributeError):
        return None
