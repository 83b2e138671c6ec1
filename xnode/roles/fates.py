"""What became of blocks that are not in the ledger: voted on, or rejected and why; for people, in memory, bounded."""

from typing import Final, NamedTuple

from xnode.core.blocks import Block, BlockType
from xnode.core.values import ZERO_HASH, Hash

REJECTED_MAX: Final = 1_000
REASONS: Final = {
    "fork_lost": "another block of its account was confirmed at its position",
    "rival_lost": "a block of another account was confirmed for its step of the lease",
    "rested_on_a_loser": "a block that it rests on was rejected",
}
LOST_STEPS: Final = {  # what the log of the lease says of a block that was taken back
    BlockType.LEASE: ("lease_lost", "the consumer spent the same money twice and this lease lost: no machine starts"),
    BlockType.LEASE_ACCEPT: ("accept_lost", "the acceptance was taken back: the stake is free, the lease goes on"),
    BlockType.LEASE_CANCEL: ("cancel_lost", "the cancellation was taken back: the money is in escrow again"),
    BlockType.LEASE_SETTLE: ("settle_lost", "the settlement was taken back"),
    BlockType.LEASE_FORCE_SETTLE: ("force_settle_lost", "the forced settlement was taken back"),
}


class Fate(NamedTuple):
    """A block that is not applied; `reason` is a word of REASONS, or "" while it is voted on; `winner` zeros then."""

    block: Block
    reason: str = ""
    winner: Hash = ZERO_HASH

    def describe(self) -> str:
        """One sentence; empty while it is voted on."""
        return f"{self.reason}: {REASONS[self.reason]}, {self.winner.hex()}" if self.reason else ""


class Fates:
    """The last rejected blocks. Written on the loop, read on any thread."""

    def __init__(self) -> None:
        self._rejected: dict[Hash, Fate] = {}

    def reject(self, block_hash: Hash, block: Block, reason: str, winner: Hash) -> None:
        """Remembers why; the first reason stays."""
        self._rejected.setdefault(block_hash, Fate(block, reason, winner))
        if len(self._rejected) > REJECTED_MAX:
            del self._rejected[next(iter(self._rejected))]

    def find(self, block_hash: Hash) -> Fate | None:
        """Why this block was rejected; None where it was not, or long ago."""
        return self._rejected.get(block_hash)


def lost_step(block: Block, block_hash: Hash) -> tuple[Hash, str, str] | None:
    """What to log of a block that was taken back: (lease, word, detail); None where no lease is touched."""
    if block.type not in LOST_STEPS:
        return None
    lease_hash = block_hash if block.type is BlockType.LEASE else Hash(getattr(block.body, "source", ZERO_HASH))
    return (lease_hash, *LOST_STEPS[block.type])
