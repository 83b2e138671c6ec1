"""The ledger as its blocks alone make it: what `verify` compares the store with."""

from collections.abc import Iterator

from xnode.core.genesis import Genesis
from xnode.core.lease import LeaseRecord, LeaseState
from xnode.core.ledger import AccountRecord, Effects, LedgerView, Pending, new_account
from xnode.core.values import Address, Hash
from xnode.store.counter import Counter, opening_accounts, opening_tally
from xnode.store.records import ProviderRecord
from xnode.store.schema import (
    ACCOUNT,
    LEASE,
    LEASE_INDEX,
    PENDING,
    PROVIDER,
    lease_index_keys,
    pack_account,
    pack_lease,
    pack_pending,
    pack_provider,
    pending_key,
)
from xnode.store.snapshot import Snapshot


class Replay(LedgerView):
    """The ledger in memory after the blocks so far; which blocks those are it asks the snapshot."""

    def __init__(self, genesis: Genesis, snapshot: Snapshot) -> None:
        self.genesis = genesis
        self._snapshot = snapshot
        self.accounts = {item.address: item for item in opening_accounts(genesis)}
        self.pendings: dict[bytes, Pending] = {}
        self.leases: dict[Hash, LeaseRecord] = {}
        self.counter = Counter(opening_tally(genesis), genesis)

    def account(self, address: Address) -> AccountRecord | None:
        return self.accounts.get(address)

    def has_block(self, block_hash: Hash) -> bool:
        stored = self._snapshot.block(block_hash)
        return stored is not None and stored.sequence <= self.counter.sequence

    def pending(self, destination: Address, source: Hash) -> Pending | None:
        return self.pendings.get(PENDING + destination + source)

    def lease(self, lease_hash: Hash) -> LeaseRecord | None:
        return self.leases.get(lease_hash)

    def apply(self, effects: Effects) -> None:
        """Lands one block in memory."""
        account = effects.account
        known = self.accounts.get(account.address)
        before = known or new_account(account.address, self.genesis)
        self.counter.add(effects, before, is_new=known is None)
        self.accounts[account.address] = account
        if effects.pending_put is not None:
            self.pendings[pending_key(effects.pending_put)] = effects.pending_put
        if effects.pending_delete is not None:
            del self.pendings[pending_key(effects.pending_delete)]
        if effects.lease is not None:
            self.leases[effects.lease.lease_hash] = effects.lease

    def facts(self) -> Iterator[tuple[bytes, dict[bytes, bytes]]]:
        """For each derived prefix all keys and values that the store must have, and no others."""
        yield ACCOUNT, {ACCOUNT + item.address: pack_account(item) for item in self.accounts.values()}
        yield PENDING, {key: pack_pending(item) for key, item in self.pendings.items()}
        yield LEASE, {LEASE + key: pack_lease(item) for key, item in self.leases.items()}
        states = ((item, state) for item in self.leases.values() for state in (None, item.state))
        yield LEASE_INDEX, {key: b"" for item, state in states for key in lease_index_keys(item, state)}
        yield PROVIDER, {PROVIDER + key: pack_provider(item) for key, item in self._endings().items()}

    def _endings(self) -> dict[Address, ProviderRecord]:
        endings: dict[Address, ProviderRecord] = {}
        for lease in self.leases.values():
            if lease.state in (LeaseState.SETTLED, LeaseState.UNFULFILLED):
                settled, unfulfilled = endings.get(lease.provider, ProviderRecord(0, 0))
                well = lease.state is LeaseState.SETTLED
                endings[lease.provider] = ProviderRecord(settled + well, unfulfilled + (not well))
        return endings
