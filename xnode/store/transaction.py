"""Changes that land together: blocks with their effects, and notes, in one synced batch.

A transaction reads its own staged changes over the latest state, so that a page of blocks that build on each other is
judged and landed as one. Every invariant is checked while staging and once more over the new totals before the write;
the rules have checked them already, and neither trusts the other.
"""

from collections.abc import Callable, Mapping

from xnode.core.genesis import Genesis
from xnode.core.lease import LeaseRecord, LeaseState
from xnode.core.ledger import AccountRecord, Bucket, Effects, new_account, supply_balances
from xnode.core.values import U64_MAX, Address, Asset
from xnode.store.counter import Counter, sum_moves
from xnode.store.leveldb import Database
from xnode.store.reads import PointReads
from xnode.store.records import StoredBlock, Tally
from xnode.store.schema import (
    ACCOUNT,
    ARRIVAL,
    CHAIN,
    LEASE,
    NOTE_BYTES_MAX,
    PLACE,
    PROVIDER,
    TALLY_KEY,
    lease_index_keys,
    note_key,
    number,
    pack_account,
    pack_block,
    pack_lease,
    pack_pending,
    pack_provider,
    pack_tally,
    pending_key,
    place,
)

Changes = Mapping[bytes, bytes | None]


class InvariantBroken(RuntimeError):
    """Effects that would make the ledger wrong: a fault of this program, so nothing is written."""


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise InvariantBroken(message)


class Transaction(PointReads):
    """Made by `Store.transaction`, one at a time; ends with `commit`, `discard` or the end of its `with`."""

    def __init__(self, database: Database, genesis: Genesis, write: Callable[[Changes], None]) -> None:
        self._database = database
        self._genesis = genesis
        self._write = write
        self._changes: dict[bytes, bytes | None] = {}
        self.is_open = True
        self._accounts: dict[Address, AccountRecord] = {}  # staged or read: spares decoding them again
        self._counter = Counter(super().tally(), genesis)

    def __enter__(self) -> "Transaction":
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    def discard(self) -> None:
        """Forgets all that is staged and not committed; a second call does nothing."""
        self.is_open = False
        self._changes.clear()

    def commit(self) -> None:
        """Lands everything staged; it is on disk when this returns. Ends the transaction either way.

        Raises OperatorFault(store_write_failed), InvariantBroken.
        """
        self._check_open()
        totals = self._counter.totals
        try:
            _require(min(totals.values()) >= 0, "a bucket of the supply would fall below zero")
            _require(supply_balances(totals), "the supply identity would break")
            if self._changes:
                self._write({**self._changes, TALLY_KEY: pack_tally(self._counter.tally())})
        finally:
            self.discard()

    def _check_open(self) -> None:
        if not self.is_open:
            raise RuntimeError("this transaction is over; ask the store for another")

    def _get(self, key: bytes) -> bytes | None:
        self._check_open()
        return self._changes[key] if key in self._changes else self._database.get(key)

    def account(self, address: Address) -> AccountRecord | None:
        """The account with what is staged."""
        self._check_open()
        known = self._accounts.get(address) or super().account(address)
        if known is not None:
            self._accounts[address] = known
        return known

    def tally(self) -> Tally:
        """All that is kept incrementally, with what is staged."""
        self._check_open()
        return self._counter.tally()

    def put_note(self, space: str, key: bytes, value: bytes) -> None:
        """Stages a note; raises ValueError for a bad space or too many bytes."""
        self._check_open()
        if len(value) > NOTE_BYTES_MAX:
            raise ValueError(f"a note has {NOTE_BYTES_MAX} bytes at most")
        self._changes[note_key(space, key)] = value

    def delete_note(self, space: str, key: bytes) -> None:
        """Stages that a note goes, if it is there."""
        self._check_open()
        self._changes[note_key(space, key)] = None

    def stage(self, effects: Effects) -> None:
        """Adds a judged block with all that it does; raises InvariantBroken and then stages nothing of it."""
        self._check_open()
        known = self.account(effects.block.account)
        before = known or new_account(effects.block.account, self._genesis)
        self._check_position(effects, before)
        self._check_amounts(effects, before)
        self._stage_block(effects)
        self._stage_pending(effects)
        if effects.lease is not None:
            self._stage_lease(effects.lease)
        self._counter.add(effects, before, is_new=known is None)
        self._accounts[effects.account.address] = effects.account

    def _check_position(self, effects: Effects, before: AccountRecord) -> None:
        block, after = effects.block, effects.account
        _require(after.address == block.account, "the effects are another account's")
        _require(block.previous == before.head, "the block does not follow its chain's head")
        _require(
            after.height == before.height + 1 and after.head == effects.block_hash, "the new head is not the block"
        )
        _require(not self.has_block(effects.block_hash), "the block is already there")

    def _check_amounts(self, effects: Effects, before: AccountRecord) -> None:
        after, put, gone = effects.account, effects.pending_put, effects.pending_delete
        sums = sum_moves(effects.moves)
        for asset in Asset:
            balance = after.balance(asset)
            _require(0 <= balance <= U64_MAX, "a balance would leave u64")
            moved = sums.get((asset, Bucket.BALANCES), 0)
            _require(balance - before.balance(asset) == moved, "the balance does not move as the moves say")
            opened = put.amount if put is not None and put.asset is asset else 0
            closed = gone.amount if gone is not None and gone.asset is asset else 0
            _require(opened - closed == sums.get((asset, Bucket.PENDING), 0), "pending is not what moved there")
        _require(gone is None or self.pending(gone.destination, gone.source) == gone, "nothing is pending there")
        _require(put is None or self.pending(put.destination, put.source) is None, "the entry is already there")

    def _stage_block(self, effects: Effects) -> None:
        account = effects.account
        sequence = self._counter.sequence + 1
        at = place(account.address, account.height)
        stored = StoredBlock(effects.block, effects.block_hash, account.height, sequence)
        self._changes[CHAIN + at] = pack_block(stored)
        self._changes[PLACE + effects.block_hash] = at
        self._changes[ARRIVAL + number(sequence)] = at
        self._changes[ACCOUNT + account.address] = pack_account(account)

    def _stage_pending(self, effects: Effects) -> None:
        if effects.pending_put is not None:
            self._changes[pending_key(effects.pending_put)] = pack_pending(effects.pending_put)
        if effects.pending_delete is not None:
            self._changes[pending_key(effects.pending_delete)] = None

    def _stage_lease(self, lease: LeaseRecord) -> None:
        before = self.lease(lease.lease_hash)
        if before is not None:
            self._changes.update(dict.fromkeys(lease_index_keys(before, before.state)))
        for state in (None, lease.state):
            self._changes.update(dict.fromkeys(lease_index_keys(lease, state), b""))
        self._changes[LEASE + lease.lease_hash] = pack_lease(lease)
        self._count_ending(lease.provider, lease.state)

    def _count_ending(self, provider: Address, state: LeaseState) -> None:
        record = self.provider_record(provider)
        if state is LeaseState.SETTLED:
            record = record._replace(settled=record.settled + 1)
        elif state is LeaseState.UNFULFILLED:
            record = record._replace(unfulfilled=record.unfulfilled + 1)
        else:
            return
        self._changes[PROVIDER + provider] = pack_provider(record)
