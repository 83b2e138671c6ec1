"""The ledger as sync sees it: what this node can give (protocol section 10). Blocks leave as they are stored."""

from collections.abc import Iterator, Mapping, Sequence
from heapq import heapify, heappop, heappush
from typing import Final

from xnode.core.hashing import Tag, tagged_hash
from xnode.core.values import ZERO_HASH, Address, Hash
from xnode.net.sync_plan import FORK_BLOCKS, Frontier
from xnode.net.sync_port import Extent, Logged, SyncSource
from xnode.net.sync_ranges import BUCKETS, BUCKETS_PER_PART, FINGERPRINT_BYTES, PARTS, buckets_of, part_of
from xnode.store.counter import SUM_MODULUS
from xnode.store.schema import SUM_BYTES
from xnode.store.snapshot import Snapshot
from xnode.store.store import Store

PAGE: Final = 128  # rows read at once: about 2 ms
LOG_PAGE: Final = 64
NOTHING_YET: Final = b""  # tells sync to let others run

assert BUCKETS == PARTS * BUCKETS_PER_PART


class LedgerSource(SyncSource):
    """Reads the store page by page, so that no snapshot is held while a peer is slow."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._key = store.genesis.network_key

    def extent(self) -> Extent:
        """See SyncSource."""
        with self._store.snapshot() as view:
            tally = view.tally()
        return Extent(tally.digest, tally.blocks, tally.last_arrival)

    def parts(self) -> bytes:
        """See SyncSource."""
        totals = [0] * PARTS
        for bucket, total in self._store.frontier_sums().items():
            totals[bucket // BUCKETS_PER_PART] += total
        return b"".join(map(self._fingerprint, totals))

    def buckets(self, parts: Sequence[int]) -> bytes:
        """See SyncSource."""
        sums = self._store.frontier_sums()
        return b"".join(self._fingerprint(sums.get(bucket, 0)) for part in parts for bucket in buckets_of(part))

    def _fingerprint(self, total: int) -> bytes:
        data = (total % SUM_MODULUS).to_bytes(SUM_BYTES, "big")
        return tagged_hash(self._key, Tag.FRONTIERS, data)[:FINGERPRINT_BYTES]

    def frontiers(self, buckets: Sequence[int]) -> Iterator[Frontier]:
        """See SyncSource."""
        sums = self._store.frontier_sums()
        for bucket in (bucket for bucket in buckets if sums.get(bucket, 0)):  # a search in an empty one takes as long
            after: Address | None = None
            while True:
                with self._store.snapshot() as view:
                    page = view.frontiers_in(bucket, after, PAGE)
                yield from ((item.address, item.height, item.head) for item in page)
                if len(page) < PAGE:
                    break
                after = page[-1].address

    def missing(self, wanted: Mapping[Address, tuple[int, Hash]], limit: int) -> Iterator[bytes]:
        """See SyncSource: a merge of the wanted chains by arrival; only blocks that are sent are read."""
        line: list[tuple[int, Address, int]] = []  # (arrival, account, height) of the next block of each chain
        accounts = list(wanted.items())
        for start in range(0, len(accounts), PAGE):
            with self._store.snapshot() as view:
                for account, known in accounts[start : start + PAGE]:
                    line += _first(view, account, known)
            yield NOTHING_YET
        heapify(line)
        sent = 0
        while line and sent < limit:
            with self._store.snapshot() as view:
                for _ in range(min(PAGE, limit - sent, len(line))):
                    if line:
                        yield from _pop(view, line)
                        sent += 1
            yield NOTHING_YET

    def log(self, parts: frozenset[int], after: int) -> Iterator[Logged]:
        """See SyncSource."""
        while True:
            with self._store.snapshot() as view:
                page = view.wires_since(after, LOG_PAGE)
            for arrival, account, wire in page:
                yield Logged(arrival, wire if part_of(account) in parts else b"")
            if len(page) < LOG_PAGE:
                return
            after = page[-1][0]


def _first(view: Snapshot, account: Address, known: tuple[int, Hash]) -> list[tuple[int, Address, int]]:
    """Where to begin with a chain: above what the asker has, or a little below where the chains differ."""
    height, head = known
    if head != ZERO_HASH:
        standing = view.standing_at(account, height)
        if standing is None or standing.block_hash != head:
            height = max(0, height - FORK_BLOCKS)
    following = view.standing_at(account, height + 1)
    return [] if following is None else [(following.sequence, account, height + 1)]


def _pop(view: Snapshot, line: list[tuple[int, Address, int]]) -> Iterator[bytes]:
    _, account, height = heappop(line)
    following = view.standing_at(account, height + 1)
    if following is not None:
        heappush(line, (following.sequence, account, height + 1))
    wire = view.wire_at(account, height)
    if wire is not None:
        yield wire
