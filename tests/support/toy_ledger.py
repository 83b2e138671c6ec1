"""A ledger of toy blocks, enough for sync: chains that refuse gaps and forks, and an order of arrival."""

from collections.abc import Iterator, Mapping, Sequence

from blake3 import blake3

from xnode.core.codec import decode, encode
from xnode.core.values import Address, Hash
from xnode.net.streams import PeerId
from xnode.net.sync import SyncSink, SyncSource
from xnode.net.sync_plan import Frontier


def account(number: int) -> Address:
    return Address(number.to_bytes(32, "big"))


def toy_block(owner: int, height: int, salt: bytes = b"") -> bytes:
    return encode((account(owner), height, salt))


class ToyLedger(SyncSource, SyncSink):
    """`arrivals` are wire blocks; `tips` the heights; a block that does not fit is refused."""

    def __init__(self, breath: bool = False) -> None:
        self.arrivals: list[bytes] = []
        self.heads: dict[Address, tuple[int, Hash]] = {}
        self.breath = breath
        self.taken: list[PeerId] = []

    def add(self, wire: bytes) -> bool:
        owner, height, _ = decode(wire)
        assert isinstance(owner, bytes)
        assert isinstance(height, int)
        if height != self.height(Address(owner)) + 1:
            return False
        self.heads[Address(owner)] = (height, Hash(blake3(wire).digest()))
        self.arrivals.append(wire)
        return True

    def grow(self, owner: int, count: int, salt: bytes = b"") -> None:
        for _ in range(count):
            assert self.add(toy_block(owner, self.height(account(owner)) + 1, salt))

    def height(self, owner: Address) -> int:
        return self.heads.get(owner, (0, b""))[0]

    def digest(self) -> bytes:
        return blake3(repr(sorted(self.heads.items())).encode()).digest()

    def frontiers(self) -> Iterator[Frontier]:
        for owner, (height, head) in sorted(self.heads.items()):
            yield owner, height, head

    def missing(self, theirs: Mapping[Address, int], limit: int) -> Iterator[bytes]:
        given = 0
        for wire in self.arrivals:
            owner, height, _ = decode(wire)
            assert isinstance(owner, bytes)
            assert isinstance(height, int)
            if height > theirs.get(Address(owner), 0) and given < limit:
                given += 1
                yield wire
            elif self.breath:
                yield b""

    async def take(self, peer_id: PeerId, wires: Sequence[bytes]) -> int:
        self.taken.append(peer_id)
        return sum(self.add(wire) for wire in wires)
