"""What Google's clients can name: endpoints, each a model with defaults of its own, and the models.

Every model is an endpoint too. The clients take letters, digits, ``_`` and ``-`` in an id and no slash in any
part of a resource name, so a model's id is written with ``--`` for each slash and ``-`` for what else is not
taken; the model's own id, where it has no slash, is taken too.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import JsonValue

from api.services import Cards
from maskline.errors import ModelNotFound
from maskline.requests import Subtask
from maskline.results import ModelCard

VERSION = "1"  # models of a catalog have no versions
_VERSIONS = (VERSION, "default")


def resource_id(model: str) -> str:
    """A model's id as the last part of a resource name."""
    return re.sub(r"[^\w-]", "-", model.replace("/", "--"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Deployment:
    """An endpoint, and the model behind it."""

    id: str
    display_name: str
    card: ModelCard
    parameters: dict[str, JsonValue]
    """Of requests that give none."""
    subtask: Subtask | None = None


class Deployments:
    """The endpoints that there are."""

    def __init__(self, cards: Cards) -> None:
        """``cards``: of the models."""
        self._cards = cards

    def all(self) -> list[Deployment]:
        """Every endpoint, by id; a model's other names are not listed."""
        cards = self._cards.all()
        found = {one.id: one for one in (*map(_of_model, cards), *_named(cards))}
        return sorted(found.values(), key=lambda one: one.id)

    def find(self, name: str) -> Deployment:
        """The endpoint of this id.

        Raises:
            ModelNotFound: there is none.
        """
        known = next((one for one in _named(self._cards.all()) if one.id == name), None)
        return known or _of_model(self._card(name))

    def find_published(self, publisher: str, model: str) -> Deployment:
        """The endpoint of the model ``publisher/model`` or, if there is none, the endpoint ``model``.

        Raises:
            ModelNotFound: there is neither.
        """
        try:
            return _of_model(self._card(f"{publisher}/{_without_version(model)}"))
        except ModelNotFound:
            return self.find(_without_version(model))

    def models(self) -> list[ModelCard]:
        """Every model, by its id in resource names."""
        return sorted(self._cards.all(), key=lambda card: resource_id(card.id))

    def find_model(self, name: str) -> ModelCard:
        """The model of this id, which may end in ``@`` and a version.

        Raises:
            ModelNotFound: there is none.
        """
        return self._card(_without_version(name))

    def find_by_resource_name(self, name: str) -> Deployment:
        """The endpoint of a model: ``…/publishers/{publisher}/models/{model}`` as ``find_published`` has it,
        else ``…/models/{model}`` or the id alone as ``find_model``.

        Raises:
            ModelNotFound: there is none.
        """
        match name.split("/"):
            case [*_, "publishers", publisher, "models", model]:
                return self.find_published(publisher, model)
            case _:
                return _of_model(self.find_model(name.rpartition("/")[2]))

    def endpoints_of(self, card: ModelCard) -> list[Deployment]:
        """The endpoints of a model."""
        return [_of_model(card), *_named([card])]

    def _card(self, name: str) -> ModelCard:
        cards = self._cards.all()
        names = {resource_id(alias): card for card in cards for alias in card.aliases}
        names |= {resource_id(card.id): card for card in cards}
        return names.get(name) or self._cards.find(name)


def _of_model(card: ModelCard) -> Deployment:
    return Deployment(id=resource_id(card.id), display_name=card.display_name, card=card, parameters={})


def _named(cards: Iterable[ModelCard]) -> list[Deployment]:
    return [
        Deployment(
            id=endpoint.id,
            display_name=endpoint.display_name or card.display_name,
            card=card,
            parameters=endpoint.parameters,
            subtask=endpoint.subtask,
        )
        for card in cards
        for endpoint in card.endpoints
    ]


def _without_version(name: str) -> str:
    model, _, version = name.partition("@")
    if version and version not in _VERSIONS:
        raise ModelNotFound(f"the model {model!r} has no version {version!r}; it has the version {VERSION}")
    return model
