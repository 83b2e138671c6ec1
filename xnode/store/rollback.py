"""Taking unconfirmed blocks back: the inverse of staging, from each block's undo record."""

from typing import Final

from xnode.core.ledger import AccountRecord, Bucket
from xnode.core.values import ZERO_HASH, Asset, Hash
from xnode.store.counter import sum_moves
from xnode.store.invariants import require
from xnode.store.reads import PointReads
from xnode.store.records import Standing, StoredBlock
from xnode.store.schema import place
from xnode.store.staging import Staging
from xnode.store.undo import Undo

NOT_HERE: Final = "the block is not in the ledger"
CONFIRMED: Final = "a confirmed block is never taken back"


def unconfirmed(view: PointReads, block_hash: Hash) -> tuple[Standing, Undo]:
    """Where the block stands and what takes it back; raises InvariantBroken where it is not here or confirmed."""
    standing = view.standing(block_hash)
    require(standing is not None, NOT_HERE)
    assert standing is not None
    undo = view.undo(standing.account, standing.height)
    require(undo is not None and not view.is_confirmed(block_hash), CONFIRMED)
    assert undo is not None
    return standing, undo


def descendants(view: PointReads, block_hash: Hash) -> list[Hash]:
    """The block and all that rests on it, newest arrival first: nothing stands before what rests on it.

    Raises InvariantBroken where one of them is confirmed.
    """
    found: dict[Hash, int] = {}
    queue = [block_hash]
    while queue:
        item = queue.pop()
        if item in found:
            continue
        standing, undo = unconfirmed(view, item)
        found[item] = standing.sequence
        following = view.standing_at(standing.account, standing.height + 1)
        queue += [] if following is None else [following.block_hash]
        queue += [] if undo.dependent == ZERO_HASH else [undo.dependent]
    return sorted(found, key=lambda item: found[item], reverse=True)


def take_back(staging: Staging, block_hash: Hash) -> StoredBlock:
    """Undoes the last block of a chain; raises InvariantBroken and then changes nothing."""
    _, undo = unconfirmed(staging, block_hash)
    stored = staging.block(block_hash)
    assert stored is not None
    now = staging.account(stored.block.account)
    assert now is not None
    require(now.head == block_hash, "only the last block of a chain can be taken back")
    require(undo.dependent == ZERO_HASH, "another block rests on this one")
    before = None if undo.account is None else undo.account._replace(final_height=now.final_height)
    _check(staging, stored, undo, now)
    lease = None if undo.lease_hash == ZERO_HASH else staging.lease(undo.lease_hash)
    staging.set_dependent(undo.source, ZERO_HASH)
    staging.drop_block(stored)
    staging.put_undo(place(now.address, now.height), None)
    staging.swap_account(now.address, now, before)
    staging.swap_pending(undo.pending_put, undo.pending_delete)
    if lease is not None:
        staging.swap_lease(undo.lease_hash, lease, undo.lease)
    staging.counter.remove(undo.moves, before is None)
    return stored


def _check(staging: Staging, stored: StoredBlock, undo: Undo, now: AccountRecord) -> None:
    """That what stands now is what the block made of what the record has."""
    before, put, gone = undo.account, undo.pending_put, undo.pending_delete
    then = (ZERO_HASH, 0) if before is None else (before.head, before.height)
    require(then == (stored.block.previous, stored.height - 1), "the record is of another position")
    sums = sum_moves(undo.moves)
    for asset in Asset:
        moved = now.balance(asset) - (0 if before is None else before.balance(asset))
        require(moved == sums.get((asset, Bucket.BALANCES), 0), "the balance did not move as the record says")
    require(put is None or staging.pending(put.destination, put.source) == put, "its pending entry is gone")
    require(gone is None or staging.pending(gone.destination, gone.source) is None, "what it took is there again")
