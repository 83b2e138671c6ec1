"""Whose turn it is: a few of many, others each time."""

from collections.abc import Sequence
from typing import TypeVar

Item = TypeVar("Item")


class Rotation:
    """One for each purpose: with a common one, two that alternate would each meet the same ones again and again."""

    def __init__(self) -> None:
        self._start = 0

    def next(self, items: Sequence[Item], count: int) -> list[Item]:
        """The next `count` of these, fewer where there are fewer."""
        start = self._start % max(1, len(items))
        self._start = start + count
        return [*items[start:], *items[:start]][:count]
