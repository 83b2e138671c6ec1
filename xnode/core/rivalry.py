"""A rivalry: the blocks that want one step of one lease, each at a position of its own chain (protocol section 8).

Theory of operation. Each block stands in the election of its position, and where a step is wanted by more than one the
elections look here as well. A representative's votes for rivals count here as votes of one ballot: the latest non-final
one, or its final one. So a vote that moves from one position to the other leaves nothing behind that counts.

- A final vote for a block is one for its step too, and given once for each (election.py asks `own_final`).
- A block that does not lead here gets no vote of ours at its position, even where it stands alone there.
- Only a block that leads at its own position may lead here, so that two quarrels never wait for each other.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from xnode.core.steps import Step
from xnode.core.tally import Ballot, Tally, VoteOutcome
from xnode.core.values import NS, Address, Hash
from xnode.core.votes import Position
from xnode.core.weights import Weights

PAUSE_NS: Final = NS  # before the first move of a vote, doubled with each
PAUSE_MAX_NS: Final = 64 * NS
STANDING_PAUSES: Final = 4  # how long 67 % must have stood in a contest before our final vote


class Patience:
    """How long our vote stays before it moves, and how long 67 % must have stood; times in ns."""

    def __init__(self, now: int) -> None:
        self._moved_at = now
        self._pause = PAUSE_NS
        self._standing: tuple[Hash, int] | None = None  # what 67 % support, since when

    def may_move(self, now: int) -> bool:
        """Whether the pause is over."""
        return now >= self._moved_at + self._pause

    def note_first(self, now: int) -> None:
        """Our first vote was given now."""
        self._moved_at = now

    def note_move(self, now: int) -> None:
        """Our vote moves now; the next pause is twice as long."""
        self._moved_at = now
        self._pause = min(2 * self._pause, PAUSE_MAX_NS)

    def note_quorum(self, quorum: Hash | None, now: int) -> bool:
        """What 67 % support now; says whether that is news."""
        if quorum is None:
            self._standing = None
        elif self._standing is None or self._standing[0] != quorum:
            self._standing = (quorum, now)
            return True
        return False

    @property
    def has_standing(self) -> bool:
        """Whether 67 % support one block."""
        return self._standing is not None

    def stands(self, tally: Tally, own: Address | None, now: int, is_contested: bool) -> Hash | None:
        """What 67 % support; in a contest only once it has stood for so many pauses, and they have said so in these."""
        if self._standing is None:
            return None
        block_hash, since = self._standing
        if not is_contested:
            return block_hash
        begin = now - STANDING_PAUSES * self._pause
        return block_hash if since <= begin and tally.is_said_since(block_hash, begin, own) else None


class Wish(NamedTuple):
    """Where a candidate stands, and whether it leads there."""

    position: Position
    leads: Callable[[], bool]


class Rivalry:
    """Who wants a step. `own_final` is what our representative has finally voted for here, ever."""

    def __init__(self, step: Step, weights: Weights, own_final: Hash | None, now: int) -> None:
        self.step = step
        self.own_final = own_final
        self.tally = Tally(weights)
        self.patience = Patience(now)
        self.candidates: dict[Hash, Wish] = {}

    @property
    def is_contested(self) -> bool:
        """Whether more than one block wants this step."""
        return len(self.candidates) > 1

    def join(self, block_hash: Hash, position: Position, leads: Callable[[], bool]) -> None:
        """A block that wants this step; `leads` says whether it leads at its own position."""
        self.candidates[block_hash] = Wish(position, leads)

    def leave(self, block_hash: Hash) -> None:
        """It is no candidate any more, and its votes count no longer."""
        self.candidates.pop(block_hash, None)
        self.tally.recount(self.tally.weights, without=block_hash)

    def count(self, representative: Address, ballot: Ballot) -> VoteOutcome:
        """Counts a vote for one of the candidates."""
        return self.tally.count(representative, ballot, self.candidates)

    def retract(self, representative: Address, block_hash: Hash) -> None:
        """Its non-final vote for this block has moved to one that does not want this step."""
        known = self.tally.ballots.get(representative)
        if known is not None and known.block_hash == block_hash and not known.is_final:
            self.tally.retract(representative)

    def vote_of(self, representative: Address | None) -> Hash | None:
        """What its vote counts for here."""
        ballot = self.tally.ballots.get(representative) if representative is not None else None
        return None if ballot is None else ballot.block_hash

    def lets(self, block_hash: Hash) -> bool:
        """Whether our final vote here, if there is one, is for this block."""
        return self.own_final in (None, block_hash)

    def leader(self) -> Hash | None:
        """The candidate that leads, of those that lead at their own positions."""
        return self.tally.leader([block_hash for block_hash, wish in self.candidates.items() if wish.leads()])

    def note_quorum(self, now: int) -> None:
        """Notes what 67 % support here."""
        self.patience.note_quorum(self.tally.winner() or self.tally.quorum(), now)

    def sure_of(self, block_hash: Hash, own: Address | None, now: int) -> bool:
        """Whether nothing here speaks against our final vote for this block."""
        return not self.is_contested or self.patience.stands(self.tally, own, now, True) == block_hash
