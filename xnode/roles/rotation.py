"""Whom to ask next: a few of the connected peers, others each time."""

from collections.abc import Sequence

from xnode.net.streams import PeerId


class Rotation:
    """One for each kind of question: with a common one, two kinds that alternate would each meet the same peers."""

    def __init__(self) -> None:
        self._start = 0

    def next(self, peers: Sequence[PeerId], count: int) -> list[PeerId]:
        """The next `count` of these peers, fewer where there are fewer."""
        start = self._start % max(1, len(peers))
        self._start = start + count
        return [*peers[start:], *peers[:start]][:count]
