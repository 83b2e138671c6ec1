"""What elections want done, in order (protocol section 8): the role carries it out."""

from enum import StrEnum
from typing import NamedTuple

from xnode.core.steps import Step
from xnode.core.values import Address, Hash
from xnode.core.votes import Position


class CastVote(NamedTuple):
    """Send our vote. A final one must be on disk before it is sent and before any later effect is carried out, for its
    position and for the step that its block wants. A non-final one takes the place of one for a rival of its block."""

    position: Position
    block_hash: Hash
    is_final: bool
    step: Step | None = None


class Confirmed(NamedTuple):
    """The block is confirmed for ever; `losers` are the other candidates, to be rolled back or forgotten.

    `own_final` is the final vote of ours: where it is for a loser it stays on disk for ever, else the confirmed height
    says all and it may be deleted.
    """

    position: Position
    block_hash: Hash
    losers: tuple[Hash, ...]
    own_final: Hash | None


class Lost(NamedTuple):
    """A rival of this block is confirmed, at its position or for its step: it can never be, and is to be forgotten.

    A final vote of ours for it, if there is one, binds us no longer. `winner` is the rival.
    """

    position: Position
    block_hash: Hash
    winner: Hash


class WantBlock(NamedTuple):
    """Ask peers for a block that votes name and that is not a candidate (where the ledger has it: nothing to do)."""

    position: Position
    block_hash: Hash


class WantVotes(NamedTuple):
    """Ask peers for their votes at this position: ours are not enough and some may have been lost."""

    position: Position


class Equivocation(NamedTuple):
    """A representative has voted finally for two blocks at one position, or for one step."""

    representative: Address
    position: Position
    first: Hash
    second: Hash


class Dropped(NamedTuple):
    """This candidate made room for one with more support: it is no longer staged."""

    position: Position
    block_hash: Hash


class NoRoom(StrEnum):
    """Why a block got no place in an election; the words are stable."""

    CONFIRMED = "confirmed"  # another block is confirmed at its position, or has its step
    ELECTIONS_FULL = "elections_full"
    ACCOUNT_FULL = "account_full"
    FORKS_FULL = "forks_full"


class NotOpened(NamedTuple):
    """This block is not being voted on here."""

    position: Position
    block_hash: Hash
    reason: NoRoom


class Expired(NamedTuple):
    """The election ended without a decision; `candidates` in their order, the applied one first."""

    position: Position
    candidates: tuple[Hash, ...]


Effect = CastVote | Confirmed | Lost | WantBlock | WantVotes | Equivocation | Dropped | NotOpened | Expired
