"""One node's ledger as its disk shows it, followed batch by batch and counted anew, apart from the store's counts."""

from typing import NamedTuple

from tests.sim.fake_leveldb import Batch, Change, Disk
from xnode.core.blocks import Claim
from xnode.core.genesis import Genesis
from xnode.core.lease import LeaseRecord, LeaseState
from xnode.core.ledger import Bucket, supply_balances
from xnode.core.values import ZERO_HASH, Address, Asset, Hash
from xnode.store.records import StoredBlock, Totals
from xnode.store.schema import (
    ACCOUNT,
    ARRIVAL,
    BUCKETS,
    LEASE,
    PENDING,
    TALLY_KEY,
    unpack_account,
    unpack_arrival,
    unpack_lease,
    unpack_pending,
    unpack_tally,
)


class News(NamedTuple):
    """What a batch did: blocks that were applied, taken back, confirmed; `broken` says what it must not have done."""

    applied: list[StoredBlock]
    undone: list[StoredBlock]
    confirmed: list[StoredBlock]
    broken: list[str]


class Books:
    """`chain` has the blocks by place, `final` the confirmed heights, `leases` the leases."""

    def __init__(self, genesis: Genesis, disk: Disk) -> None:
        self.chain: dict[tuple[Address, int], StoredBlock] = {}
        self.final: dict[Address, int] = {}
        self.leases: dict[Hash, LeaseRecord] = {}
        self.places: dict[Hash, tuple[Address, int]] = {}
        self.totals: Totals = dict.fromkeys(BUCKETS, 0)
        self._faucet = genesis.faucet.amount
        for item in genesis.allocations:
            self._add(item.asset, Bucket.GENESIS, item.amount)
        self.opening = self.follow({key: (None, value) for key, value in disk.rows.items()})

    def follow(self, batch: Batch) -> News:
        """One more batch."""
        news = News([], [], [], [])
        raised: list[tuple[Address, int, int]] = []
        for key, change in batch.items():
            kind = key[:1]
            if kind == ACCOUNT:
                raised += self._on_account(key, change, news)
            elif kind == ARRIVAL:
                self._on_block(key, change, news)
            elif kind == PENDING:
                self._on_pending(key, change)
            elif kind == LEASE:
                self._on_lease(key, change)
        for address, low, high in raised:
            self.final[address] = high
            news.confirmed.extend(self.chain[(address, height)] for height in range(low + 1, high + 1))
        if TALLY_KEY in batch:
            self._check_tally(batch[TALLY_KEY], news)
        return news

    def is_confirmed(self, block_hash: Hash) -> bool:
        """Whether this node holds it for final."""
        place = self.places.get(block_hash)
        return place is not None and place[1] <= self.final.get(place[0], 0)

    def _add(self, asset: Asset, bucket: Bucket, amount: int) -> None:
        self.totals[(asset, bucket)] += amount

    def _on_account(self, key: bytes, change: Change, news: News) -> list[tuple[Address, int, int]]:
        before, after = (None if value is None else unpack_account(key[1:], value) for value in change)
        for record, sign in ((before, -1), (after, 1)):
            for asset in Asset if record is not None else ():
                self._add(asset, Bucket.BALANCES, sign * record.balance(asset))
        address = Address(key[1:])
        low, high = self.final.get(address, 0), 0 if after is None else after.final_height
        if high < low:
            news.broken.append(f"the final height of {address.hex()[:12]} fell from {low} to {high}")
        if high == low:
            return []
        return [(address, low, high)]

    def _on_block(self, key: bytes, change: Change, news: News) -> None:
        before, after = (None if value is None else unpack_arrival(key[1:], value) for value in change)
        shown = after or before
        if shown is None:
            return
        address, height = place = shown.block.account, shown.height
        if before is not None:
            if height <= self.final.get(address, 0):
                news.broken.append(f"block {height} of {address.hex()[:12]} was confirmed and is taken back")
            news.undone.append(self.chain.pop(place))
            self.places.pop(before.block_hash, None)
        if after is not None:
            self.chain[place] = after
            self.places[after.block_hash] = place
            news.applied.append(after)
        for stored, sign in ((before, -1), (after, 1)):
            if stored is not None and isinstance(stored.block.body, Claim):
                self._add(Asset.XUSD, Bucket.CLAIMED, sign * self._faucet)

    def _on_pending(self, key: bytes, change: Change) -> None:
        for value, sign in zip(change, (-1, 1), strict=True):
            if value is not None:
                entry = unpack_pending(key, value)
                self._add(entry.asset, Bucket.PENDING, sign * entry.amount)

    def _on_lease(self, key: bytes, change: Change) -> None:
        lease_hash = Hash(key[1:])
        before, after = (None if value is None else unpack_lease(lease_hash, value) for value in change)
        for lease, sign in ((before, -1), (after, 1)):
            for asset, bucket, amount in money_of(lease) if lease is not None else ():
                self._add(asset, bucket, sign * amount)
        if after is None:
            self.leases.pop(lease_hash, None)
        else:
            self.leases[lease_hash] = after

    def _check_tally(self, change: Change, news: News) -> None:
        value = change[1]
        stored = unpack_tally(value).totals if value is not None else None
        if not supply_balances(self.totals):
            news.broken.append(f"held and issued differ: {describe(self.totals)}")
        elif stored != self.totals:
            news.broken.append(f"the store counts {describe(stored or {})}, its rows hold {describe(self.totals)}")


def money_of(lease: LeaseRecord) -> list[tuple[Asset, Bucket, int]]:
    """Where a lease's money and stake are, by its state alone."""
    stake = 0 if lease.accept_hash == ZERO_HASH else lease.stake
    if lease.state is LeaseState.SETTLED:
        return [(Asset.XUSD, Bucket.BURNT, lease.cost), (Asset.XE, Bucket.MINTED, lease.cost)]
    if lease.state is LeaseState.UNFULFILLED:
        return [(Asset.XUSD, Bucket.FORFEITED, stake)]
    if lease.state is LeaseState.CANCELLED:
        return []
    return [(Asset.XUSD, Bucket.ESCROW, lease.cost), (Asset.XUSD, Bucket.STAKE, stake)]


def describe(totals: Totals) -> str:
    """The buckets that are not empty."""
    return ", ".join(f"{asset.name} {bucket} {amount}" for (asset, bucket), amount in totals.items() if amount)
