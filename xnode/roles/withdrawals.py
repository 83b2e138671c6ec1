"""Leases that their consumers have withdrawn: durable, so that no restart of the node accepts one of them.

One is remembered for as long as its consumer relies on it: up to CANCEL_AFTER it asks before it cancels, and from then
on every provider has long given the lease up, withdrawn or not (see `core.provision`).
"""

from typing import Final

from xnode.core.provision import CANCEL_AFTER
from xnode.core.values import Hash
from xnode.store.snapshot import Snapshot
from xnode.store.store import Store

SPACE: Final = "withdrawn"  # note space: lease hash -> when it was created, ns in 8 bytes, big-endian
TIME_BYTES: Final = 8
LOOKED_AT_MAX: Final = 1_000  # notes in one look; the others have their turn in the next ones


class Withdrawals:
    """Withdrawn leases, in the store only: there are few."""

    def __init__(self, store: Store, looked_at_max: int = LOOKED_AT_MAX) -> None:
        self._store = store
        self._looked_at_max = looked_at_max
        self._after: bytes | None = None

    def has(self, lease_hash: Hash) -> bool:
        """Whether this lease was withdrawn."""
        with self._store.snapshot() as view:
            return view.note(SPACE, lease_hash) is not None

    def add(self, lease_hash: Hash, created_at: int) -> None:
        """Withdraws a lease that was created at that time (ns)."""
        with self._store.transaction() as transaction:
            transaction.put_note(SPACE, lease_hash, created_at.to_bytes(TIME_BYTES, "big"))
            transaction.commit()

    def forget_old(self, now: int) -> None:
        """Forgets those that nobody would accept at `now` (ns)."""
        with self._store.snapshot() as view:
            page = list(view.notes(SPACE, self._looked_at_max, self._after))
            gone = [key for key, value in page if now - _created_at(view, key, value) > CANCEL_AFTER]
        self._after = page[-1][0] if len(page) == self._looked_at_max else None
        if gone:
            with self._store.transaction() as transaction:
                for key in gone:
                    transaction.delete_note(SPACE, key)
                transaction.commit()


def _created_at(view: Snapshot, key: bytes, value: bytes) -> int:
    """Earlier versions wrote no time: then the ledger says it, and one that it does not know is old."""
    if value:
        return int.from_bytes(value, "big")
    lease = view.lease(Hash(key))
    return 0 if lease is None else lease.created_at
