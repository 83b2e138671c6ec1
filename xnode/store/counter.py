"""What the store counts as blocks land, so that supply, counts and fingerprints are never summed up anew.

The fingerprint of a set of frontiers is the sum of its members' hashes modulo 2^256: a commit adds and takes away what
it changed, whatever the size of the ledger. It is kept for the whole and for each of BUCKETS_OF_FRONTIERS prefixes of
the account's address.
"""

from collections.abc import Iterable
from typing import Final

from xnode.core.genesis import Allocation, Genesis
from xnode.core.ledger import AccountRecord, Bucket, Move, new_account
from xnode.core.values import Address
from xnode.store.changed_accounts import ChangedAccounts
from xnode.store.records import Tally, Totals
from xnode.store.schema import BUCKETS, SUM_BYTES

SUM_MODULUS: Final = 2 ** (8 * SUM_BYTES)


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

    def __init__(self, tally: Tally) -> None:
        self.blocks, self.accounts, self.sequence, self.last_arrival, digest, totals = tally
        self.totals = dict(totals)
        self._digest = int.from_bytes(digest, "big")

    def add(self, moves: tuple[Move, ...], is_new: bool, sequence: int) -> None:
        """Counts one block, the newest arrival; `is_new` where its account had no record."""
        totals = self.totals
        for asset, bucket, delta in moves:
            totals[(asset, bucket)] += delta
        self.blocks += 1
        self.accounts += is_new
        self.sequence = self.last_arrival = sequence

    def remove(self, moves: tuple[Move, ...], is_new: bool) -> None:
        """Takes back what `add` counted, all but the arrival."""
        for asset, bucket, delta in moves:
            self.totals[(asset, bucket)] -= delta
        self.blocks -= 1
        self.accounts -= is_new

    def tally(self, changed: ChangedAccounts) -> Tally:
        """The counts now that these accounts have changed."""
        gained = sum(changed.frontier_shifts().values())
        digest = ((self._digest + gained) % SUM_MODULUS).to_bytes(SUM_BYTES, "big")
        return Tally(self.blocks, self.accounts, self.sequence, self.last_arrival, digest, dict(self.totals))
