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
| unknown | votable block, its account's places taken, some by others | open | Expired for the newest of those |
| unknown | block, all places taken, some by contests | open | Expired for the oldest contest |
| open | another block | open | staged; NotOpened(forks_full), or Dropped for the least supported |
| open | final votes of 67 % | confirmed | Confirmed |
| open | REWEIGH_NS passed, and who has weight now can't reach 67 % of the frozen | open | as with the weights of now |
| open | ELECTION_LIFETIME_NS passed | unknown | Expired: offered again it opens with new weights |
| open | one of 1 % of all weight that was away is heard (hearing.py), and its vote could help | open | soon a nudge |
| open | what rests on its block was confirmed | confirmed | none |
| open | its block was rolled back with what it rests on | unknown | none |
| open | a rival of a candidate is confirmed elsewhere | open, or unknown if none is left | Lost, and what follows |
| confirmed | the ledger can't take its block by what holds now | unknown | none |
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
from xnode.core.hearing import Hearing
from xnode.core.rivalry import Rivalry
from xnode.core.steps import Step
from xnode.core.tally import Ballot, VoteOutcome
from xnode.core.values import NS, Address, Hash
from xnode.core.vote_effects import (
    CastVote,
    Confirmed,
    Effect,
    Equivocation,
    Expired,
    Lost,
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
REWEIGH_NS: Final = 10 * NS  # after which an election that its frozen weights keep from any decision takes those of now
SILENT_NS: Final = 10 * NS  # after which an undecided election is stuck, and who has not voted in it silent
SILENCES_MAX: Final = 100  # elections that are looked at for that
CONFIRMED_KEPT_MAX: Final = 10_000
LOST_KEPT_MAX: Final = 10_000  # blocks that can never be confirmed: votes for them are ignored
MISSED_SHARE: Final = 100  # who has less than this part of all weight hurries no election when he is back
FINALS_MAX: Final = 100_000  # own final votes at positions not confirmed yet; with more we give no new ones


class ElectionView(NamedTuple):
    """One open election as people see it: (block, support, final support) of each candidate, the applied one first;
    `rivals` want the step of one of them at positions of other chains."""

    position: Position
    opened_at: int
    total_weight: int
    candidates: tuple[tuple[Hash, int, int], ...]
    rivals: tuple[Hash, ...] = ()

    @property
    def is_contested(self) -> bool:
        """Whether only one of several blocks can be confirmed."""
        return len(self.candidates) > 1 or bool(self.rivals)


class Elections:
    """`own` is the representative account that this node votes for, or None; times in ns of a clock that only goes
    forward. `ignored` counts votes without effect by their outcome."""

    def __init__(self, own: Address | None) -> None:
        self._own = own
        self._open: dict[Position, Election] = {}
        self._of_account: dict[Address, dict[Position, None]] = {}  # in the order in which they opened
        self._contested: dict[Position, None] = {}
        self._confirmed: dict[Position, Confirmed] = {}
        self._finals: dict[Position, Hash] = {}
        self._step_finals: dict[Step, Hash] = {}
        self._rivalries: dict[Step, Rivalry] = {}
        self._lost: dict[Hash, None] = {}
        self._waiting = WaitingVotes()
        self._hearing = Hearing()
        self.ignored = dict.fromkeys(VoteOutcome, 0)
        self.reweighed = 0  # elections whose weights were frozen anew

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

    def restore_step(self, step: Step, block_hash: Hash) -> None:
        """Likewise: the block that a final vote on disk was for, which wants this step."""
        self._step_finals[step] = block_hash

    def restore_lost(self, block_hash: Hash) -> None:
        """Likewise: a block that we voted for finally and that has lost to a rival, so that the vote binds no more."""
        self._remember_lost(block_hash)

    def on_block(
        self,
        position: Position,
        block_hash: Hash,
        weights: Weights,
        now: int,
        *,
        is_votable: bool,
        step: Step | None = None,
    ) -> tuple[Effect, ...]:
        """A good block of this position is here, or a known one may now be voted for; `step` is the one that it wants.

        `weights` of now are used where the election is new. The first candidate stands as the applied one."""
        if position in self._confirmed:
            if self._confirmed[position].block_hash == block_hash:
                return ()
            return (NotOpened(position, block_hash, NoRoom.CONFIRMED),)
        if block_hash in self._lost:
            return (NotOpened(position, block_hash, NoRoom.CONFIRMED),)
        effects: list[Effect] = []
        election = self._open.get(position)
        if election is None:
            effects += self._make_room_in(position.account) if is_votable else []
            reason = self._no_room(position.account)
            if reason is not None:
                return (NotOpened(position, block_hash, reason),)
            effects += self._make_room()
            election = self._start(position, weights, now)
        rivalry = self._rivalry(step, election, now)
        has_room, dropped = election.add(block_hash, is_votable, rivalry)
        self._end_rivalries([rivalry] if rivalry is not None else [])
        if not has_room:
            return (NotOpened(position, block_hash, NoRoom.FORKS_FULL),)
        if dropped is not None:
            effects.append(dropped)
        if len(election.candidates) > 1:
            self._contested[position] = None
        for representative, ballot in self._waiting.take(position):
            effects += self._count(election, representative, ballot)
        return (*effects, *self._land(election.act(now, self._may_finalise()), now))

    def on_votes(self, bundle: VoteBundle, weights: Weights, now: int) -> tuple[Effect, ...]:
        """Votes whose signature is good. `weights` of now decide which votes are kept where no election is open.

        The role leaves out positions at or below the confirmed height: nobody waits for those."""
        effects: list[Effect] = []
        for vote in bundle.votes:
            if bundle.representative == self._own:
                effects += self._on_own_vote(bundle, vote, now)
            else:
                effects += self._on_vote(bundle, vote, weights, now)
        self._note_heard(bundle, weights, now)
        return tuple(effects)

    def _note_heard(self, bundle: VoteBundle, weights: Weights, now: int) -> None:
        """Hurries the elections that lack the vote of who is back, where it may be missed: everybody can have a little
        weight and be away as often as he likes, and each return costs a look at all elections."""
        who = bundle.representative
        is_missed = weights.of(who) * MISSED_SHARE >= weights.total > 0
        if who != self._own and is_missed and self._hearing.is_back(who, bundle.timestamp, now):
            for election in self._open.values():
                if election.lacks(who):
                    election.hurry(now)

    def on_confirmed(
        self, position: Position, block_hash: Hash, now: int, step: Step | None = None
    ) -> tuple[Effect, ...]:
        """The role has confirmed this block because one that rests on it is: the other candidates have lost."""
        if position in self._confirmed:
            return ()
        losers = tuple(item for item in self._candidates(position) if item != block_hash)
        decided = Confirmed(position, block_hash, losers, self._finals.get(position))
        effects = self._decide(decided, step, now)
        self._waiting.take(position)
        return (*(Lost(position, item, block_hash) for item in losers), *effects)

    def on_refused(self, decided: Confirmed, step: Step | None) -> None:
        """The ledger can't take the winner by what holds now: its position is open to it again, for when that changes.

        It has the word of 67 %, so that what it beat stays lost; our own final vote binds as before."""
        self._confirmed.pop(decided.position, None)
        if decided.own_final is None:
            return
        self._finals[decided.position] = decided.own_final
        if step is not None and decided.own_final == decided.block_hash:
            self._step_finals[step] = decided.own_final

    def on_undone(self, position: Position, block_hash: Hash) -> tuple[Hash, ...]:
        """This block was rolled back with what it rested on: its election, if it stands in one, ends undecided, so that
        it takes no place of its account's; returns the candidates."""
        if block_hash not in self._candidates(position):
            return ()
        return self._expire(self._open[position]).candidates

    def _candidates(self, position: Position) -> tuple[Hash, ...]:
        election = self._open.get(position)
        return () if election is None else tuple(election.candidates)

    def on_tick(self, now: int, weights: Weights | None = None) -> tuple[Effect, ...]:
        """Time has passed; to be called about twice a second. `weights` are those of now."""
        effects: list[Effect] = []
        if weights is not None:
            effects += self._reweigh(weights, now)
        for election in [one for one in self._open.values() if now >= one.opened_at + ELECTION_LIFETIME_NS]:
            effects.append(self._expire(election))
        due = [election for election in self._open.values() if election.needs_tick(now)]
        for election in due[:TICK_ELECTIONS_MAX]:
            if self._open.get(election.position) is not election:
                continue  # one before it has ended it
            self._open[election.position] = self._open.pop(election.position)  # to the end: each has its turn
            effects += self._land(election.tick(now, self._may_finalise()), now)
        wanted = self._waiting.tick(now)
        return (*effects, *(WantBlock(position, block_hash) for position, block_hash in wanted))

    def _reweigh(self, weights: Weights, now: int) -> list[Effect]:
        effects: list[Effect] = []
        old = [one for one in self._open.values() if now >= one.frozen_at + REWEIGH_NS]
        for election in old:
            if self._open.get(election.position) is election and election.is_out_of_reach(weights):
                election.reweigh(weights, now)
                self.reweighed += 1
                effects += self._land(election.act(now, self._may_finalise()), now)
        return effects

    def silence(self, now: int) -> tuple[int, frozenset[Address]]:
        """How many elections are stuck, and the representatives that have voted in none of these."""
        old = [one for one in self._open.values() if now >= one.opened_at + SILENT_NS]
        stuck = [silent for one in old[:SILENCES_MAX] if (silent := one.silent())]
        return len(stuck), frozenset(set.intersection(*stuck)) if stuck else frozenset()

    def answer(self, position: Position) -> CastVote | None:
        """Our vote as it stands, for a peer that asks; final ones of positions confirmed long ago are the role's."""
        if (done := self._confirmed.get(position)) is not None:
            return None if done.own_final is None else CastVote(position, done.own_final, is_final=True)
        election = self._open.get(position)
        return None if election is None else election.own_vote()

    def has_moved(self, representative: Address, position: Position) -> bool:
        """Whether its vote here, as far as we know, has moved to a rival at another position."""
        election = self._open.get(position)
        return election is not None and election.has_moved(representative)

    def views(self) -> Iterator[ElectionView]:
        """The open elections."""
        return map(_view, self._open.values())

    def _no_room(self, account: Address) -> NoRoom | None:
        if self._is_full(account):
            return NoRoom.ACCOUNT_FULL
        if len(self._open) >= ELECTIONS_MAX and not self._contested:
            return NoRoom.ELECTIONS_FULL
        return None

    def _is_full(self, account: Address) -> bool:
        return len(self._of_account.get(account, ())) >= ELECTIONS_PER_ACCOUNT_MAX

    def _make_room_in(self, account: Address) -> list[Expired]:
        """For a block that may be voted for: those that may not wait for it, so one of them makes way."""
        if not self._is_full(account):
            return []
        waiting = [one for one in self._of_account[account] if not any(self._open[one].candidates.values())]
        return [self._expire(self._open[waiting[-1]])] if waiting else []

    def _make_room(self) -> list[Expired]:
        if len(self._open) < ELECTIONS_MAX:
            return []
        return [self._expire(self._open[next(iter(self._contested))])]

    def _start(self, position: Position, weights: Weights, now: int) -> Election:
        election = Election(position, weights, self._own, self._finals.get(position), now)
        self._open[position] = election
        self._of_account.setdefault(position.account, {})[position] = None
        return election

    def _rivalry(self, step: Step | None, election: Election, now: int) -> Rivalry | None:
        """Where a block that wants this step meets its rivals, with the weights of the first one's election."""
        if step is None:
            return None
        if step not in self._rivalries:
            self._rivalries[step] = Rivalry(step, election.tally.weights, self._step_finals.get(step), now)
        return self._rivalries[step]

    def _end_rivalries(self, rivalries: Iterable[Rivalry]) -> None:
        for rivalry in rivalries:
            if not rivalry.candidates:
                self._rivalries.pop(rivalry.step, None)

    def _close(self, position: Position) -> None:
        self._end_rivalries(self._open.pop(position).close())
        self._contested.pop(position, None)
        left = self._of_account[position.account]
        del left[position]
        if not left:
            del self._of_account[position.account]

    def _expire(self, election: Election) -> Expired:
        self._close(election.position)
        return Expired(election.position, tuple(election.candidates))

    def _may_finalise(self) -> bool:
        return len(self._finals) < FINALS_MAX

    def _land(self, effects: Iterable[Effect], now: int) -> tuple[Effect, ...]:
        """Remembers our final vote and the decision that are among the effects, and adds what follows from it."""
        landed: list[Effect] = []
        for effect in effects:
            landed.append(effect)
            if isinstance(effect, CastVote) and effect.is_final:
                self._finals[effect.position] = effect.block_hash
                if effect.step is not None:
                    self._step_finals[effect.step] = effect.block_hash
            elif isinstance(effect, Confirmed):
                rivalry = self._open[effect.position].rivalries.get(effect.block_hash)
                landed += self._decide(effect, rivalry.step if rivalry is not None else None, now)
        return tuple(landed)

    def _decide(self, decided: Confirmed, step: Step | None, now: int) -> tuple[Effect, ...]:
        """Ends the election, frees what was bound to the losers, and takes the winner's rivals out of theirs."""
        rivalry = self._rivalries.get(step) if step is not None else None
        rivals = [] if rivalry is None else [one for one in rivalry.candidates.items() if one[0] != decided.block_hash]
        if decided.position in self._open:
            self._close(decided.position)
        self._confirmed[decided.position] = decided
        if len(self._confirmed) > CONFIRMED_KEPT_MAX:
            del self._confirmed[next(iter(self._confirmed))]
        own = (self._finals.pop(decided.position, None), self._step_finals.pop(step, None) if step else None)
        for loser in dict.fromkeys((*decided.losers, *own)):
            if loser not in (None, decided.block_hash):
                self._lose(loser)
        effects: list[Effect] = []
        for rival, wish in rivals:
            effects += [Lost(wish.position, rival, decided.block_hash), *self._leave(wish.position, rival, now)]
        return tuple(effects)

    def _leave(self, position: Position, rival: Hash, now: int) -> tuple[Effect, ...]:
        """The winner's step was what this one wanted too: its position is free for others."""
        self._lose(rival)
        election = self._open.get(position)
        if election is None:
            return ()
        self._end_rivalries(election.remove(rival))
        if election.candidates:
            return self._land(election.act(now, self._may_finalise()), now)
        self._close(position)
        return ()

    def _lose(self, loser: Hash) -> None:
        """It can never be confirmed, so that our final vote for it, if any, binds neither its position nor its step."""
        self._remember_lost(loser)
        for position in [one for one, bound in self._finals.items() if bound == loser]:
            del self._finals[position]
        for step in [one for one, bound in self._step_finals.items() if bound == loser]:
            del self._step_finals[step]
            if step in self._rivalries:
                self._rivalries[step].own_final = None

    def _remember_lost(self, block_hash: Hash) -> None:
        self._lost[block_hash] = None
        if len(self._lost) > LOST_KEPT_MAX:
            del self._lost[next(iter(self._lost))]

    def _count(self, election: Election, representative: Address, ballot: Ballot) -> tuple[Effect, ...]:
        if ballot.block_hash in self._lost:
            self.ignored[VoteOutcome.OLD] += 1
            return ()
        outcome, equivocation = election.count(representative, ballot)
        if outcome is not VoteOutcome.COUNTED:
            self.ignored[outcome] += 1
        return () if equivocation is None else (equivocation,)

    def _on_vote(self, bundle: VoteBundle, vote: Vote, weights: Weights, now: int) -> tuple[Effect, ...]:
        ballot = Ballot(vote.block_hash, vote.is_final, bundle.timestamp, now)
        if vote.position in self._confirmed or vote.block_hash in self._lost:
            self.ignored[VoteOutcome.OLD] += 1
            return ()
        election = self._open.get(vote.position)
        if election is not None:
            found = self._count(election, bundle.representative, ballot)
            return (*found, *self._land(election.act(now, self._may_finalise()), now))
        if weight := weights.of(bundle.representative):
            self._waiting.put(bundle.representative, weight, vote.position, ballot, now)
        else:
            self.ignored[VoteOutcome.NO_WEIGHT] += 1
        return ()

    def _on_own_vote(self, bundle: VoteBundle, vote: Vote, now: int) -> tuple[Effect, ...]:
        """A final vote of our own that peers know binds us, even where the disk has lost it."""
        if not vote.is_final or vote.block_hash in self._lost:
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
        return (to_disk, *self._land(election.act(now, self._may_finalise()), now))


def _view(election: Election) -> ElectionView:
    tally = election.tally
    counted = tuple((one, tally.support.get(one, 0), tally.finals.get(one, 0)) for one in election.candidates)
    wanting = {one for rivalry in election.rivalries.values() for one in rivalry.candidates}
    rivals = tuple(sorted(wanting - election.candidates.keys()))
    return ElectionView(election.position, election.opened_at, tally.weights.total, counted, rivals)
