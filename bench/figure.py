"""A measured figure beside its target."""

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Literal

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """``better`` says which side of the target is good."""

    name: str
    measured: float
    target: float
    unit: str
    better: Literal["higher", "lower"]

    @property
    def is_met(self) -> bool:
        """Whether the target is reached."""
        return self.measured >= self.target if self.better == "higher" else self.measured <= self.target


def print_figures(figures: Iterable[Figure]) -> None:
    """A table on standard output."""
    table = Table("figure", "measured", "target", "met")
    for figure in figures:
        sign = "≥" if figure.better == "higher" else "≤"
        table.add_row(
            figure.name,
            f"{figure.measured:.3g} {figure.unit}",
            f"{sign} {figure.target:g} {figure.unit}",
            "yes" if figure.is_met else "NO",
        )
    Console(width=120).print(table)


def seconds(work: object, repeats: int = 7) -> float:
    """Median seconds of calling ``work``, after a first call that does not count."""
    assert callable(work)
    work()
    times = []
    for _ in range(repeats):
        began = perf_counter()
        work()
        times.append(perf_counter() - began)
    return median(times)


def ratio(slow: object, fast: object, repeats: int = 9) -> float:
    """Median, over pairs of runs, of how many times longer ``slow`` takes: machines drift, pairs do not."""
    assert callable(slow)
    assert callable(fast)
    ratios = []
    for _ in range(repeats):
        began = perf_counter()
        slow()
        middle = perf_counter()
        fast()
        ratios.append((middle - began) / (perf_counter() - middle))
    return median(ratios)
