"""The ledger as its blocks alone make it: what `verify` compares the store with."""

from collections.abc import Iterator

from xnode.core.charter import Charter, Charters
from xnode.core.genesis import Genesis
from xnode.core.lease import LeaseRecord, LeaseState
from xnode.core.ledger import AccountRecord, Effects, LedgerView, Pending
from xnode.core.values import ZERO_HASH, Address, Hash
from xnode.store.changed_accounts import ChangedAccounts
from xnode.store.counter import SUM_MODULUS, Counter, opening_accounts, opening_tally, sum_weights
from xnode.store.records import ProviderRecord
from xnode.store.schema import (
    ACCOUNT,
    FRONTIER_SUM,
    HEAVIEST,
    LEASE,
    LEASE_INDEX,
    PENDING,
    PROVIDER,
    SUM_BYTES,
    UNDO,
    WEIGHT,
    lease_index_keys,
    pack_account,
    pack_lease,
    pack_pending,
    pack_provider,
    pending_key,
    place,
    sum_key,
    unplace,
    weight_rows,
)
from xnode.store.snapshot import Snapshot
from xnode.store.undo import Undo, make_undo, pack_undo


class Replay(LedgerView):
    """The ledger in memory after the blocks so far; which blocks those are, and which are final, says the snapshot."""

    def __init__(self, genesis: Genesis, snapshot: Snapshot, charters: Charters) -> None:
        self.genesis = genesis
        self._charters = charters
        self._snapshot = snapshot
        self.accounts = {item.address: item for item in opening_accounts(genesis)}
        self.pendings: dict[bytes, Pending] = {}
        self.leases: dict[Hash, LeaseRecord] = {}
        self.undos: dict[bytes, Undo] = {}  # by place, of unconfirmed blocks only
        self.changed = ChangedAccounts(genesis.network_key)
        self.counter = Counter(opening_tally(genesis))

    def account(self, address: Address) -> AccountRecord | None:
        return self.accounts.get(address)

    def has_block(self, block_hash: Hash) -> bool:
        stored = self._snapshot.block(block_hash)
        return stored is not None and stored.sequence <= self.counter.sequence

    def pending(self, destination: Address, source: Hash) -> Pending | None:
        return self.pendings.get(PENDING + destination + source)

    def lease(self, lease_hash: Hash) -> LeaseRecord | None:
        return self.leases.get(lease_hash)

    def charter_at(self, time: int) -> Charter:
        return self._charters.at(time)

    def apply(self, effects: Effects, sequence: int) -> str | None:
        """Lands one block in memory; returns what is wrong with its confirmation."""
        account = effects.account
        problem = self._note_undo(effects)
        before = self.accounts.get(account.address)
        self.counter.add(effects.moves, before is None, sequence)
        self.changed.swap(account.address, before, account)
        self.accounts[account.address] = account
        if effects.pending_put is not None:
            self.pendings[pending_key(effects.pending_put)] = effects.pending_put
        if effects.pending_delete is not None:
            del self.pendings[pending_key(effects.pending_delete)]
        if effects.lease is not None:
            self.leases[effects.lease.lease_hash] = effects.lease
        return problem

    def _note_undo(self, effects: Effects) -> str | None:
        at = place(effects.account.address, effects.account.height)
        undo = make_undo(self, effects, self.accounts.get(effects.account.address))
        source_at = self._place(undo.source)
        if self._is_final(at):
            if source_at is None or self._is_final(source_at):
                return None
            return f"block {effects.block_hash.hex()} is confirmed, and what it rests on is not"
        self.undos[at] = undo
        if source_at in self.undos:
            self.undos[source_at] = self.undos[source_at]._replace(dependent=effects.block_hash)
        return None

    def _place(self, source: Hash) -> bytes | None:
        stored = None if source == ZERO_HASH else self._snapshot.block(source)
        return None if stored is None else place(stored.block.account, stored.height)

    def _is_final(self, at: bytes) -> bool:
        address, height = unplace(at)
        return height <= self._final_height(address)

    def _final_height(self, address: Address) -> int:
        stored = self._snapshot.account(address)
        return 0 if stored is None else stored.final_height

    def facts(self) -> Iterator[tuple[bytes, dict[bytes, bytes]]]:
        """For each derived prefix all keys and values that the store must have, and no others."""
        accounts = [self._with_final_height(item) for item in self.accounts.values()]
        yield ACCOUNT, {ACCOUNT + item.address: pack_account(item) for item in accounts}
        yield PENDING, {key: pack_pending(item) for key, item in self.pendings.items()}
        yield LEASE, {LEASE + key: pack_lease(item) for key, item in self.leases.items()}
        states = ((item, state) for item in self.leases.values() for state in (None, item.state))
        yield LEASE_INDEX, {key: b"" for item, state in states for key in lease_index_keys(item, state)}
        yield PROVIDER, {PROVIDER + key: pack_provider(item) for key, item in self._endings().items()}
        yield UNDO, {UNDO + at: pack_undo(undo) for at, undo in self.undos.items()}
        weights = sum_weights(accounts).items()
        rows = {key: value or b"" for item in weights for key, value in weight_rows(item[0], 0, item[1]).items()}
        sums = {bucket: shift % SUM_MODULUS for bucket, shift in self.changed.frontier_shifts().items()}
        yield FRONTIER_SUM, {sum_key(bucket): item.to_bytes(SUM_BYTES, "big") for bucket, item in sums.items() if item}
        for prefix in (WEIGHT, HEAVIEST):
            yield prefix, {key: value for key, value in rows.items() if key[:1] == prefix}

    def _with_final_height(self, account: AccountRecord) -> AccountRecord:
        """With what the store says, as far as it can be: blocks don't tell what is confirmed."""
        return account._replace(final_height=min(account.height, self._final_height(account.address)))

    def _endings(self) -> dict[Address, ProviderRecord]:
        endings: dict[Address, ProviderRecord] = {}
        for lease in self.leases.values():
            if lease.state in (LeaseState.SETTLED, LeaseState.UNFULFILLED):
                settled, unfulfilled = endings.get(lease.provider, ProviderRecord(0, 0))
                well = lease.state is LeaseState.SETTLED
                endings[lease.provider] = ProviderRecord(settled + well, unfulfilled + (not well))
        return endings
