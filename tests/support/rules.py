"""What a test of a ledger rule says: this block is accepted, or it is refused for this reason and changes nothing."""

from typing import Any

from tests.support.ledger import NOW, MemoryLedger, make_genesis
from xnode.core.blocks import Block
from xnode.core.ledger import AccountRecord, Bucket, Effects, Outcome, Refusal
from xnode.core.values import Asset, Hash

NO_POINT = b"\xff" * 32
UNKNOWN = Hash(b"?" * 32)


def new_ledger(**changes: Any) -> MemoryLedger:
    """A ledger at its genesis, which `changes` vary."""
    return MemoryLedger(make_genesis(**changes))


def accepted(ledger: MemoryLedger, block: Block, now: int | None = NOW) -> Effects:
    """Asserts that the block is good, applies it, asserts that the supply identity holds, and returns its effects."""
    effects = ledger.judge(block, now)
    assert isinstance(effects, Effects), effects
    assert (effects.block, effects.block_hash) == (block, ledger.chain("anybody").hash_of(block))
    before = ledger.totals()
    ledger.apply(effects)
    assert ledger.is_sound()
    assert ledger.totals() == moved(before, effects)
    return effects


def moved(totals: dict[tuple[Asset, Bucket], int], effects: Effects) -> dict[tuple[Asset, Bucket], int]:
    """The totals after the moves of the effects."""
    after = dict(totals)
    for move in effects.moves:
        after[move.asset, move.bucket] = after.get((move.asset, move.bucket), 0) + move.delta
    return {key: amount for key, amount in after.items() if amount}


def refused(ledger: MemoryLedger, block: Block, outcome: Outcome, now: int | None = NOW) -> Refusal:
    """Asserts that the block is refused for exactly this reason, in words for people."""
    refusal = ledger.judge(block, now)
    assert isinstance(refusal, Refusal), f"accepted, though it should be refused: {outcome}"
    assert refusal.outcome is outcome, refusal
    assert refusal.detail
    return refusal


def account_of(ledger: MemoryLedger, name: str) -> AccountRecord:
    """Somebody's account."""
    return ledger.chain(name).record(ledger)


def altered(ledger: MemoryLedger, name: str, block: Block, **changes: Any) -> Block:
    """Somebody's block with other common fields, or other fields of its body where it has such, signed anew."""
    own = {key: value for key, value in changes.items() if key in block.body._fields}
    common = {key: value for key, value in changes.items() if key not in own}
    return ledger.chain(name).sign(block._replace(body=block.body._replace(**own), **common))
