"""Blocks that wait for another block (protocol section 4): bounded, the oldest leaves first, retried when what they
need arrives.

One nonce is work for all blocks of one position (an account and the block before), so each position is bounded too:
there the oldest of its own leaves. What left comes again by sync, or from whoever is asked for what votes name.
"""

from typing import Final, TypeVar

from xnode.core.blocks import Block
from xnode.core.values import Hash
from xnode.core.votes import Position

HELD_MAX: Final = 10_000
SIBLINGS_MAX: Final = 16  # of one position; elections stage no more than ten

_Group = TypeVar("_Group", Hash, Position)


class Held:
    """Blocks by what they need. `dropped` counts those that left because there were too many."""

    def __init__(self, held_max: int = HELD_MAX) -> None:
        self._held_max = held_max
        self._blocks: dict[Hash, tuple[Block, Hash]] = {}
        self._waiting: dict[Hash, dict[Hash, None]] = {}
        self._siblings: dict[Position, dict[Hash, None]] = {}
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._blocks)

    def put(self, block_hash: Hash, block: Block, needs: Hash) -> None:
        """Keeps `block` until `needs` arrives; the one held longest leaves where there are too many, first of all of
        its own position."""
        self._remove(block_hash)
        siblings = self._siblings.get(_position(block), {})
        if len(siblings) >= SIBLINGS_MAX:
            self._drop(next(iter(siblings)))
        elif len(self._blocks) >= self._held_max:
            self._drop(next(iter(self._blocks)))
        self._blocks[block_hash] = (block, needs)
        self._waiting.setdefault(needs, {})[block_hash] = None
        self._siblings.setdefault(_position(block), {})[block_hash] = None

    def take(self, arrived: Hash) -> tuple[Block, ...]:
        """The blocks that waited for `arrived`, oldest first; they are held no longer."""
        hashes = tuple(self._waiting.get(arrived, ()))
        blocks = tuple(self._blocks[block_hash][0] for block_hash in hashes)
        for block_hash in hashes:
            self._remove(block_hash)
        return blocks

    def _drop(self, block_hash: Hash) -> None:
        self._remove(block_hash)
        self.dropped += 1

    def _remove(self, block_hash: Hash) -> None:
        entry = self._blocks.pop(block_hash, None)
        if entry is None:
            return
        block, needs = entry
        _forget(self._waiting, needs, block_hash)
        _forget(self._siblings, _position(block), block_hash)


def _position(block: Block) -> Position:
    return Position(block.account, block.previous)


def _forget(groups: dict[_Group, dict[Hash, None]], group: _Group, block_hash: Hash) -> None:
    members = groups[group]
    del members[block_hash]
    if not members:
        del groups[group]
