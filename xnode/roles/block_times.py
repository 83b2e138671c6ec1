"""When a block went through each stage of voting at this node: for people and benchmarks, in memory, bounded."""

from collections.abc import Callable
from enum import StrEnum
from typing import Final

from xnode.core.values import Hash

BLOCKS_MAX: Final = 1_000


class Stage(StrEnum):
    """The stages in their order; a node without weight has no part in those of its own votes."""

    APPLIED = "applied"  # in the ledger
    VOTED = "voted"  # our first vote for it was given
    VOTE_SENT = "vote_sent"
    FINAL_VOTED = "final_voted"
    FINAL_SENT = "final_sent"  # it is on disk and handed to gossip
    CONFIRMED = "confirmed"  # on disk


class BlockTimes:
    """The first time (ns) of each stage, of the last blocks. Written on the loop, read on any thread."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._times: dict[Hash, dict[Stage, int]] = {}

    def note(self, block_hash: Hash, stage: Stage) -> None:
        """This block is there now."""
        times = self._times.get(block_hash)
        if times is None:
            times = self._times[block_hash] = {}
            if len(self._times) > BLOCKS_MAX:
                del self._times[next(iter(self._times))]
        times.setdefault(stage, self._clock())

    def find(self, block_hash: Hash) -> dict[Stage, int] | None:
        """What is remembered of a block."""
        times = self._times.get(block_hash)
        return None if times is None else dict(times)
