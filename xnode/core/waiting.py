"""Votes that came before their election: kept, bounded, until the block they name is here (protocol section 8).

One vote a representative and position, as the tally would count it. A representative that has too many loses its own
oldest, so that none pushes out the others' alone; where all are too many, the oldest position leaves with its votes.
"""

from typing import Final, NamedTuple

from xnode.core.tally import Ballot
from xnode.core.values import NS, Address, Hash
from xnode.core.votes import Position

VOTES_WAITING_MAX: Final = 20_000
VOTES_WAITING_EACH_MAX: Final = 1_000  # of one representative
WAITING_LIFETIME_NS: Final = 60 * NS
WANT_NS: Final = NS // 2  # a block is asked for after this time, most have come by themselves; doubled with each
WANTS_PER_TICK_MAX: Final = 64


class _Place(NamedTuple):
    """The votes waiting for one position, and when to ask for their block next; times in ns."""

    since: int
    ask_at: int
    ballots: dict[Address, tuple[Ballot, int]]  # with the weight of their representative


class WaitingVotes:
    """Votes by position. `dropped` counts those that left unused."""

    def __init__(self) -> None:
        self._places: dict[Position, _Place] = {}
        self._by_representative: dict[Address, dict[Position, None]] = {}
        self._count = 0
        self.dropped = 0

    def __len__(self) -> int:
        return self._count

    def put(self, representative: Address, weight: int, position: Position, ballot: Ballot, now: int) -> None:
        """Keeps a vote of a representative with weight; a final one, or a later one, takes the place of another."""
        theirs = self._by_representative.get(representative, {})
        if position in theirs:
            self._replace(representative, weight, position, ballot)
            return
        if len(theirs) >= VOTES_WAITING_EACH_MAX:
            self._remove(representative, next(iter(theirs)))
            self.dropped += 1
        if self._count >= VOTES_WAITING_MAX:
            self._drop(next(iter(self._places)))
        place = self._places.setdefault(position, _Place(now, now + WANT_NS, {}))
        place.ballots[representative] = (ballot, weight)
        self._by_representative.setdefault(representative, {})[position] = None
        self._count += 1

    def _replace(self, representative: Address, weight: int, position: Position, ballot: Ballot) -> None:
        ballots = self._places[position].ballots
        known, _ = ballots[representative]
        if not known.is_final and (ballot.is_final or ballot.timestamp > known.timestamp):
            ballots[representative] = (ballot, weight)

    def take(self, position: Position) -> tuple[tuple[Address, Ballot], ...]:
        """The votes that waited for this position; they wait no longer."""
        place = self._places.get(position)
        if place is None:
            return ()
        votes = tuple((representative, ballot) for representative, (ballot, _) in place.ballots.items())
        for representative, _ in votes:
            self._remove(representative, position)
        return votes

    def tick(self, now: int) -> list[tuple[Position, Hash]]:
        """Drops what has waited too long; the blocks to ask for now, of each position the one with most weight."""
        for position in [key for key, place in self._places.items() if now >= place.since + WAITING_LIFETIME_NS]:
            self._drop(position)
        due = [(key, place) for key, place in self._places.items() if now >= place.ask_at][:WANTS_PER_TICK_MAX]
        for position, place in due:
            self._places[position] = place._replace(ask_at=now + max(WANT_NS, now - place.since))
        return [(position, _heaviest(place)) for position, place in due]

    def _drop(self, position: Position) -> None:
        self.dropped += len(self.take(position))

    def _remove(self, representative: Address, position: Position) -> None:
        place, theirs = self._places[position], self._by_representative[representative]
        del place.ballots[representative], theirs[position]
        self._count -= 1
        if not place.ballots:
            del self._places[position]
        if not theirs:
            del self._by_representative[representative]


def _heaviest(place: _Place) -> Hash:
    support: dict[Hash, int] = {}
    for ballot, weight in place.ballots.values():
        support[ballot.block_hash] = support.get(ballot.block_hash, 0) + weight
    return min(support, key=lambda block_hash: (-support[block_hash], block_hash))
