"""A sync session without its input and output: messages and their limits (protocol section 10).

Theory of operation. The asker sends the digest of its frontiers; if the other side's is equal both are done. Else it
learns where they differ (sync_ranges.py) and says in one of two ways what it wants, once a session:

- Follow: all blocks of some parts in the order in which they arrived at the other side, after a given arrival number.
  Each page says up to which number it goes, so that a session, or a process that was killed, goes on where it was. For
  who lacks much: nothing is compared, nobody holds state, and blocks come after those that they rest on.
- Exact: it sends its frontiers of the buckets that differ, and gets what is above them. For who lacks little.

Then it asks for blocks, page by page, with the number that it wants; so there is never more on its way than was asked
for. Every deviation is a PeerFault. Where both sides' chains differ at one height, the other side sends a few blocks
from below its head on, so that the asker's ledger sees the fork. A session ends after 10,000 blocks.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final, NamedTuple

from xnode.core.blocks import BLOCK_BYTES_MAX
from xnode.core.codec import Plain
from xnode.core.faults import PeerFault
from xnode.core.values import HASH_BYTES, U64_MAX, Address, Hash
from xnode.net.sync_ranges import BITMAP_BYTES, BUCKETS_PER_PART, FINGERPRINT_BYTES, PARTS_BYTES

PAGE_BLOCKS: Final = 64  # the first page; each next one is twice as large
PAGE_BLOCKS_MAX: Final = 256
PAGES_AHEAD: Final = 4  # asked for before the first of them is applied
SESSION_BLOCKS_MAX: Final = 10_000
SESSION_PAGES_MAX: Final = 400  # also empty ones
USELESS_BLOCKS_MAX: Final = 1024  # in a row that our ledger refused, then the session ends
FRONTIERS_PAGE_MAX: Final = 512
FRONTIERS_SENT: Final = 20_000  # in one session; but a bucket is always sent whole
FRONTIERS_MAX: Final = 1_000_000  # taken from one asker
WANTED_MAX: Final = 10_000  # chains that are looked at for one asker in one session
FORK_BLOCKS: Final = 16  # sent from below a height at which the chains differ
DIGEST_BYTES: Final = 32
SMALL_BYTES_MAX: Final = 64 * 1024  # the bound of every message without blocks
FOLLOW_BEHIND_MIN: Final = 1_000  # blocks that the other side has more, from which on it is followed

DIGEST: Final = 0
FRONTIERS: Final = 1
ASK: Final = 2
EQUAL: Final = 3
DIFFERENT: Final = 4
BLOCKS: Final = 5
ASK_BUCKETS: Final = 6
BUCKETS: Final = 7
FOLLOW: Final = 8
EXACT: Final = 9

Record = tuple[Plain, ...]
Frontier = tuple[Address, int, Hash]  # account, height (its number of blocks, from 1), hash of its last block


class Summary(NamedTuple):
    """What the other side says of its ledger where it differs from ours; none of it is proven."""

    parts: bytes  # a fingerprint each
    blocks: int
    last_arrival: int


class Resume(NamedTuple):
    """How far a peer has been followed: these parts (as a mask) up to its arrival number `after`."""

    mask: int
    after: int


class Taken(NamedTuple):
    """What became of fetched blocks: new and good, known before, held until another one comes, refused."""

    applied: int = 0
    known: int = 0
    held: int = 0
    refused: int = 0


def malformed(what: str) -> PeerFault:
    """The fault of a message that is not one."""
    return PeerFault("malformed", f"sync: {what}")


def is_int(value: Plain, low: int, high: int) -> bool:
    """Whether it is an integer in these bounds, and no bool."""
    return type(value) is int and low <= value <= high


def parse_digest(record: Record) -> bytes:
    """The asker's digest."""
    match record:
        case (kind, bytes(digest)) if is_int(kind, DIGEST, DIGEST) and len(digest) == DIGEST_BYTES:
            return digest
    raise malformed("the first message is (0, digest)")


def parse_summary(record: Record) -> Summary | None:
    """What the other side says to the digest; None where all is equal."""
    match record:
        case (kind,) if is_int(kind, EQUAL, EQUAL):
            return None
        case (kind, bytes(parts), int(blocks), int(last)) if is_int(kind, DIFFERENT, DIFFERENT):
            if len(parts) == PARTS_BYTES and is_int(blocks, 0, U64_MAX) and is_int(last, 0, U64_MAX):
                return Summary(parts, blocks, last)
    raise malformed("the answer to a digest is (3,) or (4, fingerprints, blocks, last arrival)")


def parse_buckets(record: Record, parts: int) -> bytes:
    """The fingerprints of the buckets of so many parts."""
    match record:
        case (kind, bytes(row)) if is_int(kind, BUCKETS, BUCKETS):
            if len(row) == parts * BUCKETS_PER_PART * FINGERPRINT_BYTES:
                return row
    raise malformed("buckets are (7, fingerprints)")


def parse_follow(record: Record) -> Resume:
    """What an asker wants that follows."""
    match record:
        case (kind, mask, after) if is_int(kind, FOLLOW, FOLLOW) and is_int(mask, 1, U64_MAX):
            if isinstance(mask, int) and isinstance(after, int) and is_int(after, 0, U64_MAX):
                return Resume(mask, after)
    raise malformed("following is (8, parts, after)")


def parse_exact(record: Record) -> bytes:
    """The bitmap of the buckets whose frontiers follow."""
    match record:
        case (kind, bytes(bitmap)) if is_int(kind, EXACT, EXACT) and len(bitmap) == BITMAP_BYTES:
            return bitmap
    raise malformed("exact is (9, bitmap of buckets)")


def frontier_pages(frontiers: Iterable[Frontier]) -> Iterator[Record]:
    """The messages that carry them; the last one says so."""
    rest = iter(frontiers)
    page = tuple(islice(rest, FRONTIERS_PAGE_MAX))
    while True:
        following = tuple(islice(rest, FRONTIERS_PAGE_MAX))
        yield (FRONTIERS, page, not following)
        if not following:
            return
        page = following


class Comparison:
    """The asker's frontiers against ours of the same buckets, both sorted; only chains of which we have more are kept.

    `wanted` maps an account to the height and head of the asker's chain (0 and zeros: none), WANTED_MAX at most.
    """

    def __init__(self, ours: Iterator[Frontier]) -> None:
        self.wanted: dict[Address, tuple[int, Hash]] = {}
        self._ours = ours
        self._our_next = next(ours, None)
        self._page: list[Frontier] = []  # theirs, the first one last
        self._is_last = False
        self._last_account = b""
        self._count = 0

    def add(self, record: Record) -> bool:
        """Takes one page of theirs; whether it was the last. Raises PeerFault, also for one account too many."""
        match record:
            case (kind, tuple(entries), bool(last)) if is_int(kind, FRONTIERS, FRONTIERS):
                self._count += len(entries)
                if len(entries) > FRONTIERS_PAGE_MAX or self._count > FRONTIERS_MAX:
                    raise PeerFault("too_many", "sync: too many frontiers")
                if not entries and not last:
                    raise malformed("an empty page that is not the last")
                self._page = [self._parse(entry) for entry in entries][::-1]
                self._is_last = last
                return last
        raise malformed("frontiers are (1, entries, last)")

    def _parse(self, entry: Plain) -> Frontier:
        match entry:
            case (bytes(account), height, bytes(head)):
                sizes_fit = len(account) == HASH_BYTES == len(head) and account > self._last_account
                if sizes_fit and isinstance(height, int) and is_int(height, 1, U64_MAX):
                    self._last_account = account
                    return Address(account), height, Hash(head)
        raise malformed("a frontier is (account, height, head), sorted by account")

    def advance(self, steps_max: int) -> bool:
        """Compares so many accounts; whether the page is used up, so that the next one may be added."""
        for _ in range(steps_max):
            ours = self._our_next
            theirs = self._page[-1] if self._page else None
            if ours is None or len(self.wanted) >= WANTED_MAX or (theirs is None and not self._is_last):
                return True
            if theirs is not None and theirs[0] < ours[0]:
                self._page.pop()
                continue
            is_same = theirs is not None and theirs[0] == ours[0]
            self._note(ours, self._page.pop() if is_same else (ours[0], 0, Hash(bytes(HASH_BYTES))))
            self._our_next = next(self._ours, None)
        return False

    def _note(self, ours: Frontier, theirs: Frontier) -> None:
        account, height, head = theirs
        if ours[1] > height or (ours[1] == height and ours[2] != head):
            self.wanted[account] = (height, head)


class Asking(NamedTuple):
    """The asker's side once it asks for blocks."""

    follows: bool
    asked: tuple[int, ...] = ()  # pages on their way
    received: int = 0
    pages: int = 0
    after: int = 0  # the arrival number that the last page reached
    page: int = PAGE_BLOCKS
    is_over: bool = False
    is_last: bool = False  # because the other side has no more of it, and not because a session has an end
    taken: Taken = Taken()
    refused: int = 0  # since one was last of use


def may_ask(state: Asking) -> bool:
    """Whether another page may be asked for before those on their way have come."""
    coming = state.received + sum(state.asked)
    is_bounded = coming < SESSION_BLOCKS_MAX and state.pages + len(state.asked) < SESSION_PAGES_MAX
    return not state.is_over and len(state.asked) < PAGES_AHEAD and is_bounded


def ask(state: Asking) -> tuple[Asking, Record]:
    """Asks for the next page."""
    count = min(state.page, SESSION_BLOCKS_MAX - state.received - sum(state.asked))
    page = min(2 * state.page, PAGE_BLOCKS_MAX)
    return state._replace(asked=(*state.asked, count), page=page), (ASK, count)


def page_bytes_max(count: int) -> int:
    """The longest frame that a page of `count` blocks can be."""
    return 32 + count * (BLOCK_BYTES_MAX + 5)


def on_page(state: Asking, record: Record) -> tuple[Asking, tuple[bytes, ...]]:
    """Takes the page that was asked for first."""
    match record:
        case (kind, tuple(items), int(after), bool(last)) if is_int(kind, BLOCKS, BLOCKS):
            wires = tuple(item for item in items if isinstance(item, bytes) and 0 < len(item) <= BLOCK_BYTES_MAX)
            if len(wires) != len(items) or len(set(wires)) != len(wires) or not is_int(after, 0, U64_MAX):
                raise malformed("a page holds whole blocks, each once")
            _check_amount(state, len(wires), after, last)
            asked, received = state.asked[1:], state.received + len(wires)
            pages = state.pages + 1
            is_over = last or (not asked and (received >= SESSION_BLOCKS_MAX or pages >= SESSION_PAGES_MAX))
            state = state._replace(asked=asked, received=received, pages=pages, after=after)
            return state._replace(is_over=is_over, is_last=last), wires
    raise malformed("a page is (5, blocks, arrival number, last)")


def _check_amount(state: Asking, count: int, after: int, last: bool) -> None:
    """Only a page of a log in which most is of other parts may be short, and it must have got on."""
    is_short_allowed = last or (state.follows and after > state.after)
    if count > state.asked[0] or (count < state.asked[0] and not is_short_allowed):
        raise PeerFault("not_asked", f"sync: {count} blocks came, {state.asked[0]} were asked for")
    if state.follows and after < state.after:
        raise malformed("arrival numbers go back")


def on_taken(state: Asking, taken: Taken) -> Asking:
    """Counts what the ledger took of a page. Raises PeerFault(useless) where a peer only costs time."""
    refused = 0 if taken.applied or taken.known else state.refused + taken.refused
    if refused > USELESS_BLOCKS_MAX:
        raise PeerFault("useless", f"sync: none of the last {refused} blocks could be applied")
    total = Taken(*(old + new for old, new in zip(state.taken, taken, strict=True)))
    return state._replace(taken=total, refused=refused)


def parse_ask(record: Record, sent: int) -> int:
    """The number of blocks wanted, 1 to 256, by an asker who got `sent` in this session."""
    match record:
        case (kind, int(count)) if is_int(kind, ASK, ASK) and is_int(count, 1, PAGE_BLOCKS_MAX):
            if sent + count > SESSION_BLOCKS_MAX:
                raise PeerFault("too_many", f"sync: a session has {SESSION_BLOCKS_MAX} blocks at most")
            return count
    raise malformed(f"blocks are asked for by (2, count), count at most {PAGE_BLOCKS_MAX}")


def resume_from(known: Resume | None, share: Iterable[int], ours: int, theirs: Summary) -> Resume | None:
    """Where to follow a peer from; None for an exact session. `ours` counts our blocks, `known` is how far we were."""
    mask = sum(1 << part for part in share)
    if known is not None and known.mask & mask and theirs.last_arrival >= known.after + FOLLOW_BEHIND_MIN:
        return Resume(known.mask & mask, known.after)
    is_far_behind = theirs.blocks >= 2 * ours + FOLLOW_BEHIND_MIN
    return Resume(mask, 0) if known is None and is_far_behind else None
