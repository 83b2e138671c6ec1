"""How far the node is with its peers' ledger, for people: in GET /node, in `xnode status`, on the terminal."""

from typing import Final

from xnode.net.sync import Phase, Sync
from xnode.roles.catch_up import CatchUp
from xnode.store.store import Store

UNCONFIRMED_SEEN_MAX: Final = 16  # chains; more are not counted


class SyncView:
    """Looks at sync and what comes after it."""

    def __init__(self, store: Store, sync: Sync, catch_up: CatchUp) -> None:
        self._store = store
        self._sync = sync
        self._catch_up = catch_up
        self._was = Phase.SETTLED

    def document(self) -> dict[str, object]:
        """The field `sync` of GET /node; blocks of all, blocks a second, seconds."""
        state, progress = self._sync.state(), self._sync.progress()
        with self._store.snapshot() as view:
            unconfirmed = len(view.unconfirmed_heads(limit=UNCONFIRMED_SEEN_MAX))
        return {
            "running": state.is_running,
            "received": state.received,
            "applied": state.applied,
            "phase": str(progress.phase),
            "blocks": progress.blocks,
            "target": progress.target,
            "blocks_per_second": round(progress.rate, 1),
            "seconds_left": None if progress.eta is None else round(progress.eta),
            "confirming": self._catch_up.is_running,
            "unconfirmed_chains": unconfirmed,
        }

    def line(self) -> str:
        """One line about progress while much is fetched, and one once it is over; else an empty one."""
        progress = self._sync.progress()
        was, self._was = self._was, progress.phase
        if progress.phase is Phase.CATCHING_UP:
            left = "" if progress.eta is None else f", about {progress.eta:.0f} s left"
            of = f" of about {progress.target:,}" if progress.target > progress.blocks else ""
            return f"ledger: {progress.blocks:,}{of} blocks, {progress.rate:,.0f} a second{left}"
        return f"ledger: caught up, {progress.blocks:,} blocks" if was is Phase.CATCHING_UP else ""
