"""Changes that are not written yet, over the latest state, and reads that see both.

Each swap takes the record before and the record after, and does all that hangs on it: a block that is applied and one
that is taken back are the same swaps, once forwards and once backwards. Accounts, open entries and undo records stay
decoded, and become rows once, at the end: within a batch most of them change again, or come and go.
"""

from collections.abc import Mapping

from xnode.core.charter import Charters
from xnode.core.genesis import Genesis
from xnode.core.lease import LeaseRecord, LeaseState
from xnode.core.ledger import AccountRecord, Pending
from xnode.core.values import ZERO_HASH, Address, Hash
from xnode.store.changed_accounts import ChangedAccounts
from xnode.store.counter import SUM_MODULUS, Counter
from xnode.store.invariants import require
from xnode.store.landed import Landed
from xnode.store.leveldb import Database
from xnode.store.reads import PointReads
from xnode.store.records import ProviderRecord, StoredBlock, Tally
from xnode.store.schema import (
    ACCOUNT,
    ARRIVAL,
    CHAIN,
    LEASE,
    PENDING,
    PLACE,
    PROVIDER,
    SUM_BYTES,
    TALLY_KEY,
    UNDO,
    lease_index_keys,
    number,
    pack_account,
    pack_arrival,
    pack_lease,
    pack_pending,
    pack_provider,
    pack_standing,
    pack_tally,
    pending_key,
    place,
    sum_key,
    weight_rows,
)
from xnode.store.undo import Undo, pack_undo

Changes = Mapping[bytes, bytes | None]


class Staging(PointReads):
    """The overlay under a transaction. None in `_changes` stands for a key that goes."""

    def __init__(self, database: Database, genesis: Genesis, charters: Charters, landed: Landed) -> None:
        self._database = database
        self._charters = charters
        self._landed = landed
        self._changes: dict[bytes, bytes | None] = {}
        self._read: dict[bytes, bytes | None] = {}  # nobody else writes meanwhile: rules and checks ask the same
        self._accounts: dict[Address, AccountRecord | None] = {}  # staged or read
        self._entries: dict[bytes, Pending | None] = {}  # likewise, by key
        self._changed_entries: dict[bytes, None] = {}
        self._born: set[bytes] = set()  # keys of entries, places of undo records that are not on disk: first put here
        self._undos: dict[bytes, Undo | None] = {}  # those that changed, by place
        self.frontier_sums: dict[int, int] = {}  # of the buckets that change, once `rows` has told them
        self.is_open = True
        self.changed = ChangedAccounts(genesis.network_key, landed.marks)
        self.counter = Counter(super().tally())

    def discard(self) -> None:
        """Forgets all that is staged and not committed; a second call does nothing."""
        self.is_open = False
        for staged in (self._changes, self._accounts, self._entries, self._undos):
            staged.clear()

    def is_changed(self) -> bool:
        """Whether anything is staged."""
        return bool(self._changes or self.changed or self._changed_entries or self._undos)

    def check_open(self) -> None:
        """Raises RuntimeError once it is over."""
        if not self.is_open:
            raise RuntimeError("this transaction is over; ask the store for another")

    def _get(self, key: bytes) -> bytes | None:
        self.check_open()
        if key in self._changes:
            return self._changes[key]
        if key not in self._read:
            self._read[key] = self._database.get(key)
        return self._read[key]

    def account(self, address: Address) -> AccountRecord | None:
        """The account with what is staged."""
        if address not in self._accounts:
            self.check_open()
            landed = self._landed
            if address not in landed.accounts:
                landed.note_account(address, super().account(address))
            self._accounts[address] = landed.accounts[address]
        return self._accounts[address]

    def pending(self, destination: Address, source: Hash) -> Pending | None:
        """The open entry with what is staged."""
        key = PENDING + destination + source
        if key not in self._entries:
            self._entries[key] = super().pending(destination, source)
        return self._entries[key]

    def weight(self, representative: Address) -> int:
        """The weight with what is staged."""
        self.check_open()
        return super().weight(representative) + self.changed.weight_shifts().get(representative, 0)

    def _undo_at(self, at: bytes) -> Undo | None:
        return self._undos[at] if at in self._undos else super()._undo_at(at)

    def tally(self) -> Tally:
        """All that is kept incrementally, with what is staged."""
        self.check_open()
        return self.counter.tally(self.changed)._replace(last_arrival=self._last_arrival())

    def _last_arrival(self) -> int:
        last = self.counter.last_arrival
        if self._changes.get(ARRIVAL + number(last), b"") is not None:
            return last
        staged = (key for key, at in self._changes.items() if key[:1] == ARRIVAL and at is not None)
        landed = (key for key, _ in self._database.scan(ARRIVAL, newest_first=True) if key not in self._changes)
        first = ARRIVAL + number(0)
        return int.from_bytes(max(max(staged, default=first), next(landed, first))[1:], "big")

    def rows(self) -> Changes:
        """All changes, as they are written; raises InvariantBroken."""
        rows = {**self._changes, TALLY_KEY: pack_tally(self.tally())}
        for address, account in self.changed.now():
            rows[ACCOUNT + address] = None if account is None else pack_account(account)
        for key in self._changed_entries:
            entry = self._entries[key]
            if entry is not None:
                rows[key] = pack_pending(entry)
            elif key not in self._born:
                rows[key] = None
        for at, undo in self._undos.items():
            if undo is not None:
                rows[UNDO + at] = pack_undo(undo)
            elif at not in self._born:
                rows[UNDO + at] = None
        self.frontier_sums = self._frontier_sums()
        for bucket, frontiers_sum in self.frontier_sums.items():
            rows[sum_key(bucket)] = frontiers_sum.to_bytes(SUM_BYTES, "big") if frontiers_sum else None
        for representative, shift in self.changed.weight_shifts().items():
            before = super().weight(representative)
            require(before + shift >= 0, "a representative's weight would fall below zero")
            rows |= weight_rows(representative, before, before + shift)
        return rows

    def first_undo(self) -> bytes:
        """The first place that gets an undo record; empty where none does."""
        return min((at for at, undo in self._undos.items() if undo is not None), default=b"")

    def _frontier_sums(self) -> dict[int, int]:
        shifts, sums = self.changed.frontier_shifts(), self._landed.sums
        return {bucket: (sums.get(bucket, 0) + shift) % SUM_MODULUS for bucket, shift in shifts.items() if shift}

    def put(self, key: bytes, value: bytes | None) -> None:
        """Stages one raw key."""
        self._changes[key] = value

    def swap_account(self, address: Address, before: AccountRecord | None, after: AccountRecord | None) -> None:
        """One state of an account for another; None where there is no record."""
        self._accounts[address] = after
        self.changed.swap(address, before, after)

    def swap_pending(self, gone: Pending | None, put: Pending | None) -> None:
        """Takes one entry away and adds another."""
        if gone is not None:
            key = pending_key(gone)
            self._entries[key] = self._changed_entries[key] = None
        if put is not None:
            key = pending_key(put)
            if key not in self._entries:
                self._born.add(key)  # its source is a block that is just being applied
            self._entries[key], self._changed_entries[key] = put, None

    def swap_lease(self, lease_hash: Hash, before: LeaseRecord | None, after: LeaseRecord | None) -> None:
        """One state of a lease for another; None where there is no lease."""
        for lease, entry, count in ((before, None, -1), (after, b"", 1)):
            if lease is not None:
                for state in (None, lease.state):
                    self._changes.update(dict.fromkeys(lease_index_keys(lease, state), entry))
                self._count_ending(lease, count)
        self.put(LEASE + lease_hash, None if after is None else pack_lease(after))

    def _count_ending(self, lease: LeaseRecord, count: int) -> None:
        settled, unfulfilled = self.provider_record(lease.provider)
        if lease.state is LeaseState.SETTLED:
            settled += count
        elif lease.state is LeaseState.UNFULFILLED:
            unfulfilled += count
        else:
            return
        record = ProviderRecord(settled, unfulfilled)
        self.put(PROVIDER + lease.provider, pack_provider(record) if any(record) else None)

    def put_block(self, at: bytes, block_hash: Hash, sequence: int, wire: bytes) -> None:
        """A block in wire form with its indexes."""
        arrived, changes = number(sequence), self._changes
        changes[ARRIVAL + arrived] = pack_arrival(at, block_hash, wire)
        changes[CHAIN + at] = pack_standing(arrived, block_hash)
        changes[PLACE + block_hash] = at

    def drop_block(self, stored: StoredBlock) -> None:
        """Takes the same away."""
        self.put(CHAIN + place(stored.block.account, stored.height), None)
        self.put(PLACE + stored.block_hash, None)
        self.put(ARRIVAL + number(stored.sequence), None)

    def put_undo(self, at: bytes, undo: Undo | None) -> None:
        """What takes the block at this place back; None once nothing does."""
        if undo is not None and at not in self._undos:
            self._born.add(at)  # no block stood there
        self._undos[at] = undo

    def set_dependent(self, source: Hash, dependent: Hash) -> None:
        """Notes which block rests on `source`, if that may still be taken back; zeros: none does any more."""
        at = None if source == ZERO_HASH else self._get(PLACE + source)
        undo = None if at is None else self._undo_at(at)
        if at is not None and undo is not None:
            require(ZERO_HASH in (undo.dependent, dependent), "another block rests on the same source")
            self._undos[at] = Undo(*undo[:-1], dependent)
