"""Which accounts two ledgers differ in, without sending them all: fingerprints of ranges (protocol section 10).

Theory of operation. Addresses fall into 4096 buckets by their first 12 bits, and 64 neighbouring buckets are a part.
Both sides keep a sum of hashes for each bucket as blocks land, so no comparison walks the ledger. Compared are, each
step only where the one before differs: the digest of everything (32 bytes), the fingerprints of the 64 parts (1 KiB),
those of the buckets of a part (1 KiB each), and at last the frontiers of a bucket themselves.

A liar's fingerprints cost what they make us ask for: bounded by the messages of one session, and by the pauses of the
rota after sessions that brought nothing. Sums of hashes can be made to collide by who makes very many blocks for it;
then two nodes overlook a difference in that bucket until its next block, and nothing worse.
"""

from collections.abc import Collection, Iterable
from typing import Final

from xnode.core.codec import Plain
from xnode.core.faults import PeerFault
from xnode.net.streams import PeerId

PARTS: Final = 64
BUCKETS_PER_PART: Final = 64
BUCKETS: Final = PARTS * BUCKETS_PER_PART
FINGERPRINT_BYTES: Final = 16
PARTS_BYTES: Final = PARTS * FINGERPRINT_BYTES
PARTS_ASKED_MAX: Final = 16  # whose buckets one message carries
BITMAP_BYTES: Final = BUCKETS // 8

ALL_PARTS: Final = frozenset(range(PARTS))


def differing(ours: bytes, theirs: bytes) -> list[int]:
    """The numbers of the fingerprints that differ, of two rows of equal length."""
    starts = range(0, len(ours), FINGERPRINT_BYTES)
    return [
        number
        for number, start in enumerate(starts)
        if ours[start : start + FINGERPRINT_BYTES] != theirs[start : start + FINGERPRINT_BYTES]
    ]


def part_of(account: bytes) -> int:
    """The part that an account is in."""
    return account[0] >> 2


def buckets_of(part: int) -> range:
    """The buckets of a part."""
    return range(part * BUCKETS_PER_PART, (part + 1) * BUCKETS_PER_PART)


def pack_parts(parts: Iterable[int]) -> int:
    """A set of parts as one u64."""
    return sum(1 << part for part in set(parts))


def unpack_parts(mask: int) -> frozenset[int]:
    """The inverse of `pack_parts`."""
    return frozenset(part for part in range(PARTS) if mask >> part & 1)


def pack_buckets(buckets: Iterable[int]) -> bytes:
    """A set of buckets as BITMAP_BYTES bytes."""
    return sum(1 << bucket for bucket in set(buckets)).to_bytes(BITMAP_BYTES, "little")


def unpack_buckets(bitmap: bytes) -> list[int]:
    """The inverse of `pack_buckets`, in order."""
    bits = int.from_bytes(bitmap, "little")
    return [bucket for bucket in range(BUCKETS) if bits >> bucket & 1]


def parse_parts(value: Plain) -> tuple[int, ...]:
    """1 to PARTS_ASKED_MAX parts in rising order, or PeerFault(malformed)."""
    if isinstance(value, tuple) and 1 <= len(value) <= PARTS_ASKED_MAX:
        parts = tuple(item for item in value if type(item) is int and 0 <= item < PARTS)
        if len(parts) == len(value) and list(parts) == sorted(set(parts)):
            return parts
    raise PeerFault("malformed", f"sync: buckets are asked for by 1 to {PARTS_ASKED_MAX} parts in order")


class Shares:
    """Which peer is being asked for which parts, so that no two bring the same blocks at once."""

    def __init__(self) -> None:
        self._held: dict[PeerId, frozenset[int]] = {}

    def take(self, peer: PeerId, wanted: Collection[int], preferred: Collection[int], askable: int) -> frozenset[int]:
        """Gives a peer its share of the parts that differ: of what nobody else has, one of `askable` equal pieces.

        First those that it had before (`preferred`), because there it may go on where it stopped.
        """
        taken = frozenset().union(*(parts for other, parts in self._held.items() if other != peer))
        free = sorted(set(wanted) - taken)
        count = -(-len(free) // max(1, askable))
        ordered = sorted(free, key=lambda part: (part not in preferred, part))
        self._held[peer] = frozenset(ordered[:count])
        return self._held[peer]

    def release(self, peer: PeerId) -> None:
        """The session with this peer is over."""
        self._held.pop(peer, None)

    @property
    def holders(self) -> tuple[PeerId, ...]:
        """The peers that have a share."""
        return tuple(self._held)
