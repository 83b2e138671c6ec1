"""Stores for tests: a story in steps, and how to land it."""

from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from tests.support.ledger import MemoryLedger, make_genesis, play_all_types
from xnode.core.blocks import Block, block_hash
from xnode.core.ledger import Context, Effects
from xnode.core.rules import judge
from xnode.core.values import Hash
from xnode.store.schema import ARRIVAL, CHAIN, NUMBER_BYTES, TALLY_KEY, pack_tally, unpack_tally
from xnode.store.store import Store, WriteHook
from xnode.store.transaction import Transaction

GENESIS = make_genesis()
NOTES = "test"


class Step(NamedTuple):
    """What one transaction lands, in this order; `rollbacks` and `confirms` each with all that hangs on them."""

    blocks: tuple[Block, ...]
    puts: tuple[tuple[bytes, bytes], ...] = ()
    deletes: tuple[bytes, ...] = ()
    rollbacks: tuple[Hash, ...] = ()
    confirms: tuple[Hash, ...] = ()


@cache
def story_blocks() -> tuple[Block, ...]:
    """A short story with every block type, in order."""
    ledger = MemoryLedger(GENESIS)
    play_all_types(ledger)
    return tuple(ledger.blocks.values())


@cache
def story_hashes() -> tuple[Hash, ...]:
    """The hashes of the story's blocks."""
    return tuple(block_hash(GENESIS.network_key, block) for block in story_blocks())


def story_steps() -> list[Step]:
    """The story in transactions of one block, of several, of notes only, of both; confirmed, taken back, told again."""
    blocks, hashes = story_blocks(), story_hashes()
    parts = [blocks[start:end] for start, end in pairwise((0, 1, 2, 3, 6, 7, 9, 10, 11, 12, 14, len(blocks)))]
    steps = [Step(part, ((b"last", bytes([number])),)) for number, part in enumerate(parts)]
    return [
        *steps[:4],
        Step((), ((b"only", b"note"),)),
        *steps[4:],
        Step((), confirms=(hashes[7],)),
        Step((), rollbacks=(hashes[8],)),
        Step((), deletes=(b"only",)),
        Step(blocks[8:12]),
        Step(blocks[11:12], rollbacks=(hashes[11],), confirms=(hashes[10],)),
        Step(blocks[14:], rollbacks=(hashes[14],), confirms=(hashes[13],)),
    ]


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
        for item in step.rollbacks:
            transaction.rollback_with_descendants(item)
        for block in step.blocks:
            stage(transaction, block)
        for item in step.confirms:
            transaction.confirm_with_ancestors(item)
        for key, value in step.puts:
            transaction.put_note(NOTES, key, value)
        for key in step.deletes:
            transaction.delete_note(NOTES, key)
        transaction.commit()


def dump(store: Store) -> dict[bytes, bytes]:
    """Every key and value, but for the last arrival number that was given: that one never comes back."""
    with store.snapshot() as snapshot:
        rows = dict(snapshot.scan(b""))
    return {**rows, TALLY_KEY: pack_tally(unpack_tally(rows[TALLY_KEY])._replace(sequence=0))}


def facts(store: Store) -> tuple[dict[bytes, bytes], list[bytes]]:
    """Every key and value without all arrival numbers, and the blocks with their places in their order of arrival."""
    rows = dump(store)
    tally = unpack_tally(rows[TALLY_KEY])._replace(last_arrival=0)
    arrivals = [rows.pop(key) for key in sorted(rows) if key[:1] == ARRIVAL]
    for key in [key for key in rows if key[:1] == CHAIN]:
        rows[key] = rows[key][NUMBER_BYTES:]
    return {**rows, TALLY_KEY: pack_tally(tally)}, arrivals
