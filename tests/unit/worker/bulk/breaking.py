"""Stores whose calls are broken off, one by one: before they are done, or after."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from maskline.errors import DependencyError


@dataclass
class Break:
    """Which call of some stores is broken off."""

    at: int
    after: bool = False
    names: frozenset[str] | None = None
    """Of the calls that count; None: all."""
    instead: Callable[[], object] | None = None
    """What happens then, in place of an error: the caller is frozen meanwhile."""
    seen: int = 0

    @property
    def has_come(self) -> bool:
        return self.seen >= self.at

    def strike(self, name: str) -> None:
        if self.instead is None:
            raise DependencyError(f"{name} was broken off")
        self.instead()


@dataclass
class Breaking:
    """A store as it is, but for one call."""

    store: Any
    plan: Break

    def __getattr__(self, name: str) -> Any:
        call = getattr(self.store, name)
        if not callable(call):
            return call

        def counted(*args: Any, **kwargs: Any) -> Any:
            self.plan.seen += self.plan.names is None or name in self.plan.names
            if self.plan.seen != self.plan.at:
                return call(*args, **kwargs)
            self.plan.seen += 1
            if not self.plan.after:
                self.plan.strike(name)
                return call(*args, **kwargs)
            try:
                return call(*args, **kwargs)
            finally:
                self.plan.strike(name)

        return counted
