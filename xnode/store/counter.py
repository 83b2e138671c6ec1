"""What the store counts as blocks land, so that supply, counts and fingerprints are never summed up anew.

The fingerprint of a set of frontiers is the sum of its members' hashes modulo 2^256: a commit adds and takes away what
it changed, whatever the size of the ledger. It is kept for the whole and for each of BUCKETS_OF_FRONTIERS prefixes of
the account's address.
"""

from collections.abc import Iterable
from typing import Final

from xnode.core.genesis import Allocation, Genesis
from xnode.core.hashing import NetworkKey, Tag, tagged_hash
from xnode.core.ledger import AccountRecord, Bucket, Move, new_account
from xnode.core.values import Address
from xnode.store.records import Tally, Totals
from xnode.store.schema import BUCKETS, SUM_BYTES, bucket_of

SUM_MODULUS: Final = 2 ** (8 * SUM_BYTES)


def frontier_mark(key: NetworkKey, record: AccountRecord) -> int:
    """What an account adds to the sum of all frontiers: nothing before its first block. Its head tells its height."""
    if record.height == 0:
        return 0
    return int.from_bytes(tagged_hash(key, Tag.FRONTIERS, record.address + record.head), "big")


def sum_moves(moves: tuple[Move, ...]) -> Totals:
    """The change of each bucket that these moves touch."""
    sums: Totals = {}
    for asset, bucket, delta in moves:
        key = (asset, bucket)
        sums[key] = sums.get(key, 0) + delta
    return sums


def sum_weights(accounts: Iterable[AccountRecord]) -> dict[Address, int]:
    """XUSD by the representative that it is delegated to; only those who have some."""
    weights: dict[Address, int] = {}
    for account in accounts:
        if account.xusd:
            weights[account.representative] = weights.get(account.representative, 0) + account.xusd
    return weights


def opening_accounts(genesis: Genesis) -> list[AccountRecord]:
    """The accounts that the genesis allocates to."""
    parts: dict[Address, list[Allocation]] = {}
    for item in genesis.allocations:
        parts.setdefault(item.account, []).append(item)
    return [
        new_account(address, genesis._replace(allocations=tuple(items)))  # only its own: there may be thousands
        for address, items in parts.items()
    ]


def opening_tally(genesis: Genesis) -> Tally:
    """The counts of a new store."""
    totals = dict.fromkeys(BUCKETS, 0)
    for item in genesis.allocations:
        totals[(item.asset, Bucket.GENESIS)] += item.amount
        totals[(item.asset, Bucket.BALANCES)] += item.amount
    return Tally(0, len(opening_accounts(genesis)), 0, 0, bytes(SUM_BYTES), totals)


class Counter:
    """A tally that blocks are added to; not shared, and never written back into the tally it began with."""

    def __init__(self, tally: Tally, genesis: Genesis) -> None:
        self.blocks, self.accounts, self.sequence, self.last_arrival, digest, totals = tally
        self.totals = dict(totals)
        self._digest = int.from_bytes(digest, "big")
        self._before: dict[Address, AccountRecord | None] = {}  # accounts as they were when they were first counted
        self._after: dict[Address, AccountRecord | None] = {}
        self._shifts: dict[int, int] | None = {}
        self._key = genesis.network_key

    def add(self, moves: tuple[Move, ...], before: AccountRecord | None, after: AccountRecord, sequence: int) -> None:
        """Counts one block, the newest arrival; `before` is None where its account had no record."""
        for asset, bucket, delta in moves:
            self.totals[(asset, bucket)] += delta
        self._shift(before, after)
        self.blocks += 1
        self.accounts += before is None
        self.sequence = self.last_arrival = sequence

    def remove(self, moves: tuple[Move, ...], before: AccountRecord | None, after: AccountRecord) -> None:
        """Takes back what `add` counted, all but the arrival."""
        for asset, bucket, delta in moves:
            self.totals[(asset, bucket)] -= delta
        self._shift(after, before)
        self.blocks -= 1
        self.accounts -= before is None

    def _shift(self, gone: AccountRecord | None, come: AccountRecord | None) -> None:
        shown = come or gone
        assert shown is not None
        self._before.setdefault(shown.address, gone)
        self._after[shown.address] = come
        self._shifts = None

    def _mark(self, record: AccountRecord | None) -> int:
        return 0 if record is None else frontier_mark(self._key, record)

    def shifts(self) -> dict[int, int]:
        """What the sum of each bucket of frontiers gained: hashed once an account, however many blocks it got."""
        if self._shifts is None:
            self._shifts = self._summed()
        return self._shifts

    def _summed(self) -> dict[int, int]:
        found: dict[int, int] = {}
        for address, before in self._before.items():
            bucket = bucket_of(address)
            gained = self._mark(self._after[address]) - self._mark(before)
            found[bucket] = found.get(bucket, 0) + gained
        return found

    def tally(self) -> Tally:
        """The counts now."""
        digest = ((self._digest + sum(self.shifts().values())) % SUM_MODULUS).to_bytes(SUM_BYTES, "big")
        return Tally(self.blocks, self.accounts, self.sequence, self.last_arrival, digest, dict(self.totals))
