"""Frontier sync without its input and output: messages, their limits, and whose turn it is (protocol section 10).

Theory of operation. The asker sends the digest of its frontiers; if the other side's is equal both are done. Else it
sends its frontiers in pages, sorted by account, and then asks for the blocks that it misses, page by page, with the
number that it wants; so there is never more on its way than was asked for. The answer is exactly that many blocks, in
the order in which they arrived at the other side, until its last page. Every deviation is a PeerFault.
Where both sides have chains of one height with different heads, the other side sends its head, so that the asker's
ledger sees the fork. A session ends after 10,000 blocks; the asker comes again after its other peers had their turn.
"""

from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from itertools import islice
from typing import Final, NamedTuple

from xnode.core.blocks import BLOCK_BYTES_MAX
from xnode.core.codec import Plain
from xnode.core.faults import PeerFault
from xnode.core.values import HASH_BYTES, U64_MAX, Address, Hash
from xnode.net.streams import PeerId

PAGE_BLOCKS: Final = 64  # the first page; each next one is twice as large
PAGE_BLOCKS_MAX: Final = 256
SESSION_BLOCKS_MAX: Final = 10_000
USELESS_BLOCKS_MAX: Final = 1024  # in a row of which our ledger took none, then the session ends
FRONTIERS_PAGE_MAX: Final = 512
FRONTIERS_MAX: Final = 1_000_000  # taken from one asker, and given to one
DIGEST_BYTES: Final = 32
FRONTIERS_FRAME_BYTES_MAX: Final = 64 * 1024  # also the bound of every small message
INTERVAL_SECONDS: Final = 10.0  # between sessions when no peer is new
REST_SECONDS: Final = 20.0  # after a fault, doubled with each further one
REST_SECONDS_MAX: Final = 640.0
PEERS_MAX: Final = 4096  # remembered by the rota

DIGEST: Final = 0
FRONTIERS: Final = 1
ASK: Final = 2
EQUAL: Final = 3
DIFFERENT: Final = 4
BLOCKS: Final = 5

Record = tuple[Plain, ...]
Frontier = tuple[Address, int, Hash]  # account, height (its number of blocks, from 1), hash of its last block


def _malformed(what: str) -> PeerFault:
    return PeerFault("malformed", f"sync: {what}")


def _is_int(value: Plain, low: int, high: int) -> bool:
    return type(value) is int and low <= value <= high


def parse_digest(record: Record) -> bytes:
    """The asker's digest."""
    match record:
        case (kind, bytes(digest)) if _is_int(kind, DIGEST, DIGEST) and len(digest) == DIGEST_BYTES:
            return digest
    raise _malformed("the first message is (0, digest)")


def parse_is_equal(record: Record) -> bool:
    """What the other side says to the digest."""
    if len(record) == 1 and _is_int(record[0], EQUAL, DIFFERENT):
        return record[0] == EQUAL
    raise _malformed("the answer to a digest is (3,) or (4,)")


def frontier_pages(frontiers: Iterable[Frontier]) -> Iterator[Record]:
    """The messages that carry them; the last one says so. Above the limit the rest is left out."""
    rest = islice(frontiers, FRONTIERS_MAX)
    page = tuple(islice(rest, FRONTIERS_PAGE_MAX))
    while True:
        following = tuple(islice(rest, FRONTIERS_PAGE_MAX))
        yield (FRONTIERS, page, not following)
        if not following:
            return
        page = following


class Comparison:
    """The asker's frontiers against ours on the other side, both sorted, so that only what both have is kept."""

    def __init__(self, ours: Iterator[Frontier]) -> None:
        self.heights: dict[Address, int] = {}  # above which the asker should get our blocks; 0 where unnamed
        self._ours = ours
        self._our_next = next(ours, None)
        self._page: list[Frontier] = []  # theirs, the first one last
        self._last_account = b""
        self._count = 0

    def add(self, record: Record) -> bool:
        """Takes one page of theirs; whether it was the last. Raises PeerFault, also for one account too many."""
        match record:
            case (kind, tuple(entries), bool(last)) if _is_int(kind, FRONTIERS, FRONTIERS):
                self._count += len(entries)
                if len(entries) > FRONTIERS_PAGE_MAX or self._count > FRONTIERS_MAX:
                    raise PeerFault("too_many", "sync: too many frontiers")
                if not entries and not last:
                    raise _malformed("an empty page that is not the last")
                self._page = [self._parse(entry) for entry in entries][::-1]
                return last
        raise _malformed("frontiers are (1, entries, last)")

    def _parse(self, entry: Plain) -> Frontier:
        match entry:
            case (bytes(account), height, bytes(head)):
                sizes_fit = len(account) == HASH_BYTES == len(head) and account > self._last_account
                if sizes_fit and isinstance(height, int) and _is_int(height, 1, U64_MAX):
                    self._last_account = account
                    return Address(account), height, Hash(head)
        raise _malformed("a frontier is (account, height, head), sorted by account")

    def advance(self, steps_max: int) -> bool:
        """Compares so many accounts; whether the page is used up, so that the next one may be added."""
        for _ in range(steps_max):
            if not self._page or self._our_next is None:
                return True
            their_account = self._page[-1][0]
            if their_account <= self._our_next[0]:
                self._note(self._page.pop(), self._our_next)
            else:
                self._our_next = next(self._ours, None)
        return False

    def _note(self, theirs: Frontier, ours: Frontier) -> None:
        account, height, head = theirs
        if account == ours[0]:
            is_fork = height == ours[1] and head != ours[2]
            self.heights[account] = height - 1 if is_fork else height


class Asking(NamedTuple):
    """The asker's side once it asks for blocks."""

    asked: int = 0  # on its way
    received: int = 0
    applied: int = 0
    useless: int = 0  # received since one was last applied
    page: int = PAGE_BLOCKS
    is_over: bool = False


def ask(state: Asking) -> tuple[Asking, Record]:
    """Asks for the next page."""
    count = min(state.page, SESSION_BLOCKS_MAX - state.received)
    page = min(2 * state.page, PAGE_BLOCKS_MAX)
    return state._replace(asked=count, page=page), (ASK, count)


def page_bytes_max(count: int) -> int:
    """The longest frame that a page of `count` blocks can be."""
    return 16 + count * (BLOCK_BYTES_MAX + 5)


def on_page(state: Asking, record: Record) -> tuple[Asking, tuple[bytes, ...]]:
    """Takes the page that was asked for."""
    match record:
        case (kind, tuple(items), bool(last)) if _is_int(kind, BLOCKS, BLOCKS):
            wires = tuple(item for item in items if isinstance(item, bytes) and 0 < len(item) <= BLOCK_BYTES_MAX)
            if len(wires) != len(items) or len(set(wires)) != len(wires):
                raise _malformed("a page holds whole blocks, each once")
            if len(wires) > state.asked or (len(wires) < state.asked and not last):
                raise PeerFault("not_asked", f"sync: {len(wires)} blocks came, {state.asked} were asked for")
            received = state.received + len(wires)
            is_over = last or received >= SESSION_BLOCKS_MAX
            return state._replace(asked=0, received=received, is_over=is_over), wires
    raise _malformed("a page is (5, blocks, last)")


def on_applied(state: Asking, sent: int, applied: int) -> Asking:
    """Counts what the ledger took of a page of `sent`. Raises PeerFault(useless) where a peer only costs time."""
    useless = 0 if applied else state.useless + sent
    if useless > USELESS_BLOCKS_MAX:
        raise PeerFault("useless", f"sync: none of the last {useless} blocks could be applied")
    return state._replace(applied=state.applied + applied, useless=useless)


def parse_ask(record: Record, sent: int) -> int:
    """The number of blocks wanted, 1 to 256, by an asker who got `sent` in this session."""
    match record:
        case (kind, int(count)) if _is_int(kind, ASK, ASK) and _is_int(count, 1, PAGE_BLOCKS_MAX):
            if sent + count > SESSION_BLOCKS_MAX:
                raise PeerFault("too_many", f"sync: a session has {SESSION_BLOCKS_MAX} blocks at most")
            return count
    raise _malformed(f"blocks are asked for by (2, count), count at most {PAGE_BLOCKS_MAX}")


class SessionEnd(Enum):
    """How a session ended for the asker."""

    EQUAL = "equal"  # both have the same
    CAUGHT_UP = "caught_up"  # we have got all that the other side had
    MORE = "more"  # there is more to get
    FAULT = "fault"


class Rota:
    """Whose turn it is: new peers first, then those with more to give, then every 10 s the one longest not asked."""

    def __init__(self) -> None:
        self._last: dict[PeerId, float] = {}
        self._ends: dict[PeerId, SessionEnd] = {}
        self._faults: dict[PeerId, int] = {}
        self._last_any = float("-inf")

    def next(self, peers: Sequence[PeerId], now: float) -> PeerId | None:
        """The connected peer to ask now, if any; `now` in s. Faults of peers that left stay remembered, bounded."""
        self._forget(peers)
        ready = sorted((self._last.get(peer, float("-inf")), peer) for peer in peers if self._is_ready(peer, now))
        eager = [peer for _, peer in ready if self._ends.get(peer) in (None, SessionEnd.MORE)]
        if eager:
            return eager[0]
        return ready[0][1] if ready and now >= self._last_any + INTERVAL_SECONDS else None

    def on_end(self, peer: PeerId, end: SessionEnd, now: float) -> None:
        """Notes how a session ended."""
        self._last[peer] = self._last_any = now
        self._ends[peer] = end
        if end is SessionEnd.FAULT:
            self._faults[peer] = self._faults.get(peer, 0) + 1
        else:
            self._faults.pop(peer, None)

    def count(self, end: SessionEnd) -> int:
        """How many connected peers ended their last session so."""
        return sum(1 for known in self._ends.values() if known is end)

    def _is_ready(self, peer: PeerId, now: float) -> bool:
        faults = self._faults.get(peer, 0)
        rest = min(REST_SECONDS * 2 ** min(faults - 1, 16), REST_SECONDS_MAX) if faults else 0.0
        return now >= self._last.get(peer, float("-inf")) + rest

    def _forget(self, peers: Sequence[PeerId]) -> None:
        here = set(peers)
        self._ends = {peer: end for peer, end in self._ends.items() if peer in here}
        if len(self._last) > PEERS_MAX:
            self._last = {peer: at for peer, at in self._last.items() if peer in here}
            self._faults = {peer: count for peer, count in self._faults.items() if peer in here}
