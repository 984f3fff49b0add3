"""What a script measures: each contestant in turn, and the medians of all rounds.

The floor is among them, and there are as many rounds as ``--rounds`` says, so that a slow moment of
the machine meets all of them.
"""

from __future__ import annotations

import math
import random
import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

from rich.console import Console

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

FLOOR: Final = "floor"
"""The contestant that does the least that can be done; the others are compared with it."""

SYNK: Final = "synk"


@dataclass
class Figure:
    """One quantity of one contestant: a value for each repetition."""

    quantity: str
    """With its unit, as in ``drain, jobs/s``."""
    of: str
    values: list[float] = field(default_factory=list[float])

    @property
    def median(self) -> float:
        return statistics.median(self.values)


@dataclass
class Results:
    """All that a script has measured."""

    figures: dict[tuple[str, str], Figure] = field(default_factory=dict[tuple[str, str], Figure])
    samples: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    """Single values behind a percentile, to be drawn as a distribution."""
    facts: dict[str, object] = field(default_factory=dict[str, object])
    """About what was measured: versions, settings."""

    def add(self, of: str, values: Mapping[str, float]) -> None:
        for quantity, number in values.items():
            self.figures.setdefault((quantity, of), Figure(quantity, of)).values.append(number)

    def ratios(self, figure: Figure, to: str = FLOOR) -> list[float]:
        """Of each repetition to the contestant *to* in the same one; empty: there is none."""
        other = self.figures.get((figure.quantity, to))
        if other is None or other is figure:
            return []
        pairs = zip(figure.values, other.values, strict=False)
        return [mine / theirs for mine, theirs in pairs if theirs]


Contestants: TypeAlias = "Mapping[str, Callable[[], Mapping[str, float]]]"
"""Name -> a measurement, which gives a value for each quantity."""


def interleaved(contestants: Contestants, rounds: int, results: Results | None = None) -> Results:
    """Measures all in turn, *rounds* times, each time in another order.

    What a server does in the background falls on whoever comes next: nobody is always first.
    """
    found = Results() if results is None else results
    with Console(stderr=True).status("") as status:
        for number in range(rounds):
            for name in random.Random(number).sample(list(contestants), len(contestants)):
                status.update(f"round {number + 1} of {rounds}: {name}")
                found.add(name, contestants[name]())
    return found


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that *share* of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def spread_of(name: str, values_ms: Sequence[float]) -> dict[str, float]:
    """The three figures that say how long something takes."""
    return {
        f"{name}: p50, ms": percentile(values_ms, 0.5),
        f"{name}: p99, ms": percentile(values_ms, 0.99),
        f"{name}: max, ms": max(values_ms),
    }
