"""One position's election: which blocks stand, what we vote, when it is decided (protocol section 8).

Theory of operation. Safety rests on final votes alone: each honest representative gives one per position for ever, a
block is confirmed by 67 % of them, and two such sets share at least 34 %. Everything else serves progress:

- We vote for the first votable block at once, without a final flag.
- Once 67 % support one block by votes of either kind we give it our final vote. Where the account has signed more than
  one block (a contest), the 67 % must have stood for four pauses: by then all others see them too and nobody leaves.
  And they must have said so within these pauses, for which each says its vote again while it sees 67 % stand: the vote
  of one who is cut off from us may have moved since, and final votes of two halves would never meet again.
- In a contest our non-final vote moves to the leader (see tally.py), on a tick only and after a pause that doubles with
  each move, so that sooner or later it is longer than the network's delays and all see the same leader.
- What may have been lost is said again at nudges, ever less often: our vote, a question for the others' votes, and for
  the block that votes name and we lack. Often again once somebody is heard who was away.
- A block that moves a lease wants a step of it too, and blocks of other chains may want the same one (rivalry.py).
  Our votes for such blocks are one vote that stands for one of them, and our final vote is given once for the position
  and once for the step. Where a rival is confirmed the others have lost for ever: they leave, and no vote for them
  binds.

Nothing here lowers the bar, and an honest account, which never signs two blocks for one position, never waits.

| our ballot | event | next | effect |
|---|---|---|---|
| none | a votable candidate | non-final | CastVote(leader) |
| none, non-final | 67 % for a votable candidate (contest: for four pauses, said in them) | final | CastVote(final) |
| non-final | in a contest, 67 % support a block: a tick each pause | non-final | CastVote, the same again |
| non-final | in a contest, a tick after the pause: another one leads | non-final | CastVote(leader) |
| none, non-final | final votes of 67 % for a votable candidate | final | CastVote(final), Confirmed |
| final | anything | final | never another |
| any | final votes of 67 % for a candidate | closed | Confirmed |
| any for a candidate | a rival of it is confirmed | none | what follows without it |
"""

from typing import Final

from xnode.core.rivalry import PAUSE_NS, Patience, Rivalry
from xnode.core.tally import Ballot, Tally, VoteOutcome
from xnode.core.values import NS, Address, Hash
from xnode.core.vote_effects import CastVote, Confirmed, Dropped, Equivocation, WantBlock, WantVotes
from xnode.core.votes import Position
from xnode.core.weights import Weights

FORKS_MAX: Final = 10  # candidates at one position
NUDGE_NS: Final = NS  # before votes are sent and asked for again the first time, doubled with each
NUDGE_MAX_NS: Final = 32 * NS
HURRY_EVERY_NS: Final = 15 * NS  # after a hurry for one who was back, before one for the next: four nudges


class Election:
    """The election at one position, opened at `now` with the weights of that moment.

    `own` is our representative account, or None; `own_final` what it has finally voted for here, ever. Times are
    in ns of a clock that only goes forward; it need not be the wall's.
    """

    def __init__(
        self, position: Position, weights: Weights, own: Address | None, own_final: Hash | None, now: int
    ) -> None:
        self.position = position
        self.opened_at = now
        self.frozen_at = now
        self.tally = Tally(weights)
        self.candidates: dict[Hash, bool] = {}  # in order of arrival -> whether we may vote for it
        self.rivalries: dict[Hash, Rivalry] = {}  # of the candidates that want a lease's step
        self._account = own
        self._own = own if own is not None and weights.of(own) else None
        self._own_final = own_final
        self._patience = Patience(now)
        self._nudge_wait = NUDGE_NS
        self._nudge_at = now + NUDGE_NS
        self._hurried_at: int | None = None
        self._said_at = now

    @property
    def is_contested(self) -> bool:
        """Whether more than one block wants this position, or the step of one that does."""
        return len(self.candidates) > 1 or any(rivalry.is_contested for rivalry in self.rivalries.values())

    def needs_tick(self, now: int) -> bool:
        """Whether `tick` could do anything."""
        return self.is_contested or now >= self._nudge_at

    def lacks(self, representative: Address) -> bool:
        """Whether its vote could help: none is here, or no final one where 67 % support one block."""
        if not self.tally.weights.of(representative):
            return False
        ballot = self.tally.ballots.get(representative)
        return ballot is None or (not ballot.is_final and self.tally.quorum() is not None)

    def hurry(self, now: int) -> None:
        """Who was away is back: what may have been lost meanwhile is said and asked again soon, once in a while."""
        if self._hurried_at is not None and now < self._hurried_at + HURRY_EVERY_NS:
            return
        self._hurried_at = now
        self._nudge_wait = NUDGE_NS
        self._nudge_at = min(self._nudge_at, now + NUDGE_NS)

    def own_vote(self) -> CastVote | None:
        """What we vote now, to be said again to whoever asks."""
        ballot = self._own_ballot()
        if ballot is None or not (ballot.is_final or self._is_current(ballot.block_hash)):
            return None
        return self._as_cast(ballot.block_hash, ballot.is_final)

    def has_moved(self, representative: Address) -> bool:
        """Whether its vote has moved to a rival at another position; a final one never does."""
        ballot = self.tally.ballots.get(representative)
        if ballot is None or ballot.is_final or ballot.block_hash not in self.rivalries:
            return False
        return self.rivalries[ballot.block_hash].vote_of(representative) not in (None, ballot.block_hash)

    def add(self, block_hash: Hash, is_votable: bool, rivalry: Rivalry | None = None) -> tuple[bool, Dropped | None]:
        """Takes a candidate, or learns that a known one may be voted for; says whether there was room, and who left.

        Where all places are taken, the one with least support leaves (ties: highest hash) if the new one has more;
        the first candidate, which is the one applied, and the one we vote for stay.
        """
        if block_hash in self.candidates or len(self.candidates) < FORKS_MAX:
            self._put(block_hash, is_votable or self.candidates.get(block_hash, False), rivalry)
            return True, None
        support = self.tally.support
        least = min(self._staged(), key=lambda staged: (support.get(staged, 0), -int.from_bytes(staged, "big")))
        if support.get(block_hash, 0) <= support.get(least, 0):
            return False, None
        del self.candidates[least]
        self._leave(least)
        self._put(block_hash, is_votable, rivalry)
        return True, Dropped(self.position, least)

    def _put(self, block_hash: Hash, is_votable: bool, rivalry: Rivalry | None) -> None:
        self.candidates[block_hash] = is_votable
        if rivalry is None or block_hash in self.rivalries:
            return
        self.rivalries[block_hash] = rivalry
        rivalry.join(block_hash, self.position, lambda: self.tally.leader(self._votable()) == block_hash)
        for representative, ballot in self.tally.ballots.items():
            if ballot.block_hash == block_hash:
                rivalry.count(representative, ballot)

    def _leave(self, block_hash: Hash) -> list[Rivalry]:
        rivalry = self.rivalries.pop(block_hash, None)
        if rivalry is None:
            return []
        rivalry.leave(block_hash)
        return [rivalry]

    def _staged(self) -> list[Hash]:
        own = self.own_vote()
        _, *staged = self.candidates
        return [block_hash for block_hash in staged if own is None or own.block_hash != block_hash]

    def is_out_of_reach(self, weights: Weights) -> bool:
        """Whether those who have weight now (`weights`) could no longer make up 67 % of the frozen one, even all
        together: then waiting for them is in vain."""
        frozen = self.tally.weights
        left = sum(min(units, weights.of(address)) for address, units in frozen.by_representative.items())
        return not frozen.is_quorum(left)

    def reweigh(self, weights: Weights, now: int) -> None:
        """Freezes these weights instead and counts all votes anew; our own final vote stays what it is."""
        self.frozen_at = now
        self._own = self._account if self._account is not None and weights.of(self._account) else None
        for tally in (self.tally, *(rivalry.tally for rivalry in self.rivalries.values())):
            tally.recount(weights)

    def silent(self) -> set[Address]:
        """Who has weight here and has not voted, where there is something to vote for."""
        if not self._votable():
            return set()
        return set(self.tally.weights.by_representative.keys() - self.tally.ballots.keys())

    def close(self) -> list[Rivalry]:
        """It is over: its candidates are nobody's rivals any more; returns the rivalries that they have left."""
        return [rivalry for block_hash in tuple(self.rivalries) for rivalry in self._leave(block_hash)]

    def remove(self, block_hash: Hash) -> list[Rivalry]:
        """A rival of this candidate is confirmed: it can never win, and what was voted for it binds nobody."""
        self.candidates.pop(block_hash, None)
        self.tally.recount(self.tally.weights, without=block_hash)
        if self._own_final == block_hash:
            self._own_final = None
        return self._leave(block_hash)

    def count(self, representative: Address, ballot: Ballot) -> tuple[VoteOutcome, Equivocation | None]:
        """Counts another's vote; `act` says what follows."""
        known = self.tally.ballots.get(representative)
        outcome = self.tally.count(representative, ballot, self.candidates)
        elsewhere = self._count_in_rivalry(representative, known, ballot, outcome)
        for tally, found in ((self.tally, outcome), elsewhere):
            if found is VoteOutcome.EQUIVOCATION:
                first = tally.ballots[representative].block_hash
                return found, Equivocation(representative, self.position, first, ballot.block_hash)
        return outcome, None

    def _count_in_rivalry(
        self, representative: Address, known: Ballot | None, ballot: Ballot, outcome: VoteOutcome
    ) -> tuple[Tally, VoteOutcome]:
        if outcome is VoteOutcome.COUNTED and known is not None and known.block_hash != ballot.block_hash:
            left = self.rivalries.get(known.block_hash)
            if left is not None:
                left.retract(representative, known.block_hash)
        rivalry = self.rivalries.get(ballot.block_hash)
        if rivalry is None:
            return self.tally, VoteOutcome.OLD
        return rivalry.tally, rivalry.count(representative, ballot)

    def bind(self, block_hash: Hash) -> None:
        """Our own final vote has come back to us and we had forgotten it: it is ours again."""
        self._own_final = block_hash

    def act(self, now: int, may_finalise: bool) -> list[CastVote | Confirmed | WantBlock]:
        """What follows from all that is known; without `may_finalise` no final vote is given."""
        effects: list[CastVote | Confirmed | WantBlock] = [*self._vote_first(now), *self._note_standing(now)]
        if may_finalise:
            effects += self._vote_finally(now)
        return effects + self._confirm()

    def tick(self, now: int, may_finalise: bool) -> list[CastVote | Confirmed | WantBlock | WantVotes]:
        """`act`, with a move to the leader before it and a nudge after it where they are due."""
        effects = [*self._move(now), *self.act(now, may_finalise)]
        if now < self._nudge_at or self.tally.winner() in self.candidates:
            return [*effects, *self._say_again(now)]
        self._said_at = now
        return [*effects, *self._nudge(now)]

    def _say_again(self, now: int) -> list[CastVote]:
        """While 67 % stand in a contest, others must hear that our vote has not moved meanwhile."""
        vote, patiences = self.own_vote(), [self._patience, *(one.patience for one in self.rivalries.values())]
        is_asked = self.is_contested and any(patience.has_standing for patience in patiences)
        if vote is None or vote.is_final or not is_asked or now < self._said_at + PAUSE_NS:
            return []
        self._said_at = now
        return [vote]

    def _own_ballot(self) -> Ballot | None:
        return self.tally.ballots.get(self._own) if self._own is not None else None

    def _is_current(self, block_hash: Hash) -> bool:
        """Whether our vote for this block has not moved to a rival of it at another position."""
        rivalry = self.rivalries.get(block_hash)
        return rivalry is None or rivalry.vote_of(self._own) in (None, block_hash)

    def _votable(self) -> list[Hash]:
        return [block_hash for block_hash, is_votable in self.candidates.items() if is_votable]

    def _as_cast(self, block_hash: Hash, is_final: bool) -> CastVote:
        rivalry = self.rivalries.get(block_hash)
        return CastVote(self.position, block_hash, is_final, rivalry.step if rivalry is not None else None)

    def _cast(self, block_hash: Hash, is_final: bool, now: int) -> CastVote:
        assert self._own is not None
        rivalry = self.rivalries.get(block_hash)
        tallies = [self.tally, *([rivalry.tally] if rivalry is not None else [])]
        known = [tally.ballots[self._own].timestamp + 1 for tally in tallies if self._own in tally.ballots]
        self.count(self._own, Ballot(block_hash, is_final, max(now, *known) if known else now, now))
        return self._as_cast(block_hash, is_final)

    def _vote_first(self, now: int) -> list[CastVote]:
        known = self._own_ballot()
        if self._own is None or (known is not None and (known.is_final or self._own_final is None)):
            return []
        if self._own_final is not None:
            return [self._cast(self._own_final, True, now)]
        leader = self.tally.leader([block_hash for block_hash in self._votable() if self._is_first(block_hash)])
        if leader is None:
            return []
        for patience in self._patiences(leader):
            patience.note_first(now)
        return [self._cast(leader, False, now)]

    def _is_first(self, block_hash: Hash) -> bool:
        """Whether we have voted for no rival of this block either, nor are bound to one: else only a move may do it."""
        rivalry = self.rivalries.get(block_hash)
        return rivalry is None or (rivalry.vote_of(self._own) is None and rivalry.lets(block_hash))

    def _patiences(self, block_hash: Hash) -> list[Patience]:
        rivalry = self.rivalries.get(block_hash)
        return [self._patience] if rivalry is None else [self._patience, rivalry.patience]

    def _preferred(self) -> Hash | None:
        """The leader here, unless a rival of it leads elsewhere: then the one that leads of those without a rival."""
        free = [one for one in self._votable() if one not in self.rivalries or self.rivalries[one].lets(one)]
        leader = self.tally.leader(free)
        if leader not in self.rivalries or self.rivalries[leader].leader() in (None, leader):
            return leader
        return self.tally.leader([one for one in free if one not in self.rivalries])

    def _move(self, now: int) -> list[CastVote]:
        known, leader = self._own_ballot(), self._preferred()
        if self._own is None or self._own_final is not None or leader is None or (known is not None and known.is_final):
            return []
        if known is None and self._is_first(leader):
            return []  # that is no move; `act` gives first votes
        if known is not None and known.block_hash == leader and self._is_current(leader):
            return []
        patiences = self._patiences(leader)
        if not all(patience.may_move(now) for patience in patiences):
            return []
        for patience in patiences:
            patience.note_move(now)
        return [self._cast(leader, False, now)]

    def _note_standing(self, now: int) -> list[WantBlock]:
        for rivalry in self.rivalries.values():
            rivalry.note_quorum(now)
        quorum = self.tally.winner() or self.tally.quorum()
        is_news = self._patience.note_quorum(quorum, now)
        return [WantBlock(self.position, quorum)] if is_news and quorum and quorum not in self.candidates else []

    def _vote_finally(self, now: int) -> list[CastVote]:
        if self._own is None or self._own_final is not None:
            return []
        block_hash = self.tally.winner() or self._sure(now)
        if block_hash is None or not self.candidates.get(block_hash, False):
            return []
        rivalry = self.rivalries.get(block_hash)
        if rivalry is not None:
            if not rivalry.lets(block_hash):
                return []
            rivalry.own_final = block_hash
        self._own_final = block_hash
        return [self._cast(block_hash, True, now)]

    def _sure(self, now: int) -> Hash | None:
        block_hash = self._patience.stands(self.tally, self._own, now, len(self.candidates) > 1)
        rivalry = self.rivalries.get(block_hash) if block_hash is not None else None
        if block_hash is None or rivalry is None or rivalry.sure_of(block_hash, self._own, now):
            return block_hash
        return None

    def _confirm(self) -> list[Confirmed]:
        winner = self.tally.winner()
        if winner is None or winner not in self.candidates:
            return []
        losers = tuple(block_hash for block_hash in self.candidates if block_hash != winner)
        return [Confirmed(self.position, winner, losers, self._own_final)]

    def _nudge(self, now: int) -> list[CastVote | WantBlock | WantVotes]:
        self._nudge_wait = min(2 * self._nudge_wait, NUDGE_MAX_NS)
        self._nudge_at = now + self._nudge_wait
        effects: list[CastVote | WantBlock | WantVotes] = [WantVotes(self.position)]
        if (vote := self.own_vote()) is not None:
            effects.append(vote)
        if (missing := self.tally.heaviest_missing(self.candidates)) is not None:
            effects.append(WantBlock(self.position, missing))
        return effects
