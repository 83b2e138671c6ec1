"""What a provider remembers of its machines' failures: durable, so that a restart of the node forgets none of them."""

from collections.abc import Callable, Collection
from typing import Final

from xnode.core.strikes import NONE, Strikes
from xnode.core.values import Hash
from xnode.store.store import Store

SPACE: Final = "strikes"  # note space: lease hash -> three bytes, the fields of Strikes
NOTES_MAX: Final = 10_000  # read at the start


class StrikeBook:
    """Strikes by lease, in memory and in the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        with store.snapshot() as view:
            self._strikes = {Hash(key): Strikes(*value) for key, value in view.notes(SPACE, NOTES_MAX)}

    def of(self, lease_hash: Hash) -> Strikes:
        """Those of a lease; none where nothing has happened."""
        return self._strikes.get(lease_hash, NONE)

    def update(self, lease_hash: Hash, event: Callable[[Strikes], Strikes]) -> Strikes:
        """Applies one event of core/strikes.py durably; writes nothing where nothing changes."""
        before = self.of(lease_hash)
        after = event(before)
        if after != before:
            self._put({lease_hash: after})
        return after

    def keep_only(self, current: Collection[Hash]) -> None:
        """Forgets every lease that is not among these."""
        gone = self._strikes.keys() - set(current)
        if gone:
            self._put(dict.fromkeys(gone, NONE))

    def _put(self, changes: dict[Hash, Strikes]) -> None:
        with self._store.transaction() as transaction:
            for lease_hash, strikes in changes.items():
                if strikes == NONE:
                    transaction.delete_note(SPACE, lease_hash)
                    self._strikes.pop(lease_hash, None)
                else:
                    transaction.put_note(SPACE, lease_hash, bytes(strikes))
                    self._strikes[lease_hash] = strikes
            transaction.commit()
