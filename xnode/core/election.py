"""One position's election: which blocks stand, what we vote, when it is decided (protocol section 8).

Theory of operation. Safety rests on final votes alone: each honest representative gives one per position for ever, a
block is confirmed by 67 % of them, and two such sets share at least 34 %. Everything else serves progress:

- We vote for the first votable block at once, without a final flag.
- Once 67 % support one block by votes of either kind we give it our final vote. Where the account has signed more than
  one block (a contest), the 67 % must have stood for four pauses: by then all others see them too and nobody leaves.
- In a contest our non-final vote moves to the leader (see tally.py), on a tick only and after a pause that doubles with
  each move, so that sooner or later it is longer than the network's delays and all see the same leader.
- What may have been lost is said again at nudges, ever less often: our vote, a question for the others' votes, and for
  the block that votes name and we lack.

Nothing here lowers the bar, and an honest account, which never signs two blocks for one position, never waits.

| our ballot | event | next | effect |
|---|---|---|---|
| none | a votable candidate | non-final | CastVote(leader) |
| none, non-final | 67 % support a votable candidate (in a contest: for four pauses) | final | CastVote(final) |
| non-final | in a contest, a tick after the pause: another one leads | non-final | CastVote(leader) |
| none, non-final | final votes of 67 % for a votable candidate | final | CastVote(final), Confirmed |
| final | anything | final | never another |
| any | final votes of 67 % for a candidate | closed | Confirmed |
"""

from typing import Final

from xnode.core.tally import Ballot, Tally, VoteOutcome
from xnode.core.values import NS, Address, Hash
from xnode.core.vote_effects import CastVote, Confirmed, Dropped, Equivocation, WantBlock, WantVotes
from xnode.core.votes import Position
from xnode.core.weights import Weights

FORKS_MAX: Final = 10  # candidates at one position
PAUSE_NS: Final = NS  # before the first move of a vote, doubled with each
PAUSE_MAX_NS: Final = 64 * NS
STANDING_PAUSES: Final = 4  # how long 67 % must have stood in a contest before our final vote
NUDGE_NS: Final = NS  # before votes are sent and asked for again the first time, doubled with each
NUDGE_MAX_NS: Final = 32 * NS


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
        self.tally = Tally(weights)
        self.candidates: dict[Hash, bool] = {}  # in order of arrival -> whether we may vote for it
        self._own = own if own is not None and weights.of(own) else None
        self._own_final = own_final
        self._moved_at = now
        self._pause = PAUSE_NS
        self._standing: tuple[Hash, int] | None = None  # what 67 % support, since when
        self._nudge_wait = NUDGE_NS
        self._nudge_at = now + NUDGE_NS

    @property
    def is_contested(self) -> bool:
        """Whether the account has signed more than one block for this position."""
        return len(self.candidates) > 1

    def needs_tick(self, now: int) -> bool:
        """Whether `tick` could do anything."""
        return self.is_contested or now >= self._nudge_at

    def own_vote(self) -> CastVote | None:
        """What we vote now, to be said again to whoever asks."""
        ballot = self.tally.ballots.get(self._own) if self._own is not None else None
        return None if ballot is None else CastVote(self.position, ballot.block_hash, ballot.is_final)

    def add(self, block_hash: Hash, is_votable: bool) -> tuple[bool, Dropped | None]:
        """Takes a candidate, or learns that a known one may be voted for; says whether there was room, and who left.

        Where all places are taken, the one with least support leaves (ties: highest hash) if the new one has more;
        the first candidate, which is the one applied, and the one we vote for stay.
        """
        if block_hash in self.candidates or len(self.candidates) < FORKS_MAX:
            self.candidates[block_hash] = is_votable or self.candidates.get(block_hash, False)
            return True, None
        support = self.tally.support
        least = min(self._staged(), key=lambda staged: (support.get(staged, 0), -int.from_bytes(staged, "big")))
        if support.get(block_hash, 0) <= support.get(least, 0):
            return False, None
        del self.candidates[least]
        self.candidates[block_hash] = is_votable
        return True, Dropped(self.position, least)

    def _staged(self) -> list[Hash]:
        own = self.own_vote()
        _, *staged = self.candidates
        return [block_hash for block_hash in staged if own is None or own.block_hash != block_hash]

    def count(self, representative: Address, ballot: Ballot) -> tuple[VoteOutcome, Equivocation | None]:
        """Counts another's vote; `act` says what follows."""
        outcome = self.tally.count(representative, ballot, self.candidates)
        if outcome is not VoteOutcome.EQUIVOCATION:
            return outcome, None
        first = self.tally.ballots[representative].block_hash
        return outcome, Equivocation(representative, self.position, first, ballot.block_hash)

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
            return [*effects]
        return [*effects, *self._nudge(now)]

    def _votable(self) -> list[Hash]:
        return [block_hash for block_hash, is_votable in self.candidates.items() if is_votable]

    def _cast(self, block_hash: Hash, is_final: bool, now: int) -> CastVote:
        assert self._own is not None
        known = self.tally.ballots.get(self._own)
        timestamp = now if known is None else max(now, known.timestamp + 1)
        self.tally.count(self._own, Ballot(block_hash, is_final, timestamp), self.candidates)
        return CastVote(self.position, block_hash, is_final)

    def _vote_first(self, now: int) -> list[CastVote]:
        known = self.own_vote()
        if self._own is None or (known is not None and (known.is_final or self._own_final is None)):
            return []
        if self._own_final is not None:
            return [self._cast(self._own_final, True, now)]
        leader = self.tally.leader(self._votable())
        if leader is None:
            return []
        self._moved_at = now
        return [self._cast(leader, False, now)]

    def _move(self, now: int) -> list[CastVote]:
        known = self.own_vote()
        leader = self.tally.leader(self._votable())
        if known is None or known.is_final or leader in (None, known.block_hash) or now < self._moved_at + self._pause:
            return []
        assert leader is not None
        self._moved_at = now
        self._pause = min(2 * self._pause, PAUSE_MAX_NS)
        return [self._cast(leader, False, now)]

    def _note_standing(self, now: int) -> list[WantBlock]:
        quorum = self.tally.winner() or self.tally.quorum()
        if quorum is None:
            self._standing = None
        elif self._standing is None or self._standing[0] != quorum:
            self._standing = (quorum, now)
            if quorum not in self.candidates:
                return [WantBlock(self.position, quorum)]
        return []

    def _vote_finally(self, now: int) -> list[CastVote]:
        if self._own is None or self._own_final is not None:
            return []
        block_hash = self.tally.winner() or self._sure(now)
        if block_hash is None or not self.candidates.get(block_hash, False):
            return []
        self._own_final = block_hash
        return [self._cast(block_hash, True, now)]

    def _sure(self, now: int) -> Hash | None:
        if self._standing is None:
            return None
        block_hash, since = self._standing
        return block_hash if not self.is_contested or now >= since + STANDING_PAUSES * self._pause else None

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
