"""Whether this provider takes new leases: the operator's word, which outlives the node."""

from collections.abc import Callable
from typing import Final

from xnode.store.store import Store

SPACE: Final = "drain"  # note space: one key -> since when, ns, 8 bytes big-endian
KEY: Final = b"provider"


class Drain:
    """Off unless the operator has switched it on."""

    def __init__(self, store: Store, clock: Callable[[], int]) -> None:
        self._store = store
        self._clock = clock
        with store.snapshot() as view:
            value = view.note(SPACE, KEY)
        self._since = int.from_bytes(value, "big") if value is not None else 0

    @property
    def since(self) -> int:
        """ns since the epoch; 0 where it takes leases."""
        return self._since

    def switch(self, *, is_on: bool) -> None:
        """Durable once it returns; on again changes nothing."""
        if is_on == bool(self._since):
            return
        since = self._clock() if is_on else 0
        with self._store.transaction() as transaction:
            if is_on:
                transaction.put_note(SPACE, KEY, since.to_bytes(8, "big"))
            else:
                transaction.delete_note(SPACE, KEY)
            transaction.commit()
        self._since = since
