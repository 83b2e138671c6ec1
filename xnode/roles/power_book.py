"""Which machines their consumers have switched off: durable, so that no restart of the node boots one of them."""

from collections.abc import Collection
from typing import Final

from xnode.core.values import Hash
from xnode.store.store import Store

SPACE: Final = "switched-off"  # note space: lease hash -> nothing
NOTES_MAX: Final = 10_000  # read at the start


class PowerBook:
    """Leases whose machine is to stay off, in memory and in the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        with store.snapshot() as view:
            self._off = {Hash(key) for key, _ in view.notes(SPACE, NOTES_MAX)}

    def is_off(self, lease_hash: Hash) -> bool:
        """Whether its consumer has switched it off."""
        return lease_hash in self._off

    def switch(self, lease_hash: Hash, *, is_off: bool) -> None:
        """Writes the consumer's wish; nothing where it is the same."""
        if is_off == self.is_off(lease_hash):
            return
        with self._store.transaction() as transaction:
            if is_off:
                transaction.put_note(SPACE, lease_hash, b"")
            else:
                transaction.delete_note(SPACE, lease_hash)
            transaction.commit()
        (self._off.add if is_off else self._off.discard)(lease_hash)

    def keep_only(self, current: Collection[Hash]) -> None:
        """Forgets every lease that is not among these."""
        for lease_hash in self._off - set(current):
            self.switch(lease_hash, is_off=False)
