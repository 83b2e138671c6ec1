"""Blocks that wait for another block (protocol section 4): bounded, the oldest leaves first, retried when what they
need arrives."""

from typing import Final

from xnode.core.blocks import Block
from xnode.core.values import Hash

HELD_MAX: Final = 10_000


class Held:
    """Blocks by what they need. `dropped` counts those that left because there were too many."""

    def __init__(self, held_max: int = HELD_MAX) -> None:
        self._held_max = held_max
        self._blocks: dict[Hash, tuple[Block, Hash]] = {}
        self._waiting: dict[Hash, dict[Hash, None]] = {}
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._blocks)

    def put(self, block_hash: Hash, block: Block, needs: Hash) -> None:
        """Keeps `block` until `needs` arrives; the one held longest leaves where there are too many."""
        self._remove(block_hash)
        if len(self._blocks) >= self._held_max:
            self._remove(next(iter(self._blocks)))
            self.dropped += 1
        self._blocks[block_hash] = (block, needs)
        self._waiting.setdefault(needs, {})[block_hash] = None

    def take(self, arrived: Hash) -> tuple[Block, ...]:
        """The blocks that waited for `arrived`, oldest first; they are held no longer."""
        hashes = tuple(self._waiting.get(arrived, ()))
        blocks = tuple(self._blocks[block_hash][0] for block_hash in hashes)
        for block_hash in hashes:
            self._remove(block_hash)
        return blocks

    def _remove(self, block_hash: Hash) -> None:
        entry = self._blocks.pop(block_hash, None)
        if entry is None:
            return
        waiting = self._waiting[entry[1]]
        del waiting[block_hash]
        if not waiting:
            del self._waiting[entry[1]]
