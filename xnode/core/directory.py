"""Who is where: a node's signed word on its peer id, addresses and roles (protocol section 10)."""

from collections.abc import Iterable
from typing import Final, NamedTuple

from xnode.core.hashing import Tag
from xnode.core.records import record_kind
from xnode.core.values import NS, Address

VALID_FOR: Final = 30 * 60 * NS
RENEWED_EVERY: Final = 20 * 60  # seconds
FUTURE_MAX: Final = 30 * NS  # how far a clock may be ahead of ours
ENTRIES_MAX: Final = 10_000


class DirectoryRecord(NamedTuple):
    """One node; `timestamp` in ns, addresses are multiaddresses without the peer id."""

    account: Address
    peer_id: str
    addresses: tuple[str, ...]
    roles: tuple[str, ...]
    timestamp: int


DIRECTORY: Final = record_kind(Tag.DIRECTORY, DirectoryRecord, "account")


def is_current(record: DirectoryRecord, now: int) -> bool:
    """Whether it is neither outdated nor from the future."""
    return now - VALID_FOR <= record.timestamp <= now + FUTURE_MAX


class Directory:
    """The newest current record of each account with its wire form; when full, the one heard longest ago leaves,
    unless it is `pinned`: made-up accounts must not push out those whom the node needs.
    """

    def __init__(self, pinned: Iterable[Address] = ()) -> None:
        self._entries: dict[Address, tuple[DirectoryRecord, bytes]] = {}
        self._pinned = frozenset(pinned)

    def pin(self, accounts: Iterable[Address]) -> None:
        """Pins these, and no others any more."""
        self._pinned = frozenset(accounts)

    def put(self, record: DirectoryRecord, wire: bytes, now: int) -> bool:
        """Takes it if it is current and newer than what is known and current; says whether it did."""
        known = self.find(record.account, now)
        if not is_current(record, now) or (known is not None and known.timestamp >= record.timestamp):
            return False
        self._entries.pop(record.account, None)
        if len(self._entries) >= ENTRIES_MAX:
            del self._entries[next(account for account in self._entries if account not in self._pinned)]
        self._entries[record.account] = (record, wire)
        return True

    def find(self, account: Address, now: int) -> DirectoryRecord | None:
        """The account's current record, or None."""
        entry = self._entries.get(account)
        return entry[0] if entry is not None and is_current(entry[0], now) else None

    def wires(self, now: int, limit: int) -> tuple[bytes, ...]:
        """The newest current records in wire form, `limit` at most."""
        current = [wire for record, wire in reversed(self._entries.values()) if is_current(record, now)]
        return tuple(current[:limit])

    def wires_of(self, accounts: Iterable[Address], now: int) -> tuple[bytes, ...]:
        """The current records of these accounts in wire form, of those that are known."""
        return tuple(self._entries[account][1] for account in accounts if self.find(account, now))

    def missing(self, now: int) -> tuple[Address, ...]:
        """The pinned accounts without a current record, sorted."""
        return tuple(sorted(account for account in self._pinned if self.find(account, now) is None))

    def records(self, now: int) -> tuple[DirectoryRecord, ...]:
        """All current records, sorted by account."""
        return tuple(sorted(record for record, _ in self._entries.values() if is_current(record, now)))
