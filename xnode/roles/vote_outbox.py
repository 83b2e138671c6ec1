"""Our own votes on their way out: in line until the next bundle, then signed, each bundle later than any before."""

from collections.abc import Callable, Sequence
from typing import Final

from xnode.core.genesis import Genesis
from xnode.core.keys import SigningKey
from xnode.core.values import Address
from xnode.core.vote_effects import CastVote
from xnode.core.votes import VOTES, Vote, VoteBundle, bundle_votes

OUTBOX_MAX: Final = 10_000  # votes waiting to be sent; what is over is said again at a nudge


class VoteOutbox:
    """Of one representative; the clock gives ns."""

    def __init__(self, key: SigningKey, genesis: Genesis, clock: Callable[[], int]) -> None:
        self._key = key
        self._own = Address(key.public_key)
        self._network_key = genesis.network_key
        self._clock = clock
        self._line: list[CastVote] = []
        self._said_at = 0

    def __len__(self) -> int:
        return len(self._line)

    def put(self, vote: CastVote) -> None:
        """A vote that moves from a rival must not stand beside the one before in a bundle: that is taken out."""
        if vote.step is not None:
            self._line = [one for one in self._line if one.is_final or one.step != vote.step]
        if len(self._line) < OUTBOX_MAX:
            self._line.append(vote)

    def take(self) -> list[CastVote]:
        """All that wait, which then wait no more."""
        votes, self._line = self._line, []
        return votes

    def sign(self, votes: Sequence[Vote]) -> tuple[bytes, ...]:
        """Wire forms of bundles with these votes."""
        return tuple(map(self._sign, bundle_votes(self._own, 0, votes)))

    def note_said(self, bundle: VoteBundle) -> None:
        """One of ours that peers know, of an earlier life, perhaps with a clock that was ahead: what we say from now on
        is later, or nobody would count it."""
        if bundle.representative == self._own:
            self._said_at = max(self._said_at, bundle.timestamp)

    def _sign(self, bundle: VoteBundle) -> bytes:
        self._said_at = max(self._clock(), self._said_at + 1)
        return VOTES.sign(self._network_key, self._key, bundle._replace(timestamp=self._said_at))


def within(wires: tuple[bytes, ...], bytes_max: int) -> tuple[bytes, ...]:
    """As many from the front as fit."""
    kept, size = 0, 0
    for wire in wires:
        size += len(wire)
        if size > bytes_max:
            break
        kept += 1
    return wires[:kept]
