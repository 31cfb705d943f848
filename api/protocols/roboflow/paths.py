"""Which paths are this protocol's: those of v1, and of two-part paths those that are nobody else's."""

import re

from flask import Request, current_app
from werkzeug.routing import BaseConverter, Map

DATASET = "dataset"
"""Name of the converter of ``dataset_converter``."""
V1_PARTS = frozenset({"clip", "infer", "info", "model", "sam", "sam2", "sam3"})
"""What the paths of v1 begin with."""
_OF_OTHERS = frozenset({"models", "v1", "v1beta1"})  # whatever routes there are under them


def dataset_converter(url_map: Map) -> type[BaseConverter]:
    """Of the first part of a model's id: anything but what the routes that there are begin with."""
    taken = "|".join(re.escape(part) for part in sorted(V1_PARTS | _taken(url_map)))

    class DatasetConverter(BaseConverter):
        part_isolating = True
        regex = rf"(?!(?:{taken})\Z)[^/]+"

    return DatasetConverter


def is_ours(request: Request) -> bool:
    """Whether a request is of Roboflow's clients, by its path."""
    parts = request.path[1:].split("/")
    return parts[0] in V1_PARTS or (len(parts) == 2 and parts[0] not in _taken(current_app.url_map))


def _taken(url_map: Map) -> frozenset[str]:
    return _OF_OTHERS | {rule.rule.split("/")[1] for rule in url_map.iter_rules()}
