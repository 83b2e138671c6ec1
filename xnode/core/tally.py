"""The count of votes at one chain position: one vote a representative, weighed by frozen weights (protocol section 8).

| counted so far | arrives | outcome |
|---|---|---|
| anything | a vote by nobody with weight | NO_WEIGHT |
| nothing | any vote | COUNTED |
| a non-final vote | a later non-final vote | COUNTED in its place |
| a non-final vote | a non-final vote not later | OLD |
| a non-final vote | a final vote | COUNTED in its place |
| a final vote | the same final vote, or a non-final one | OLD |
| a final vote | a final vote for another block | EQUIVOCATION: the first stays |
"""

from collections.abc import Container, Iterable
from enum import StrEnum
from typing import NamedTuple

from xnode.core.values import Address, Hash
from xnode.core.weights import Weights


class VoteOutcome(StrEnum):
    """What became of a vote; the words are stable."""

    COUNTED = "counted"
    OLD = "old"  # nothing new in it
    NO_WEIGHT = "no_weight"  # its representative weighs nothing here
    EQUIVOCATION = "equivocation"  # its representative has finally voted for another block


class Ballot(NamedTuple):
    """The vote of one representative that counts now; `timestamp` in ns."""

    block_hash: Hash
    is_final: bool
    timestamp: int


class Tally:
    """`support` of a block is the weight of all votes for it, `finals` that of the final ones."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.ballots: dict[Address, Ballot] = {}
        self.support: dict[Hash, int] = {}
        self.finals: dict[Hash, int] = {}

    def count(self, representative: Address, ballot: Ballot) -> VoteOutcome:
        """Counts one vote by the table above."""
        weight = self.weights.of(representative)
        known = self.ballots.get(representative)
        if weight == 0:
            return VoteOutcome.NO_WEIGHT
        if known is not None:
            if known.is_final:
                differs = ballot.is_final and ballot.block_hash != known.block_hash
                return VoteOutcome.EQUIVOCATION if differs else VoteOutcome.OLD
            if not ballot.is_final and ballot.timestamp <= known.timestamp:
                return VoteOutcome.OLD
            _add(self.support, known.block_hash, -weight)
        self.ballots[representative] = ballot
        _add(self.support, ballot.block_hash, weight)
        if ballot.is_final:
            _add(self.finals, ballot.block_hash, weight)
        return VoteOutcome.COUNTED

    def quorum(self) -> Hash | None:
        """The block that holds 67 % by votes of both kinds."""
        return self._with_quorum(self.support)

    def winner(self) -> Hash | None:
        """The block that holds 67 % by final votes: it is confirmed."""
        return self._with_quorum(self.finals)

    def _with_quorum(self, weights: dict[Hash, int]) -> Hash | None:
        return next((block_hash for block_hash, weight in weights.items() if self.weights.is_quorum(weight)), None)

    def leader(self, candidates: Iterable[Hash]) -> Hash | None:
        """The candidate with most support, ties to the lowest hash, among those that final votes for others have not
        put out of reach (among all where none is in reach)."""
        known = tuple(candidates)
        pool = [block_hash for block_hash in known if self._is_in_reach(block_hash)] or known
        return min(pool, key=lambda block_hash: (-self.support.get(block_hash, 0), block_hash), default=None)

    def _is_in_reach(self, block_hash: Hash) -> bool:
        against = sum(self.finals.values()) - self.finals.get(block_hash, 0)
        return self.weights.is_quorum(self.weights.total - against)

    def heaviest_missing(self, held: Container[Hash]) -> Hash | None:
        """The block with most support that is not held, ties to the lowest hash."""
        missing = (block_hash for block_hash in self.support if block_hash not in held)
        return min(missing, key=lambda block_hash: (-self.support[block_hash], block_hash), default=None)


def _add(weights: dict[Hash, int], block_hash: Hash, weight: int) -> None:
    total = weights.get(block_hash, 0) + weight
    if total:
        weights[block_hash] = total
    else:
        del weights[block_hash]
