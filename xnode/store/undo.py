"""What taking a block back needs: one record for each unconfirmed block, written with the block, gone once it is final.

A block rests on the one before it in its chain and on at most one more, its source: a receive on its send, what moves a
lease on the block that moved it last. So a block carries at most one other chain's block at a time, its dependent, and
everything that rests on a block is found without an index.
"""

from typing import Any, Final, NamedTuple

from xnode.core.blocks import LeaseAccept, LeaseCancel, LeaseForceSettle, LeaseSettle, Receive
from xnode.core.codec import Plain, encode
from xnode.core.lease import LeaseRecord
from xnode.core.ledger import AccountRecord, Bucket, Effects, LedgerView, Move, Pending
from xnode.core.values import ZERO_HASH, Asset, Hash
from xnode.store.schema import account_of, lease_fields, lease_of, unpack

MOVE_BYTES: Final = 16  # signed
ON_A_LEASE: Final = (LeaseAccept, LeaseSettle, LeaseCancel, LeaseForceSettle)


class Undo(NamedTuple):
    """What a block changed, as it was before; the account's final height stands as 0, for it never goes back."""

    account: AccountRecord | None  # None where the store had no record of it
    pending_put: Pending | None
    pending_delete: Pending | None
    lease_hash: Hash  # zeros where it touched none
    lease: LeaseRecord | None  # None where it opened it
    moves: tuple[Move, ...]
    source: Hash  # zeros where it rests on its own chain only
    dependent: Hash  # the block that rests on it as its source; zeros while none does


def make_undo(view: LedgerView, effects: Effects) -> Undo:
    """What `view`, where the block is not applied yet, says is needed to come back there."""
    before = view.account(effects.block.account)
    touched = effects.lease.lease_hash if effects.lease is not None else ZERO_HASH
    lease = view.lease(touched) if effects.lease is not None else None
    return Undo(
        account=None if before is None else AccountRecord(*before[:-2], 0, before.keyset),
        pending_put=effects.pending_put,
        pending_delete=effects.pending_delete,
        lease_hash=touched,
        lease=lease,
        moves=effects.moves,
        source=_source(effects, lease),
        dependent=ZERO_HASH,
    )


def _source(effects: Effects, lease: LeaseRecord | None) -> Hash:
    body = effects.block.body
    if isinstance(body, Receive):
        return body.source
    if isinstance(body, ON_A_LEASE) and lease is not None:
        return lease.lease_hash if lease.accept_hash == ZERO_HASH else lease.accept_hash
    return ZERO_HASH


def pack_undo(undo: Undo) -> bytes:
    """All of it."""
    account, put, gone, lease_hash, lease, moves, source, dependent = undo
    fields: tuple[Plain, ...] = (
        account,
        _pending_fields(put),
        _pending_fields(gone),
        lease_hash,
        None if lease is None else lease_fields(lease),
        tuple((int(move.asset), str(move.bucket), _signed(move.delta)) for move in moves),
        source,
        dependent,
    )
    return encode(fields)


def _pending_fields(entry: Pending | None) -> Plain:
    return None if entry is None else (*entry[:3], int(entry.asset), entry.amount)


def _signed(delta: int) -> bytes:
    return delta.to_bytes(MOVE_BYTES, "big", signed=True)  # a record's own integers are never negative


def unpack_undo(value: bytes) -> Undo:
    """The record; raises OperatorFault(store_corrupt)."""
    account, put, gone, lease_hash, lease, moves, source, dependent = unpack(value)
    return Undo(
        None if account is None else account_of(account),
        _pending(put),
        _pending(gone),
        lease_hash,
        None if lease is None else lease_of(lease),
        tuple(Move(Asset(asset), Bucket(bucket), _delta(delta)) for asset, bucket, delta in moves),
        source,
        dependent,
    )


def _pending(fields: tuple[Any, ...] | None) -> Pending | None:
    if fields is None:
        return None
    source, sender, destination, asset, amount = fields
    return Pending(source, sender, destination, Asset(asset), amount)


def _delta(data: bytes) -> int:
    return int.from_bytes(data, "big", signed=True)
