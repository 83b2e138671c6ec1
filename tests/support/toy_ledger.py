"""A ledger of toy blocks, enough for sync: chains that refuse gaps and forks, and an order of arrival."""

from collections.abc import Iterator, Mapping, Sequence

import trio
from blake3 import blake3

from xnode.core.codec import decode, encode
from xnode.core.values import Address, Hash
from xnode.net.streams import PeerId
from xnode.net.sync_plan import FORK_BLOCKS, Frontier, Resume, Taken
from xnode.net.sync_port import Extent, Logged, SyncSink, SyncSource
from xnode.net.sync_ranges import BUCKETS, FINGERPRINT_BYTES, PARTS, buckets_of, part_of


def account(number: int) -> Address:
    """The accounts of a test are spread over all parts."""
    return Address(blake3(number.to_bytes(8, "big")).digest())


def toy_block(owner: int, height: int, salt: bytes = b"") -> bytes:
    return encode((account(owner), height, salt))


def bucket_of(owner: Address) -> int:
    return int.from_bytes(owner[:2], "big") >> 4


class ToyLedger(SyncSource, SyncSink):
    """`arrivals` are wire blocks; a block that does not fit is refused, or held where it comes too early."""

    def __init__(self, breath: bool = False) -> None:
        self.arrivals: list[bytes] = []
        self.chains: dict[Address, list[bytes]] = {}
        self.early: dict[tuple[Address, int], bytes] = {}
        self.breath = breath
        self.taken: list[PeerId] = []
        self.resumes: dict[PeerId, Resume] = {}
        self.crowded = False
        self.row = [bytes(FINGERPRINT_BYTES)] * BUCKETS
        self.members: dict[int, list[Frontier]] = {}
        self.summed = 0  # arrivals that the row covers
        self.seconds = 0.0  # that it takes to check a page

    @property
    def heads(self) -> dict[Address, tuple[int, Hash]]:
        return {owner: (len(chain), _head(chain)) for owner, chain in self.chains.items()}

    def add(self, wire: bytes) -> str:
        owner, height = _place(wire)
        chain = self.chains.get(owner, [])
        if height <= len(chain):
            return "known" if chain[height - 1] == wire else "refused"
        if height > len(chain) + 1:
            self.early[(owner, height)] = wire
            return "held"
        self.chains.setdefault(owner, []).append(wire)
        self.arrivals.append(wire)
        following = self.early.pop((owner, height + 1), None)
        if following is not None:
            self.add(following)
        return "applied"

    def grow(self, owner: int, count: int, salt: bytes = b"") -> None:
        for _ in range(count):
            assert self.add(toy_block(owner, self.height(account(owner)) + 1, salt)) == "applied"

    def height(self, owner: Address) -> int:
        return len(self.chains.get(owner, ()))

    def extent(self) -> Extent:
        return Extent(blake3(b"".join(self._fingerprints())).digest(), len(self.arrivals), len(self.arrivals))

    def _fingerprints(self) -> list[bytes]:
        if self.summed != len(self.arrivals):
            self.summed = len(self.arrivals)
            self.members = members = {}
            for owner, (height, head) in sorted(self.heads.items()):
                members.setdefault(bucket_of(owner), []).append((owner, height, head))
            self.row = [bytes(FINGERPRINT_BYTES)] * BUCKETS
            for bucket, item in members.items():
                self.row[bucket] = blake3(repr(item).encode()).digest(length=FINGERPRINT_BYTES)
        return self.row

    def parts(self) -> bytes:
        row = self._fingerprints()
        parts = (b"".join(row[bucket] for bucket in buckets_of(part)) for part in range(PARTS))
        return b"".join(blake3(item).digest(length=FINGERPRINT_BYTES) for item in parts)

    def buckets(self, parts: Sequence[int]) -> bytes:
        row = self._fingerprints()
        return b"".join(row[bucket] for part in parts for bucket in buckets_of(part))

    def frontiers(self, buckets: Sequence[int]) -> Iterator[Frontier]:
        self._fingerprints()
        for bucket in buckets:
            yield from self.members.get(bucket, ())

    def missing(self, wanted: Mapping[Address, tuple[int, Hash]], limit: int) -> Iterator[bytes]:
        given = 0
        starts = {owner: self._start(owner, known) for owner, known in wanted.items()}
        for wire in self.arrivals:
            owner, height = _place(wire)
            if owner in starts and height > starts[owner] and given < limit:
                given += 1
                yield wire
            elif self.breath:
                yield b""

    def _start(self, owner: Address, known: tuple[int, Hash]) -> int:
        height, head = known
        chain = self.chains[owner]
        is_same = height == 0 or (len(chain) >= height and _head(chain[:height]) == head)
        return height if is_same else max(0, height - FORK_BLOCKS)

    def log(self, parts: frozenset[int], after: int) -> Iterator[Logged]:
        for number in range(after, len(self.arrivals)):
            wire = self.arrivals[number]
            yield Logged(number + 1, wire if part_of(_place(wire)[0]) in parts else b"")

    def start(self, peer_id: PeerId, wires: Sequence[bytes]) -> "ToyPage":
        self.taken.append(peer_id)
        return ToyPage(self, peer_id, wires)

    def flush(self) -> None:
        pass

    def resume(self, peer_id: PeerId) -> Resume | None:
        return self.resumes.get(peer_id)

    def is_crowded(self) -> bool:
        return self.crowded


class ToyPage:
    def __init__(self, ledger: ToyLedger, peer_id: PeerId, wires: Sequence[bytes]) -> None:
        self.ledger = ledger
        self.peer_id = peer_id
        self.wires = wires

    async def land(self, resume: Resume | None) -> Taken:
        await trio.sleep(self.ledger.seconds)
        before = len(self.ledger.arrivals)
        outcomes = [self.ledger.add(wire) for wire in self.wires]
        if resume is not None:
            self.ledger.resumes[self.peer_id] = resume
        applied = len(self.ledger.arrivals) - before
        return Taken(applied, *(outcomes.count(name) for name in ("known", "held", "refused")))


def _place(wire: bytes) -> tuple[Address, int]:
    owner, height, _ = decode(wire)
    assert isinstance(owner, bytes)
    assert isinstance(height, int)
    return Address(owner), height


def _head(chain: list[bytes]) -> Hash:
    return Hash(blake3(chain[-1]).digest())
