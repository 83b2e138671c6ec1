"""Which of the buckets that differ an exact session asks a peer for, where it cannot ask for all: pure.

A session carries a bounded number of frontiers and blocks. What it brings may all wait for blocks of other buckets, so
that the same session would bring the same for ever. So each begins behind the buckets of the one before, until all that
differ had their turn: a round, after which the peer has told all it has. A session that was cut off before its end and
brought nothing that could be applied asked for too much: the other side took the first accounts of many. The next ones
ask for a quarter of the buckets each; once blocks are applied they ask for more again.
"""

from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

from xnode.net.streams import PeerId
from xnode.net.sync_ranges import BUCKETS

FEWER: Final = 4  # times
BUCKETS_MIN: Final = 16  # asked for in one session, if so many differ


class _Round(NamedTuple):
    start: int = 0  # the bucket from which on is asked
    most: int = BUCKETS
    told: frozenset[int] = frozenset()  # buckets of which the peer has sent what it had


class Rounds:
    """How far the round is with each peer."""

    def __init__(self) -> None:
        self._rounds: dict[PeerId, _Round] = {}

    def order(self, peer: PeerId, differing: Sequence[int]) -> list[int]:
        """The buckets to ask for now, most urgent first; as many of the first of them as one session can carry."""
        known = self._rounds.get(peer, _Round())
        rest = [bucket for bucket in differing if bucket not in known.told] or differing
        return sorted(rest, key=lambda bucket: (bucket < known.start, bucket))[: known.most]

    def is_whole(self, peer: PeerId, differing: Collection[int], asked: Collection[int]) -> bool:
        """Whether the peer has told of all buckets that differ once it has of those that it is asked for now."""
        return self._rounds.get(peer, _Round()).told.union(asked) >= set(differing)

    def on_end(self, peer: PeerId, asked: Sequence[int], is_whole: bool, is_last: bool, applied: int) -> None:
        """A session that asked for these, in this order, is over: `is_last` because the peer had no more of them."""
        known = self._rounds.get(peer, _Round())
        told = frozenset() if is_whole else known.told.union(asked)
        most = known.most
        if applied:
            most = min(BUCKETS, FEWER * most)
        elif not is_last:
            most = max(BUCKETS_MIN, min(most, len(asked)) // FEWER)
        self._rounds[peer] = _Round((asked[-1] + 1) % BUCKETS, most, told if is_last else known.told)

    def keep(self, peers: Collection[PeerId]) -> None:
        """Forgets all other peers."""
        if not self._rounds.keys() <= set(peers):
            self._rounds = {peer: known for peer, known in self._rounds.items() if peer in peers}
