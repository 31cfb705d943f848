"""What a key must have for each route: told in one place, so that no route is forgotten."""

from collections.abc import Callable
from functools import cache

from flask import Flask

from maskline.keys import Scope

_LOOKING = frozenset({"GET", "HEAD", "OPTIONS"})
_OPEN_ENDPOINTS = frozenset({"index", "service.get_document", "swagger_ui.show"})  # the documentation

NeededScope = Callable[[str, str], Scope | None]
"""Of an endpoint and a method: the scope; None where the route is open to all, without a key too."""


def scopes_of(app: Flask) -> NeededScope:
    """What each route of ``app`` needs.

    That is what its ``@operation`` says, else ``read`` to look and ``submit`` to do anything else.
    """

    @cache
    def needed(endpoint: str, method: str) -> Scope | None:
        described = getattr(app.view_functions[endpoint], "operation", None)
        if endpoint in _OPEN_ENDPOINTS or (described is not None and described.is_open):
            return None
        if described is not None and described.scope is not None:
            scope: Scope = described.scope
            return scope
        return Scope.READ if method in _LOOKING else Scope.SUBMIT

    return needed
