"""Ratios on a noisy machine: the thing and its yardstick run in turns, and the median of the rounds' ratios counts."""

import time
from collections.abc import Callable
from statistics import quantiles
from typing import Final, NamedTuple

ROUNDS_MIN: Final = 15


class Ratio(NamedTuple):
    """Quartiles of the rounds' ratios."""

    low: float
    median: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


def seconds(act: Callable[[], object]) -> float:
    """How long one call takes by the wall clock."""
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


def rate_ratio(subject: Callable[[], object], yardstick: Callable[[], object], rounds: int = ROUNDS_MIN) -> Ratio:
    """The subject's speed as a share of the yardstick's, both doing the same amount of work in each call."""
    return ratio_of([seconds(yardstick) / seconds(subject) for _ in range(rounds)])


def ratio_of(ratios: list[float]) -> Ratio:
    """Quartiles of what was measured; at least two rounds."""
    low, middle, high = quantiles(ratios, n=4, method="inclusive")
    return Ratio(low, middle, high)
