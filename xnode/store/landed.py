"""What is known of the rows on disk without reading them again: shared by a store's transactions, one after the other.

Each transaction that lands leaves here what it wrote; one that is discarded leaves only what it read.
"""

from typing import Final

from xnode.core.ledger import AccountRecord
from xnode.core.values import Address
from xnode.store.changed_accounts import ChangedAccounts

ACCOUNTS_MAX: Final = 8_192  # about 1 KiB each


class Landed:
    """`sums` are those of frontiers by bucket, `marks` what accounts add to them; both are filled when needed."""

    def __init__(self) -> None:
        self.accounts: dict[Address, AccountRecord | None] = {}
        self.marks: dict[Address, int] = {}
        self.sums: dict[int, int] = {}

    def note_account(self, address: Address, account: AccountRecord | None) -> None:
        """Keeps an account as it is on disk; where there are too many, all are forgotten first."""
        if len(self.accounts) >= ACCOUNTS_MAX:
            self.accounts.clear()
            self.marks.clear()
        self.accounts[address] = account

    def land(self, changed: ChangedAccounts, sums: dict[int, int]) -> None:
        """Takes over what a transaction has written."""
        for address, account in changed.now():
            self.note_account(address, account)
        self.marks.update((address, mark) for address, mark in changed.marks() if address in self.accounts)
        self.sums.update(sums)
