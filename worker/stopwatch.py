"""How long the stages of a job or an item took."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter


@dataclass(slots=True)
class Stopwatch:
    """Takes the time of stages, one after the other."""

    spent_ms: dict[str, float] = field(default_factory=dict)
    """By the name of the stage, in milliseconds."""

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Take the time of what is done within."""
        began = perf_counter()
        yield
        self.spent_ms[name] = round((perf_counter() - began) * 1000, 3)
