"""The ledger as sync sees it: what this node can give, and where fetched blocks go (protocol section 10)."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from xnode.core.blocks import encode_block
from xnode.core.codec import Malformed
from xnode.core.faults import PeerFault
from xnode.core.values import Address
from xnode.net.streams import PeerId
from xnode.net.sync import SyncSink, SyncSource
from xnode.net.sync_plan import Frontier
from xnode.roles.replica import Replica
from xnode.store.records import StoredBlock
from xnode.store.store import Store

PAGE: Final = 256  # rows read at once
NOTHING_YET: Final = b""  # tells sync to let others run


class LedgerSource(SyncSource):
    """Reads the store page by page, so that no snapshot is held while a peer is slow."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def digest(self) -> bytes:
        """Equal where all frontiers are."""
        with self._store.snapshot() as view:
            return view.frontiers_digest()

    def frontiers(self) -> Iterator[Frontier]:
        """All chains' ends by account."""
        after: Address | None = None
        while True:
            with self._store.snapshot() as view:
                page = view.frontiers(after, PAGE)
            yield from ((item.address, item.height, item.head) for item in page)
            if len(page) < PAGE:
                return
            after = page[-1].address

    def missing(self, theirs: Mapping[Address, int], limit: int) -> Iterator[bytes]:
        """The blocks above these heights in our order of arrival, from the first that is missing on."""
        sequence, found = self._before_first(theirs), 0
        while found < limit:
            with self._store.snapshot() as view:
                page = view.blocks_since(sequence, PAGE)
            wanted = [item for item in page if item.height > theirs.get(item.block.account, 0)]
            yield from (encode_block(item.block) for item in wanted[: limit - found])
            found += len(wanted)
            if len(page) < PAGE:
                return
            sequence = page[-1].sequence
            yield NOTHING_YET

    def _before_first(self, theirs: Mapping[Address, int]) -> int:
        firsts: list[StoredBlock] = []
        with self._store.snapshot() as view:
            for account, height, _head in self.frontiers():
                known = theirs.get(account, 0)
                if known < height:
                    first = view.block_at(account, known + 1)
                    firsts += [first] if first is not None else []
        return min((item.sequence for item in firsts), default=1) - 1


class LedgerSink(SyncSink):
    """Applies a page as one batch."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica

    async def take(self, peer_id: PeerId, wires: Sequence[bytes]) -> int:
        """How many were new and good; raises PeerFault(malformed) for bytes that are no block."""
        try:
            return self._replica.take_synced(wires)
        except Malformed as error:
            raise PeerFault("malformed", f"{peer_id} sent what is no block: {error}") from error
