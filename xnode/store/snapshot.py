"""The store at one moment: all reads of the API and of sync, while blocks go on landing.

One snapshot may be read by several threads. Every list is a range scan that stops at its limit, and goes on beyond the
`after` of the last one.
"""

from collections.abc import Iterator
from itertools import islice, takewhile
from typing import Final

from xnode.core.charter import Charters
from xnode.core.faults import NotFound
from xnode.core.lease import LeaseRecord, LeaseState
from xnode.core.ledger import AccountRecord, Pending
from xnode.core.values import HASH_BYTES, U64_MAX, Address, Hash
from xnode.store.first_undo import FirstUndo
from xnode.store.leveldb import Frozen, corrupt
from xnode.store.reads import PointReads
from xnode.store.records import Frontier, Representative, StoredBlock
from xnode.store.schema import (
    ACCOUNT,
    ARRIVAL,
    CHAIN,
    HEAVIEST,
    PENDING,
    STATE_BLOCK,
    STATE_VALUE,
    UNDO,
    bucket_of,
    bucket_start,
    heaviest_key,
    lease_facet,
    lease_position,
    note_key,
    note_prefix,
    number,
    place,
    unpack_account,
    unpack_arrival,
    unpack_heaviest,
    unpack_pending,
    unplace,
    wire_of,
)
from xnode.store.state import StoredState, unpack_state

PAGE: Final = 100


class Snapshot(PointReads):
    """Made by `Store.snapshot`; close it, best by `with`: an open one keeps the store's files open."""

    def __init__(self, frozen: Frozen, charters: Charters, first_undo: FirstUndo) -> None:
        self._frozen = frozen
        self._charters = charters
        self._first_undo = first_undo
        self._undos_beyond, self._writes = first_undo.look()

    def __enter__(self) -> "Snapshot":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends it; a second call does nothing."""
        self._frozen.release()

    def _get(self, key: bytes) -> bytes | None:
        return self._frozen.get(key)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """All raw keys and values under a prefix of the schema, for `verify`."""
        return self._frozen.scan(prefix)

    def accounts(self, after: Address | None = None, limit: int = PAGE) -> list[AccountRecord]:
        """Accounts by address, those of the genesis included."""
        return list(islice(self._accounts(after), limit))

    def _accounts(self, after: Address | None) -> Iterator[AccountRecord]:
        rows = self._frozen.scan(ACCOUNT, None if after is None else ACCOUNT + after)
        return (unpack_account(key[1:], value) for key, value in rows)

    def frontiers(self, after: Address | None = None, limit: int = PAGE) -> list[Frontier]:
        """The ends of all chains by address; accounts without blocks have none."""
        found = (Frontier(item.address, item.height, item.head) for item in self._accounts(after) if item.height)
        return list(islice(found, limit))

    def frontiers_in(self, bucket: int, after: Address | None = None, limit: int = PAGE) -> list[Frontier]:
        """The same of the accounts of one bucket (`schema.bucket_of`)."""
        start = bucket_start(bucket) if after is None else after
        rows = self._frozen.scan(ACCOUNT, ACCOUNT + start)
        near = takewhile(lambda row: bucket_of(Address(row[0][1:])) == bucket, rows)
        accounts = (unpack_account(key[1:], value) for key, value in near)
        found = (Frontier(item.address, item.height, item.head) for item in accounts if item.height)
        return list(islice(found, limit))

    def count_unconfirmed(self, limit: int) -> int:
        """How many blocks are not confirmed, counted up to `limit`."""
        keys = [key for key, _ in islice(self._undos(b""), limit)]
        self._first_undo.raise_to(keys[0][1:] if keys else b"", self._writes)
        return len(keys)

    def unconfirmed_heads(self, after: Address | None = None, limit: int = PAGE) -> list[StoredBlock]:
        """The last blocks of the chains that have unconfirmed ones, by account; one short search a chain."""
        heads: list[StoredBlock] = []
        last = b"" if after is None else place(after, U64_MAX)
        while len(heads) < limit:
            key, _ = next(self._undos(last), (b"", b""))
            if not last:
                self._first_undo.raise_to(key[1:], self._writes)
            if not key:
                break
            address = unplace(key[1:])[0]
            heads.append(self._block_at(place(address, self._known_account(address).height)))
            last = place(address, U64_MAX)
        return heads

    def _undos(self, after: bytes) -> Iterator[tuple[bytes, bytes]]:
        """The undo records beyond a place; from the first one where that is empty."""
        start = max(after, self._undos_beyond)
        return self._frozen.scan(UNDO, UNDO + start if start else None)

    def wires_since(self, sequence: int, limit: int = PAGE) -> list[tuple[int, Address, bytes]]:
        """(sequence, account, wire form) of what arrived after that sequence, oldest first; nothing is decoded."""
        rows = islice(self._frozen.scan(ARRIVAL, ARRIVAL + number(sequence)), limit)
        return [(int.from_bytes(key[1:], "big"), Address(value[:HASH_BYTES]), wire_of(value)) for key, value in rows]

    def wire_at(self, account: Address, height: int) -> bytes | None:
        """The wire form of the block at a height of a chain."""
        at = place(account, height)
        return None if self._get(CHAIN + at) is None else wire_of(self._arrival(self._arrived_at(at)))

    def chain(
        self, account: Address, after_height: int | None = None, limit: int = PAGE, newest_first: bool = False
    ) -> list[StoredBlock]:
        """Blocks of one chain: those above `after_height` going up, or those below it going down."""
        prefix = CHAIN + account
        after = None if after_height is None else prefix + number(after_height)
        rows = islice(self._frozen.scan(prefix, after, newest_first), limit)
        return [self._block_at(key[1:]) for key, _ in rows]

    def recent_blocks(self, limit: int = PAGE) -> list[StoredBlock]:
        """The last arrivals, newest first."""
        rows = islice(self._frozen.scan(ARRIVAL, newest_first=True), limit)
        return [unpack_arrival(key[1:], value) for key, value in rows]

    def blocks_since(self, sequence: int, limit: int = PAGE) -> list[StoredBlock]:
        """Blocks that arrived after the one of this sequence (0: from the first), oldest first."""
        rows = islice(self._frozen.scan(ARRIVAL, ARRIVAL + number(sequence)), limit)
        return [unpack_arrival(key[1:], value) for key, value in rows]

    def pendings(
        self, destination: Address | None = None, after: tuple[Address, Hash] | None = None, limit: int = PAGE
    ) -> list[Pending]:
        """Open entries by (destination, source), of one destination or of all."""
        prefix = PENDING + (destination or b"")
        rows = self._frozen.scan(prefix, None if after is None else PENDING + b"".join(after))
        return [unpack_pending(key[1:], value) for key, value in islice(rows, limit)]

    def unconfirmed(self, after: tuple[Address, int] | None = None, limit: int = PAGE) -> list[StoredBlock]:
        """Blocks that may still be taken back, by (account, height)."""
        rows = self._undos(b"" if after is None else place(*after))
        return [self._block_at(key[1:]) for key, _ in islice(rows, limit)]

    def representatives(self, after: Address | None = None, limit: int = PAGE) -> list[Representative]:
        """Those who have weight, the heaviest first, of equals the lowest address."""
        start = None if after is None else heaviest_key(after, self.weight(after))
        return [unpack_heaviest(key) for key, _ in islice(self._frozen.scan(HEAVIEST, start), limit)]

    def leases(
        self,
        state: LeaseState | None = None,
        consumer: Address | None = None,
        provider: Address | None = None,
        after: Hash | None = None,
        limit: int = PAGE,
        since: int = 0,
    ) -> list[LeaseRecord]:
        """Leases by (created_at, hash), none created before `since` (ns), all filters together; raises NotFound when
        `after` is no lease."""
        prefix = lease_facet(state, consumer, provider)
        beyond = b"" if after is None else lease_position(self._cursor(after))
        start = prefix + max(beyond, number(since))
        rows = (self._indexed_lease(key) for key, _ in self._frozen.scan(prefix, start))
        return list(islice((item for item in rows if provider in (None, item.provider)), limit))

    def _cursor(self, lease_hash: Hash) -> LeaseRecord:
        lease = self.lease(lease_hash)
        if lease is None:
            raise NotFound("lease_unknown", f"no lease {lease_hash.hex()}: `after` must be the last lease of a page")
        return lease

    def _indexed_lease(self, key: bytes) -> LeaseRecord:
        lease = self.lease(Hash(key[-32:]))
        if lease is None:
            raise corrupt(f"no lease {key[-32:].hex()}, where an index says one")
        return lease

    def state_blocks(
        self, after: int | None = None, limit: int = PAGE, newest_first: bool = False
    ) -> list[StoredState]:
        """State blocks by number: those after that number, or before it going down."""
        start = None if after is None else STATE_BLOCK + number(after)
        rows = self._frozen.scan(STATE_BLOCK, start, newest_first)
        return [unpack_state(value) for _, value in islice(rows, limit)]

    def state_values(self, after: str | None = None, limit: int = PAGE) -> list[tuple[str, str]]:
        """The state map by key: each key with its value as canonical JSON text."""
        rows = self._frozen.scan(STATE_VALUE, None if after is None else STATE_VALUE + after.encode())
        return [(key[1:].decode(), value.decode()) for key, value in islice(rows, limit)]

    def notes(self, space: str, limit: int, after: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """Notes (key, value) of one space in key order; read them before the snapshot is closed."""
        prefix = note_prefix(space)
        rows = self._frozen.scan(prefix, None if after is None else note_key(space, after))
        return ((key[len(prefix) :], value) for key, value in islice(rows, limit))
