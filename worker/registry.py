"""Which models this worker has: the catalog's entries, each with its family's file."""

import hashlib
import pkgutil
from collections.abc import Iterable, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import cast

import structlog
from pydantic import ValidationError

from maskline.catalog import ModelSpec
from maskline.plain_words import tell
from maskline.results import Endpoint, ModelCard
from maskline.settings import SettingsError
from worker import families
from worker.family import ModelFamily

logger = structlog.get_logger(module=__name__)


def family_names() -> set[str]:
    """The files of the folder ``worker/families``."""
    return {module.name for module in pkgutil.iter_modules(families.__path__)}


def load_family(name: str) -> ModelFamily:
    """A family by its name, imported on first use.

    Raises:
        ValueError: there is no such family.
        SettingsError: a package that it needs is not installed.
    """
    if name not in family_names():
        raise ValueError(f"family: there is no {name!r}; there are: {', '.join(sorted(family_names()))}")
    family = cast(ModelFamily, import_module(f"{families.__name__}.{name}"))
    absent = [package for package in family.PACKAGES if find_spec(package) is None]
    if absent:
        remedy = f"pip install 'maskline[{name}]'"
        raise SettingsError(f"the model family {name!r} needs {', '.join(absent)}; run: {remedy}")
    return family


def _card(spec: ModelSpec) -> ModelCard:
    try:
        family = load_family(spec.family)
        card = family.describe(spec)
    except ValueError as error:  # Pydantic's are of this kind
        told = tell(error, "options") if isinstance(error, ValidationError) else str(error)
        raise SettingsError(f"the catalog's entry {spec.id!r}: {told}") from error
    for endpoint in spec.endpoints:
        _check_endpoint(endpoint, card, family)
    return card.model_copy(
        update={"aliases": spec.aliases, "endpoints": spec.endpoints, "revision": _revision(spec)}
    )


def _revision(spec: ModelSpec) -> str:
    """Of all that a result depends on."""
    decisive = spec.model_dump_json(
        include={"family", "weights", "labels", "options"}, exclude={"options": {"device"}}
    )
    return hashlib.sha256(decisive.encode()).hexdigest()[:16]


def _check_endpoint(endpoint: Endpoint, card: ModelCard, family: ModelFamily) -> None:
    where = f"the catalog's entry {card.id!r}: endpoint {endpoint.id!r}"
    if endpoint.subtask is not None and endpoint.subtask not in card.subtasks:
        raise SettingsError(f"{where}: subtask: give one of {', '.join(card.subtasks)}")
    try:
        family.Parameters.model_validate(endpoint.parameters)
    except ValidationError as error:
        raise SettingsError(f"{where}: {tell(error, 'parameters')}") from error


def left_out(catalog: Mapping[str, ModelSpec]) -> dict[str, str]:
    """Why models can't be offered here, by their ids: a bad entry, or a package that is not installed."""
    reasons = {}
    for model, spec in catalog.items():
        try:
            _card(spec)
        except SettingsError as error:
            reasons[model] = str(error)
    return reasons


def _all_that_can_run(catalog: Mapping[str, ModelSpec]) -> tuple[str, ...]:
    reasons = left_out(catalog)
    for model, reason in reasons.items():
        logger.warning("model left out", model=model, reason=reason)
    return tuple(model for model in catalog if model not in reasons)


class Registry:
    """The models that a worker offers, by id."""

    def __init__(self, catalog: Mapping[str, ModelSpec], offered: Iterable[str] = ()) -> None:
        """``offered``: ids of the catalog; none: all whose family can run here.

        Raises:
            SettingsError: an id is not in the catalog, or its family does not exist or take its options.
        """
        chosen = tuple(offered) or _all_that_can_run(catalog)
        unknown = sorted(set(chosen) - set(catalog))
        if unknown:
            raise SettingsError(f"not in the catalog: {', '.join(unknown)}; it has: {', '.join(catalog)}")
        self.specs = {model: catalog[model] for model in chosen}
        self._cards = [_card(spec) for spec in self.specs.values()]
        self.families = {model: load_family(spec.family) for model, spec in self.specs.items()}

    def cards(self) -> list[ModelCard]:
        """The card of each model."""
        return self._cards
