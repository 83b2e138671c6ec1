"""All open elections of a node, bounded: events in, effects out (protocol section 8; one election is in election.py).

Theory of operation. The role tells what happens (`on_block`, `on_votes`, `on_tick`) and carries out the effects in
their order. A final vote must be on disk before it is sent and before the effects after it are carried out; at the
start all final votes on disk are given back by `restore_final`, so that a restarted node votes exactly as before. The
role offers a block once it is good, and lets it be voted for (`is_votable`) once everything that it rests on is
confirmed: its previous and the block that it refers to. So a confirmed block never rests on one that can still lose.

| position | event | next | effects |
|---|---|---|---|
| unknown | votes with weight | unknown | kept; after a while WantBlock |
| unknown | block, and there is room | open | what election.py says, with the votes that waited |
| unknown | block, and there is no room | unknown | NotOpened; the role offers it again later |
| unknown | block, all places taken, some by contests | open | Expired for the oldest contest |
| open | another block | open | staged; NotOpened(forks_full), or Dropped for the least supported |
| open | final votes of 67 % | confirmed | Confirmed |
| open | ELECTION_LIFETIME_NS passed | unknown | Expired: offered again it opens with new weights |
| open | what rests on its block was confirmed | confirmed | none |
| open | its block was rolled back with what it rests on | unknown | none |
| confirmed | another block | confirmed | NotOpened(confirmed) |
| confirmed | anything else | confirmed | none |

Confirmed positions are remembered for a while only: afterwards the role must not offer blocks at or below the confirmed
height. An account has at most ELECTIONS_PER_ACCOUNT_MAX open positions of FORKS_MAX blocks, so a flood of forks costs
its own account only, and a contest, which no honest account has, never keeps out another's block.
"""

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from xnode.core.election import Election
from xnode.core.faults import OperatorFault
from xnode.core.tally import Ballot, VoteOutcome
from xnode.core.values import NS, Address, Hash
from xnode.core.vote_effects import (
    CastVote,
    Confirmed,
    Effect,
    Equivocation,
    Expired,
    NoRoom,
    NotOpened,
    WantBlock,
)
from xnode.core.votes import Position, Vote, VoteBundle
from xnode.core.waiting import WaitingVotes
from xnode.core.weights import Weights

ELECTIONS_MAX: Final = 10_000
ELECTIONS_PER_ACCOUNT_MAX: Final = 16
ELECTION_LIFETIME_NS: Final = 300 * NS
TICK_ELECTIONS_MAX: Final = 1_000  # worked on in one tick; the others are worked on in the next
CONFIRMED_KEPT_MAX: Final = 10_000
FINALS_MAX: Final = 100_000  # own final votes at positions not confirmed yet; with more we give no new ones


class ElectionView(NamedTuple):
    """One open election as people see it: (block, support, final support) of each candidate, the applied one first."""

    position: Position
    opened_at: int
    total_weight: int
    candidates: tuple[tuple[Hash, int, int], ...]


class Elections:
    """`own` is the representative account that this node votes for, or None; times in ns of a clock that only goes
    forward. `ignored` counts votes without effect by their outcome."""

    def __init__(self, own: Address | None) -> None:
        self._own = own
        self._open: dict[Position, Election] = {}
        self._of_account: dict[Address, int] = {}
        self._contested: dict[Position, None] = {}
        self._confirmed: dict[Position, Confirmed] = {}
        self._finals: dict[Position, Hash] = {}
        self._waiting = WaitingVotes()
        self.ignored = dict.fromkeys(VoteOutcome, 0)

    def __len__(self) -> int:
        return len(self._open)

    @property
    def waiting(self) -> int:
        """How many votes wait for their block."""
        return len(self._waiting)

    def restore_final(self, position: Position, block_hash: Hash) -> None:
        """At the start, before any event: a final vote that is on disk, of a position not yet confirmed.

        Raises OperatorFault(conflicting_final_votes) for two that differ."""
        if self._finals.setdefault(position, block_hash) != block_hash:
            raise OperatorFault(
                "conflicting_final_votes",
                f"the data directory holds two final votes at one position of {position.account.hex()}: "
                "it is damaged or a mix of two; start with the right one",
            )

    def on_block(
        self, position: Position, block_hash: Hash, weights: Weights, now: int, *, is_votable: bool
    ) -> tuple[Effect, ...]:
        """A good block at its position, new or offered again; the first of a position must be the applied one.

        `weights` are those of now: they stay frozen in the election that this opens. `is_votable` says that all it
        rests on is confirmed; when that becomes so, the block is offered again.
        """
        if (done := self._confirmed.get(position)) is not None:
            return () if done.block_hash == block_hash else (NotOpened(position, block_hash, NoRoom.CONFIRMED),)
        effects: list[Effect] = []
        election = self._open.get(position)
        if election is None:
            reason = self._no_room(position.account)
            if reason is not None:
                return (NotOpened(position, block_hash, reason),)
            effects += self._make_room()
            election = self._start(position, weights, now)
        has_room, dropped = election.add(block_hash, is_votable)
        if not has_room:
            return (NotOpened(position, block_hash, NoRoom.FORKS_FULL),)
        if dropped is not None:
            effects.append(dropped)
        if election.is_contested:
            self._contested[position] = None
        for representative, ballot in self._waiting.take(position):
            effects += self._count(election, representative, ballot)
        return (*effects, *self._land(election.act(now, self._may_finalise())))

    def on_votes(self, bundle: VoteBundle, weights: Weights, now: int) -> tuple[Effect, ...]:
        """Votes whose signature is good. `weights` of now decide which votes are kept where no election is open.

        The role leaves out positions at or below the confirmed height: nobody waits for those."""
        effects: list[Effect] = []
        for vote in bundle.votes:
            if bundle.representative == self._own:
                effects += self._on_own_vote(bundle, vote, now)
            else:
                effects += self._on_vote(bundle, vote, weights, now)
        return tuple(effects)

    def on_confirmed(self, position: Position, block_hash: Hash) -> tuple[Hash, ...]:
        """The role has confirmed this block because one that rests on it is; returns the candidates that lost."""
        if position in self._confirmed:
            return ()
        losers = tuple(item for item in self.on_undone(position) if item != block_hash)
        self._waiting.take(position)
        self._remember(Confirmed(position, block_hash, losers, self._finals.get(position)))
        return losers

    def on_undone(self, position: Position) -> tuple[Hash, ...]:
        """The applied block of this position was rolled back with what it rested on: its election ends undecided, so
        that it takes no place of its account's; returns the candidates."""
        election = self._open.get(position)
        return () if election is None else self._expire(election).candidates

    def on_tick(self, now: int) -> tuple[Effect, ...]:
        """Time has passed; to be called about twice a second."""
        effects: list[Effect] = []
        for election in [one for one in self._open.values() if now >= one.opened_at + ELECTION_LIFETIME_NS]:
            effects.append(self._expire(election))
        due = [election for election in self._open.values() if election.needs_tick(now)]
        for election in due[:TICK_ELECTIONS_MAX]:
            self._open[election.position] = self._open.pop(election.position)  # to the end: each has its turn
            effects += self._land(election.tick(now, self._may_finalise()))
        wanted = self._waiting.tick(now)
        return (*effects, *(WantBlock(position, block_hash) for position, block_hash in wanted))

    def answer(self, position: Position) -> CastVote | None:
        """Our vote as it stands, for a peer that asks; final ones of positions confirmed long ago are the role's."""
        if (done := self._confirmed.get(position)) is not None:
            return None if done.own_final is None else CastVote(position, done.own_final, is_final=True)
        election = self._open.get(position)
        return None if election is None else election.own_vote()

    def views(self) -> Iterator[ElectionView]:
        """The open elections."""
        return map(_view, self._open.values())

    def _no_room(self, account: Address) -> NoRoom | None:
        if self._of_account.get(account, 0) >= ELECTIONS_PER_ACCOUNT_MAX:
            return NoRoom.ACCOUNT_FULL
        if len(self._open) >= ELECTIONS_MAX and not self._contested:
            return NoRoom.ELECTIONS_FULL
        return None

    def _make_room(self) -> list[Expired]:
        if len(self._open) < ELECTIONS_MAX:
            return []
        return [self._expire(self._open[next(iter(self._contested))])]

    def _start(self, position: Position, weights: Weights, now: int) -> Election:
        election = Election(position, weights, self._own, self._finals.get(position), now)
        self._open[position] = election
        self._of_account[position.account] = self._of_account.get(position.account, 0) + 1
        return election

    def _close(self, position: Position) -> None:
        del self._open[position]
        self._contested.pop(position, None)
        left = self._of_account.pop(position.account) - 1
        if left:
            self._of_account[position.account] = left

    def _expire(self, election: Election) -> Expired:
        self._close(election.position)
        return Expired(election.position, tuple(election.candidates))

    def _may_finalise(self) -> bool:
        return len(self._finals) < FINALS_MAX

    def _land(self, effects: Iterable[Effect]) -> tuple[Effect, ...]:
        """Remembers our final vote and the decision that are among the effects."""
        landed = tuple(effects)
        for effect in landed:
            if isinstance(effect, CastVote) and effect.is_final:
                self._finals[effect.position] = effect.block_hash
            elif isinstance(effect, Confirmed):
                self._close(effect.position)
                self._remember(effect)
        return landed

    def _remember(self, decided: Confirmed) -> None:
        self._finals.pop(decided.position, None)
        self._confirmed[decided.position] = decided
        if len(self._confirmed) > CONFIRMED_KEPT_MAX:
            del self._confirmed[next(iter(self._confirmed))]

    def _count(self, election: Election, representative: Address, ballot: Ballot) -> tuple[Effect, ...]:
        outcome, equivocation = election.count(representative, ballot)
        if outcome is not VoteOutcome.COUNTED:
            self.ignored[outcome] += 1
        return () if equivocation is None else (equivocation,)

    def _on_vote(self, bundle: VoteBundle, vote: Vote, weights: Weights, now: int) -> tuple[Effect, ...]:
        ballot = Ballot(vote.block_hash, vote.is_final, bundle.timestamp)
        if vote.position in self._confirmed:
            self.ignored[VoteOutcome.OLD] += 1
            return ()
        election = self._open.get(vote.position)
        if election is not None:
            found = self._count(election, bundle.representative, ballot)
            return (*found, *self._land(election.act(now, self._may_finalise())))
        if weight := weights.of(bundle.representative):
            self._waiting.put(bundle.representative, weight, vote.position, ballot, now)
        else:
            self.ignored[VoteOutcome.NO_WEIGHT] += 1
        return ()

    def _on_own_vote(self, bundle: VoteBundle, vote: Vote, now: int) -> tuple[Effect, ...]:
        """A final vote of our own that peers know binds us, even where the disk has lost it."""
        if not vote.is_final:
            return ()
        if (done := self._confirmed.get(vote.position)) is not None:
            known = done.own_final
        else:
            known = self._finals.get(vote.position)
        if known is None and done is None:
            return self._bind(vote, now)
        if known in (None, vote.block_hash):
            return ()
        return (Equivocation(bundle.representative, vote.position, known, vote.block_hash),)

    def _bind(self, vote: Vote, now: int) -> tuple[Effect, ...]:
        self._finals[vote.position] = vote.block_hash
        to_disk = CastVote(vote.position, vote.block_hash, is_final=True)
        election = self._open.get(vote.position)
        if election is None:
            return (to_disk,)
        election.bind(vote.block_hash)
        return (to_disk, *self._land(election.act(now, self._may_finalise())))


def _view(election: Election) -> ElectionView:
    tally = election.tally
    counted = tuple((one, tally.support.get(one, 0), tally.finals.get(one, 0)) for one in election.candidates)
    return ElectionView(election.position, election.opened_at, tally.weights.total, counted)
