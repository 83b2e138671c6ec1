"""Confirming: final heights that only rise, and below them nothing that could be taken back (protocol section 8)."""

from xnode.core.values import ZERO_HASH, Address, Hash
from xnode.store.invariants import require
from xnode.store.reads import PointReads
from xnode.store.records import StoredBlock
from xnode.store.rollback import NOT_HERE, unconfirmed_block
from xnode.store.staging import Staging


def confirm(staging: Staging, address: Address, height: int) -> list[Hash]:
    """Raises the final height; returns the hashes that it passes, upwards. Raises InvariantBroken."""
    record = staging.account(address)
    require(record is not None and 0 <= height <= record.height, "the chain does not reach so far")
    assert record is not None
    found = [_ready(staging, address, item) for item in range(record.final_height + 1, height + 1)]
    if found:
        for stored in found:
            staging.put_undo(address, stored.height, None)
        staging.swap_account(address, record, record._replace(final_height=height))
    return [stored.block_hash for stored in found]


def _ready(view: PointReads, address: Address, height: int) -> StoredBlock:
    """The block at this height, whose source is confirmed or lies below it in the same chain."""
    stored, undo = view.block_at(address, height), view.undo(address, height)
    require(stored is not None and undo is not None, "an unconfirmed block or its undo record is missing")
    assert stored is not None
    assert undo is not None
    source = view.block(undo.source) if undo.source != ZERO_HASH else None
    if source is not None and source.block.account != address:
        require(view.is_confirmed(undo.source), "what a confirmed block rests on must be confirmed first")
    return stored


def unconfirmed_ancestors(view: PointReads, block_hash: Hash) -> list[StoredBlock]:
    """The block and all that it rests on, as far as it is not confirmed, in order of arrival."""
    require(view.has_block(block_hash), NOT_HERE)
    found: dict[Hash, StoredBlock] = {}
    queue = [block_hash]
    while queue:
        item = queue.pop()
        if item not in found and not view.is_confirmed(item):
            stored, undo = unconfirmed_block(view, item)
            found[item] = stored
            queue += [other for other in (stored.block.previous, undo.source) if other != ZERO_HASH]
    return sorted(found.values(), key=lambda stored: stored.sequence)
