"""The accounts that are changed together: as they were before and as they are now, whatever came in between.

What hangs on an account's state (its row, its mark among the frontiers, its representative's weight) is worked out once
an account at the end, however many blocks it got.
"""

from collections.abc import Iterator, Mapping

from xnode.core.hashing import NetworkKey, Tag, tagged_hash
from xnode.core.ledger import AccountRecord
from xnode.core.values import Address
from xnode.store.schema import bucket_of


def frontier_mark(key: NetworkKey, record: AccountRecord | None) -> int:
    """What an account adds to the sum of all frontiers: nothing before its first block. Its head tells its height."""
    if record is None or record.height == 0:
        return 0
    return int.from_bytes(tagged_hash(key, Tag.FRONTIERS, record.address + record.head), "big")


class ChangedAccounts:
    """None stands for an account without a record. `known` has marks of some accounts as they were before."""

    def __init__(self, key: NetworkKey, known: Mapping[Address, int] | None = None) -> None:
        self._key = key
        self._known = {} if known is None else known
        self._marks: dict[Address, int] = {}
        self._before: dict[Address, AccountRecord | None] = {}
        self._after: dict[Address, AccountRecord | None] = {}
        self._frontiers: dict[int, int] | None = None

    def __bool__(self) -> bool:
        return bool(self._after)

    def swap(self, address: Address, before: AccountRecord | None, after: AccountRecord | None) -> None:
        """Notes one state of an account for another."""
        if address not in self._before:
            self._before[address] = before
        self._after[address] = after
        self._frontiers = None

    def now(self) -> Iterator[tuple[Address, AccountRecord | None]]:
        """Each of them as it is now."""
        return iter(self._after.items())

    def frontier_shifts(self) -> dict[int, int]:
        """What the sum of each bucket of frontiers has gained."""
        if self._frontiers is None:
            self._frontiers = self._summed_frontiers()
        return self._frontiers

    def _summed_frontiers(self) -> dict[int, int]:
        found: dict[int, int] = {}
        self._marks = {}
        for address, before in self._before.items():
            after = self._after[address]
            if before is None or after is None or before.head != after.head:
                bucket = bucket_of(address)
                was = self._known.get(address)
                mark = self._marks[address] = frontier_mark(self._key, after)
                gained = mark - (frontier_mark(self._key, before) if was is None else was)
                found[bucket] = found.get(bucket, 0) + gained
        return found

    def marks(self) -> Iterator[tuple[Address, int]]:
        """What each account whose head is another one adds to the sum of all frontiers now."""
        self.frontier_shifts()
        return iter(self._marks.items())

    def weight_shifts(self) -> dict[Address, int]:
        """What each representative's weight has gained."""
        found: dict[Address, int] = {}
        for address, before in self._before.items():
            after = self._after[address]
            if before is not None:
                found[before.representative] = found.get(before.representative, 0) - before.xusd
            if after is not None:
                found[after.representative] = found.get(after.representative, 0) + after.xusd
        return found
