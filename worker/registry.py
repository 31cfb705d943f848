"""Which models this worker has: the catalog's entries, each with its family's file."""

import pkgutil
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import cast

from maskline.catalog import ModelSpec
from maskline.results import ModelCard
from maskline.settings import SettingsError
from worker import families
from worker.family import ModelFamily


def family_names() -> set[str]:
    """The files of the folder ``worker/families``."""
    return {module.name for module in pkgutil.iter_modules(families.__path__)}


def load_family(name: str) -> ModelFamily:
    """A family by its name, imported on first use.

    Raises:
        SettingsError: there is no such family.
    """
    if name not in family_names():
        raise SettingsError(
            f"there is no model family {name!r}; there are: {', '.join(sorted(family_names()))}"
        )
    return cast(ModelFamily, import_module(f"{families.__name__}.{name}"))


class Registry:
    """The models that a worker offers, by id."""

    def __init__(self, catalog: Mapping[str, ModelSpec], offered: Iterable[str] = ()) -> None:
        """``offered``: ids of the catalog; none: all of it.

        Raises:
            SettingsError: an id is not in the catalog, or its family does not exist.
        """
        chosen = tuple(offered) or tuple(catalog)
        unknown = sorted(set(chosen) - set(catalog))
        if unknown:
            raise SettingsError(f"not in the catalog: {', '.join(unknown)}; it has: {', '.join(catalog)}")
        self.specs = {model: catalog[model] for model in chosen}
        self.families = {model: load_family(spec.family) for model, spec in self.specs.items()}

    def cards(self) -> list[ModelCard]:
        """The card of each model."""
        return [self.families[model].describe(spec) for model, spec in self.specs.items()]
