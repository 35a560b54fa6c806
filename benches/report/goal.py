"""A goal, and how figures are found among what was measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from suites import Result

Results = dict[str, list[Result]]


@dataclass(frozen=True)
class Goal:
    """A figure, and what it should be: at least (or at most) the sure goal, if possible the stretch goal."""

    workload: str
    figure: str
    sure: float
    stretch: float
    value: Callable[[Results], float]
    most: bool = False

    def verdict(self, value: float) -> str:
        """Whether it is reached."""
        sign = -1 if self.most else 1
        if sign * value >= sign * self.stretch:
            return "yes" if self.sure == self.stretch else "yes, the stretch too"
        return "yes" if sign * value >= sign * self.sure else "**no**"


def rate(results: Results, suite: str, name: str, figure: str = "jobs/s", table: str | None = None) -> float:
    """A figure of a contender in a table of a suite: in the first one, unless it is named."""
    tables = (found for found in results[suite] if table in (None, found["table"]))
    row = next(row for row in next(tables)["rows"] if row["name"] == name)
    value: float = row["figures"][figure]
    return value


def ratio(suite: str, name: str, other: str, figure: str = "jobs/s") -> Callable[[Results], float]:
    """How many times the other one's figure."""
    return lambda results: rate(results, suite, name, figure) / rate(results, suite, other, figure)


def plain(suite: str, name: str, figure: str) -> Callable[[Results], float]:
    """The figure itself."""
    return lambda results: rate(results, suite, name, figure)
