"""The count of votes at one chain position, weighed by frozen weights (protocol section 8).

| counted so far | arrives | outcome |
|---|---|---|
| anything | a vote by nobody with weight | NO_WEIGHT |
| nothing | any vote | COUNTED |
| a non-final vote | a later non-final vote | COUNTED in its place |
| a non-final vote | a non-final vote not later | OLD |
| a non-final vote | a final vote | COUNTED in its place |
| a final vote | the same final vote, or a non-final one | OLD |
| a final vote | a final vote for another block | EQUIVOCATION |

A representative that has equivocated here leads nobody any more: no vote moves because of it, whichever of its votes
came first. But each of its final votes still counts, once, for the block that it names (if that is held), because
whether a block is confirmed must not hang on the order in which votes arrive: else one liar who shows each half of the
network another vote first could keep for ever from one half what the other half has confirmed. That is safe: two blocks
at 67 % each need 34 % that voted for both, in whatever order anyone counts.
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
    """The vote of one representative that counts now; `timestamp` in ns of its clock, `heard_at` in ns of ours."""

    block_hash: Hash
    is_final: bool
    timestamp: int
    heard_at: int = 0


class Tally:
    """`support` of a block is the weight of votes for it, equivocators left out; `finals` that of all final ones."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.ballots: dict[Address, Ballot] = {}
        self.support: dict[Hash, int] = {}
        self.finals: dict[Hash, int] = {}
        self._equivocators: dict[Address, set[Hash]] = {}  # -> what their final votes count for
        self._equivocal: dict[Hash, int] = {}  # the part of `finals` that is theirs

    def count(self, representative: Address, ballot: Ballot, held: Container[Hash]) -> VoteOutcome:
        """Counts one vote by the table above; `held` are the blocks that another final vote may count for."""
        weight = self.weights.of(representative)
        known = self.ballots.get(representative)
        if weight == 0:
            return VoteOutcome.NO_WEIGHT
        if known is not None and known.is_final:
            return self._count_again(representative, weight, known, ballot, held)
        if known is not None:
            if not ballot.is_final and ballot.timestamp <= known.timestamp:
                return VoteOutcome.OLD
            _add(self.support, known.block_hash, -weight)
        self.ballots[representative] = ballot
        _add(self.support, ballot.block_hash, weight)
        if ballot.is_final:
            _add(self.finals, ballot.block_hash, weight)
        return VoteOutcome.COUNTED

    def _count_again(
        self, representative: Address, weight: int, known: Ballot, ballot: Ballot, held: Container[Hash]
    ) -> VoteOutcome:
        counted = self._equivocators.get(representative, {known.block_hash})
        if not ballot.is_final or ballot.block_hash in counted:
            return VoteOutcome.OLD
        if representative not in self._equivocators:
            self._equivocators[representative] = counted
            _add(self.support, known.block_hash, -weight)
            _add(self._equivocal, known.block_hash, weight)
        if ballot.block_hash in held:
            counted.add(ballot.block_hash)
            _add(self.finals, ballot.block_hash, weight)
            _add(self._equivocal, ballot.block_hash, weight)
        return VoteOutcome.EQUIVOCATION

    def retract(self, representative: Address) -> None:
        """Its non-final vote counts no longer."""
        ballot = self.ballots.pop(representative)
        _add(self.support, ballot.block_hash, -self.weights.of(representative))

    def recount(self, weights: Weights, without: Hash | None = None) -> None:
        """Counts anew what has counted, by these weights, and as if no vote for `without` had ever come."""
        ballots, equivocators = self.ballots, self._equivocators
        self.weights, self.ballots, self.support, self.finals = weights, {}, {}, {}
        self._equivocators, self._equivocal = {}, {}
        for representative, ballot in ballots.items():
            blocks = sorted(equivocators.get(representative, {ballot.block_hash}) - {without})
            for block_hash in blocks:
                self.count(representative, ballot._replace(block_hash=block_hash), blocks)

    def quorum(self) -> Hash | None:
        """The block that 67 % vote for, the final votes of equivocators among them."""
        if not self._equivocal:
            return self._with_quorum(self.support)
        blocks = self.support.keys() | self._equivocal.keys()
        votes = {one: self.support.get(one, 0) + self._equivocal.get(one, 0) for one in sorted(blocks)}
        return self._with_quorum(votes)

    def is_said_since(self, block_hash: Hash, since: int, own: Address | None) -> bool:
        """Whether 67 % have voted for the block finally, or said so since then (ns of our clock).

        Whoever is cut off from us may have moved his vote long ago. Our `own` vote we know.
        """
        weight = self._equivocal.get(block_hash, 0)
        for representative, ballot in self.ballots.items():
            is_current = ballot.is_final or ballot.heard_at >= since or representative == own
            if is_current and ballot.block_hash == block_hash and representative not in self._equivocators:
                weight += self.weights.of(representative)
        return self.weights.is_quorum(weight)

    def winner(self) -> Hash | None:
        """The block that holds 67 % by final votes: it is confirmed."""
        return self._with_quorum(self.finals)

    def _with_quorum(self, weights: dict[Hash, int]) -> Hash | None:
        return next((block_hash for block_hash, weight in weights.items() if self.weights.is_quorum(weight)), None)

    def leader(self, candidates: Iterable[Hash]) -> Hash | None:
        """The candidate with most final votes, then with most support, ties to the lowest hash; equivocators left out.

        Final votes come first because they cannot follow the others: what they bind most weight to is most in reach.
        """
        bound: dict[Hash, int] = {}
        for representative, ballot in self.ballots.items():
            if ballot.is_final and representative not in self._equivocators:
                _add(bound, ballot.block_hash, self.weights.of(representative))
        return min(candidates, key=lambda one: (-bound.get(one, 0), -self.support.get(one, 0), one), default=None)

    def heaviest_missing(self, held: Container[Hash]) -> Hash | None:
        """The block with most votes that is not held: a confirmed one, else by support, ties to the lowest hash."""
        winner = self.winner()
        if winner is not None and winner not in held:
            return winner
        missing = [block_hash for block_hash in self.support if block_hash not in held]
        return min(missing, key=lambda block_hash: (-self.support[block_hash], block_hash), default=None)


def _add(weights: dict[Hash, int], block_hash: Hash, weight: int) -> None:
    total = weights.get(block_hash, 0) + weight
    if total:
        weights[block_hash] = total
    else:
        del weights[block_hash]
