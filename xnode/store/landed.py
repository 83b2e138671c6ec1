"""What is known of the rows on disk without reading them again: shared by a store's transactions, one after the other.

Each transaction that lands leaves here what it wrote; one that is discarded leaves only what it read.
"""

from typing import Final

from xnode.core.ledger import AccountRecord
from xnode.core.values import Address
from xnode.store.changed_accounts import ChangedAccounts

ACCOUNTS_MAX: Final = 8_192  # about 1 KiB each; what one transaction changed may come on top


class Landed:
    """`sums` are those of frontiers by bucket, 0 where none is here; `marks` what accounts add to them, where known."""

    def __init__(self, sums: dict[int, int]) -> None:
        self.accounts: dict[Address, AccountRecord | None] = {}
        self.marks: dict[Address, int] = {}
        self.sums = sums

    def note_account(self, address: Address, account: AccountRecord | None) -> None:
        """Keeps an account as it is on disk; where there are too many, all are forgotten first."""
        self._make_room()
        self.accounts[address] = account

    def land(self, changed: ChangedAccounts, sums: dict[int, int]) -> None:
        """Takes over what a transaction has written."""
        self._make_room()
        self.accounts.update(changed.now())
        self.marks.update(changed.marks())
        self.sums.update(sums)

    def _make_room(self) -> None:
        if len(self.accounts) >= ACCOUNTS_MAX:
            self.accounts.clear()
            self.marks.clear()
