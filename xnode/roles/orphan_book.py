"""Machines whose lease the ledger does not know: how long that has held, durably."""

from collections.abc import Collection
from typing import Final

from xnode.core import orphan
from xnode.core.lease import LeaseRecord
from xnode.core.orphan import OrphanProof, OrphanWatch
from xnode.core.values import NS, Hash
from xnode.store.store import Store

SPACE: Final = "orphan"  # note space: lease hash -> looked_at and unknown_for, 8 bytes each, big-endian
NOTES_MAX: Final = 10_000  # read at the start
WRITE_EVERY: Final = 30 * NS  # of watching: what a node that dies forgets at most
FIELD_BYTES: Final = 8


class OrphanBook:
    """Watches by lease, in memory and in the store; `grace` in s."""

    def __init__(self, store: Store, grace: int) -> None:
        self._store = store
        self._grace = grace
        with store.snapshot() as view:
            self._written = {Hash(key): _read(value) for key, value in view.notes(SPACE, NOTES_MAX)}
        self._watches = dict(self._written)

    def __len__(self) -> int:
        return len(self._watches)

    def look(self, lease_hash: Hash, now: int, *, is_synced: bool) -> bool:
        """Notes that the lease is unknown at `now` (ns); whether the grace is over."""
        watch = orphan.look(self._watches.get(lease_hash), now, is_synced=is_synced)
        self._watches[lease_hash] = watch
        written = self._written.get(lease_hash)
        if written is None or watch.unknown_for - written.unknown_for >= WRITE_EVERY:
            self._write(lease_hash, watch)
        return orphan.is_over(watch, self._grace)

    def prove(self, lease_hash: Hash, lease: LeaseRecord | None, *, is_synced: bool) -> OrphanProof:
        """See `prove_orphaned`."""
        watch = self._watches.get(lease_hash, OrphanWatch(0, 0))
        return orphan.prove_orphaned(lease_hash, lease, watch, self._grace, is_synced=is_synced)

    def keep_only(self, current: Collection[Hash]) -> None:
        """Ends every watch that is not among these: its machine is gone, or its lease has turned up."""
        for lease_hash in self._watches.keys() - set(current):
            del self._watches[lease_hash]
            self._write(lease_hash, None)

    def _write(self, lease_hash: Hash, watch: OrphanWatch | None) -> None:
        with self._store.transaction() as transaction:
            if watch is None:
                transaction.delete_note(SPACE, lease_hash)
                self._written.pop(lease_hash, None)
            else:
                transaction.put_note(SPACE, lease_hash, b"".join(item.to_bytes(FIELD_BYTES, "big") for item in watch))
                self._written[lease_hash] = watch
            transaction.commit()


def _read(value: bytes) -> OrphanWatch:
    looked_at, unknown_for = value[:FIELD_BYTES], value[FIELD_BYTES:]
    return OrphanWatch(int.from_bytes(looked_at, "big"), int.from_bytes(unknown_for, "big"))
