"""What taking a block back needs: one record for each unconfirmed block, written with the block, gone once it is final.

A block rests on the one before it in its chain and on at most one more, its source: a receive on its send, what moves a
lease on the block that moved it last. So a block carries at most one other chain's block at a time, its dependent, and
everything that rests on a block is found without an index.
"""

from typing import Any, Final, NamedTuple

from xnode.core.blocks import LeaseAccept, LeaseCancel, LeaseForceSettle, LeaseSettle
from xnode.core.codec import encode
from xnode.core.lease import LeaseRecord
from xnode.core.ledger import AccountRecord, Bucket, Effects, LedgerView, Move, Pending
from xnode.core.values import ZERO_HASH, Asset, Hash
from xnode.store.schema import account_of, lease_fields, lease_of, unpack_row

ON_A_LEASE: Final = (LeaseAccept, LeaseSettle, LeaseCancel, LeaseForceSettle)
_FINAL_HEIGHT: Final = AccountRecord._fields.index("final_height")  # the keyset follows it


class Undo(NamedTuple):
    """What a block changed, as it was before; the account's final height says nothing, for it never goes back."""

    account: AccountRecord | None  # None where the store had no record of it
    pending_put: Pending | None
    pending_delete: Pending | None
    lease_hash: Hash  # zeros where it touched none
    lease: LeaseRecord | None  # None where it opened it
    moves: tuple[Move, ...]
    source: Hash  # zeros where it rests on its own chain only
    dependent: Hash  # the block that rests on it as its source; zeros while none does


def make_undo(view: LedgerView, effects: Effects, before: AccountRecord | None) -> Undo:
    """What `view`, where the block is not applied yet and its account stands as `before`, says is needed to come back
    there."""
    put, gone, lease = effects.pending_put, effects.pending_delete, effects.lease
    if lease is None:
        source = ZERO_HASH if gone is None else gone.source
        return Undo(before, put, gone, ZERO_HASH, None, effects.moves, source, ZERO_HASH)
    earlier = view.lease(lease.lease_hash)
    return Undo(before, put, gone, lease.lease_hash, earlier, effects.moves, _mover(effects, earlier), ZERO_HASH)


def _mover(effects: Effects, lease: LeaseRecord | None) -> Hash:
    """The block that has moved the lease last; zeros where this one opens it."""
    if not isinstance(effects.block.body, ON_A_LEASE) or lease is None:
        return ZERO_HASH
    return lease.lease_hash if lease.accept_hash == ZERO_HASH else lease.accept_hash


def pack_undo(undo: Undo) -> bytes:
    """All of it."""
    account, put, gone, lease_hash, lease, moves, source, dependent = undo
    before = None if account is None else account[:_FINAL_HEIGHT]
    keyset = None if account is None else account.keyset
    earlier = None if lease is None else lease_fields(lease)
    plain = tuple([(asset, bucket, delta < 0, abs(delta)) for asset, bucket, delta in moves])  # no record has -1
    return encode((before, keyset, put, gone, lease_hash, earlier, plain, source, dependent))


def unpack_undo(value: bytes) -> Undo:
    """The record; raises OperatorFault(store_corrupt)."""
    account, keyset, put, gone, lease_hash, lease, moves, source, dependent = unpack_row(value)
    return Undo(
        None if account is None else account_of((*account, 0, keyset)),
        _pending(put),
        _pending(gone),
        lease_hash,
        None if lease is None else lease_of(lease),
        tuple(
            Move(Asset(asset), Bucket(bucket), -size if is_minus else size) for asset, bucket, is_minus, size in moves
        ),
        source,
        dependent,
    )


def _pending(fields: tuple[Any, ...] | None) -> Pending | None:
    if fields is None:
        return None
    source, sender, destination, asset, amount = fields
    return Pending(source, sender, destination, Asset(asset), amount)
