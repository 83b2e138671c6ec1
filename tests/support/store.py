"""Stores for tests: a story in steps, and how to land it."""

from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from tests.support.ledger import MemoryLedger, make_genesis, play_all_types
from xnode.core.blocks import Block
from xnode.core.ledger import Context, Effects
from xnode.core.rules import judge
from xnode.core.values import Hash
from xnode.store.store import Store, WriteHook
from xnode.store.transaction import Transaction

GENESIS = make_genesis()
NOTES = "test"


class Step(NamedTuple):
    """What one transaction lands: blocks, notes to put, notes to delete."""

    blocks: tuple[Block, ...]
    puts: tuple[tuple[bytes, bytes], ...] = ()
    deletes: tuple[bytes, ...] = ()


@cache
def story_blocks() -> tuple[Block, ...]:
    """A short story with every block type, in order."""
    ledger = MemoryLedger(GENESIS)
    play_all_types(ledger)
    return tuple(ledger.blocks.values())


def story_steps() -> list[Step]:
    """The story in transactions of one block, of several, of notes only, and of both."""
    blocks = story_blocks()
    parts = [blocks[start:end] for start, end in pairwise((0, 1, 2, 3, 6, 7, 9, 10, 11, len(blocks)))]
    steps = [Step(part, ((b"last", bytes([number])),)) for number, part in enumerate(parts)]
    return [*steps[:4], Step((), ((b"only", b"note"),)), *steps[4:], Step((), (), (b"only",))]


def open_store(path: Path, on_write: WriteHook | None = None) -> Store:
    """The tests' network; every write is read back."""
    return Store.open(path / "store", GENESIS, on_write, reads_back=True)


def stage(transaction: Transaction, block: Block) -> Hash:
    """Judges by what the transaction sees and stages; the block must be good."""
    effects = judge(transaction, block, Context(GENESIS, None))
    assert isinstance(effects, Effects), effects
    transaction.stage(effects)
    return effects.block_hash


def land(store: Store, *blocks: Block) -> list[Hash]:
    """Lands good blocks, each in its own transaction."""
    hashes = []
    for block in blocks:
        with store.transaction() as transaction:
            hashes.append(stage(transaction, block))
            transaction.commit()
    return hashes


def land_step(store: Store, step: Step) -> None:
    """Lands a step in one transaction."""
    with store.transaction() as transaction:
        for block in step.blocks:
            stage(transaction, block)
        for key, value in step.puts:
            transaction.put_note(NOTES, key, value)
        for key in step.deletes:
            transaction.delete_note(NOTES, key)
        transaction.commit()
