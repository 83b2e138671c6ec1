"""Reads of one key, the same in a snapshot and in a transaction."""

from abc import abstractmethod

from xnode.core.charter import Charter, Charters
from xnode.core.lease import LeaseRecord
from xnode.core.ledger import AccountRecord, Bucket, LedgerView, Pending
from xnode.core.state_chain import StateTip, StateView
from xnode.core.values import ZERO_HASH, Address, Asset, Hash
from xnode.store.leveldb import corrupt
from xnode.store.records import Counts, ProviderRecord, Standing, StoredBlock, Tally, Totals
from xnode.store.schema import (
    ACCOUNT,
    ARRIVAL,
    CHAIN,
    LEASE,
    NUMBER_BYTES,
    PENDING,
    PLACE,
    PROVIDER,
    STATE_BLOCK,
    STATE_TIP_KEY,
    STATE_VALUE,
    TALLY_KEY,
    UNDO,
    WEIGHT,
    note_key,
    number,
    place,
    unpack_account,
    unpack_amount,
    unpack_arrival,
    unpack_lease,
    unpack_pending,
    unpack_provider,
    unpack_standing,
    unpack_tally,
    unplace,
)
from xnode.store.state import StoredState, unpack_state, unpack_tip
from xnode.store.undo import Undo, unpack_undo


class PointReads(LedgerView, StateView):
    """Answers from `_get`; every read may raise OperatorFault(store_corrupt, store_unreadable)."""

    _charters: Charters

    @abstractmethod
    def _get(self, key: bytes) -> bytes | None:
        """The value of a key, or None."""

    def account(self, address: Address) -> AccountRecord | None:
        """The account; those of the genesis are there from the start, with height 0."""
        value = self._get(ACCOUNT + address)
        return None if value is None else unpack_account(address, value)

    def has_block(self, block_hash: Hash) -> bool:
        """Whether this block is applied."""
        return self._get(PLACE + block_hash) is not None

    def block(self, block_hash: Hash) -> StoredBlock | None:
        """The applied block of this hash."""
        at = self._get(PLACE + block_hash)
        return None if at is None else self._block_at(at)

    def block_at(self, account: Address, height: int) -> StoredBlock | None:
        """The block at a height (from 1) of a chain."""
        at = place(account, height)
        return None if self._get(CHAIN + at) is None else self._block_at(at)

    def place_of(self, block_hash: Hash) -> tuple[Address, int] | None:
        """Account and height of the applied block of this hash."""
        at = self._get(PLACE + block_hash)
        return None if at is None else unplace(at)

    def standing(self, block_hash: Hash) -> Standing | None:
        """Where the applied block of this hash stands; several times cheaper than the block."""
        at = self._get(PLACE + block_hash)
        return None if at is None else self.standing_at(*unplace(at))

    def standing_at(self, account: Address, height: int) -> Standing | None:
        """The same of the block at a height of a chain."""
        at = place(account, height)
        value = self._get(CHAIN + at)
        return None if value is None else unpack_standing(at, value)

    def _block_at(self, at: bytes) -> StoredBlock:
        arrived = self._arrived_at(at)
        return unpack_arrival(arrived, self._arrival(arrived))

    def _arrived_at(self, at: bytes) -> bytes:
        value = self._get(CHAIN + at)
        if value is None:
            raise corrupt(f"no block at {at.hex()}, where an index says one")
        return value[:NUMBER_BYTES]

    def _arrival(self, arrived: bytes) -> bytes:
        value = self._get(ARRIVAL + arrived)
        if value is None:
            raise corrupt(f"no arrival {arrived.hex()}, where an index says one")
        return value

    def standing_after(self, account: Address, previous: Hash) -> Standing | None:
        """What is applied at a chain position: the one after `previous`, or the first where that is zeros."""
        before = self.standing(previous) if previous != ZERO_HASH else None
        if previous != ZERO_HASH and (before is None or before.account != account):
            return None
        return self.standing_at(account, before.height + 1 if before is not None else 1)

    def pending(self, destination: Address, source: Hash) -> Pending | None:
        """The open pending entry, or None."""
        key = destination + source
        value = self._get(PENDING + key)
        return None if value is None else unpack_pending(key, value)

    def lease(self, lease_hash: Hash) -> LeaseRecord | None:
        """The lease that this block opened, or None."""
        value = self._get(LEASE + lease_hash)
        return None if value is None else unpack_lease(lease_hash, value)

    def charters(self) -> Charters:
        """What held when, as far as the state chain is here."""
        return self._charters

    def charter_at(self, time: int) -> Charter:
        """The rates and timekeepers that hold at `time` (ns)."""
        return self._charters.at(time)

    def state_tip(self) -> StateTip:
        """The last state block."""
        value = self._get(STATE_TIP_KEY)
        if value is None:
            raise corrupt("its state chain is missing")
        return unpack_tip(value)

    def state_block(self, block_number: int) -> StoredState | None:
        """The state block of this number; 0 is the genesis'."""
        value = self._get(STATE_BLOCK + number(block_number))
        return None if value is None else unpack_state(value)

    def state_hash_at(self, number: int) -> Hash | None:
        """Its hash."""
        stored = self.state_block(number)
        return None if stored is None else stored.block_hash

    def state_value(self, key: str) -> str | None:
        """The value at a key of the state map, as canonical JSON text."""
        value = self._get(STATE_VALUE + key.encode())
        return None if value is None else value.decode()

    def undo(self, account: Address, height: int) -> Undo | None:
        """What takes the block at this height back; None where it is confirmed or there is none."""
        return self._undo_at(place(account, height))

    def _undo_at(self, at: bytes) -> Undo | None:
        value = self._get(UNDO + at)
        return None if value is None else unpack_undo(value)

    def is_confirmed(self, block_hash: Hash) -> bool:
        """Whether this block is applied and can't be taken back any more."""
        at = self._get(PLACE + block_hash)
        if at is None:
            return False
        account, height = unplace(at)
        return height <= self._known_account(account).final_height

    def _known_account(self, address: Address) -> AccountRecord:
        account = self.account(address)
        if account is None:
            raise corrupt(f"no account {address.hex()}, where an index says one")
        return account

    def spendable(self, address: Address) -> dict[Asset, int]:
        """What of each asset is confirmed and not spent: the lesser of the balances at the confirmed head and now."""
        now = self.account(address)
        if now is None:
            return dict.fromkeys(Asset, 0)
        then = self._at_confirmed_head(now)
        return {asset: 0 if then is None else min(then.balance(asset), now.balance(asset)) for asset in Asset}

    def _at_confirmed_head(self, now: AccountRecord) -> AccountRecord | None:
        if now.height == now.final_height:
            return now
        undo = self.undo(now.address, now.final_height + 1)  # it has the account as it was before that block
        if undo is None:
            raise corrupt(f"no undo record of an unconfirmed block of {now.address.hex()}")
        return undo.account

    def weight(self, representative: Address) -> int:
        """XUSD held by the accounts that delegate to it; pending and escrow do not count (protocol section 8)."""
        value = self._get(WEIGHT + representative)
        return 0 if value is None else unpack_amount(value)

    def total_weight(self) -> int:
        """The weight of all representatives: every account has one, so it is all XUSD in balances."""
        return self.supply()[(Asset.XUSD, Bucket.BALANCES)]

    def provider_record(self, address: Address) -> ProviderRecord:
        """How this provider's leases ended; zeros for one that has none."""
        value = self._get(PROVIDER + address)
        return ProviderRecord(0, 0) if value is None else unpack_provider(value)

    def note(self, space: str, key: bytes) -> bytes | None:
        """A note of a role, as it was put."""
        return self._get(note_key(space, key))

    def tally(self) -> Tally:
        """All that is kept incrementally."""
        value = self._get(TALLY_KEY)
        if value is None:
            raise corrupt("its counters are missing")
        return unpack_tally(value)

    def supply(self) -> Totals:
        """Units in each bucket of each asset; every pair is there."""
        return self.tally().totals

    def counts(self) -> Counts:
        """How many blocks and accounts there are."""
        return Counts(*self.tally()[:2])

    def frontiers_digest(self) -> bytes:
        """32 bytes that are equal on two nodes of one network exactly if all their frontiers are."""
        return self.tally().digest
