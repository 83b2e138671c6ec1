"""Streams and hosts in memory, for protocols under test on virtual time."""

from collections.abc import Callable, Sequence

import trio

from xnode.core.faults import PeerFault
from xnode.net.network import ConnectedPeer
from xnode.net.ports import StreamHandler
from xnode.net.streams import PeerId, Stream

ALICE = PeerId("alice")
BOB = PeerId("bob")
OPENING_STEPS = 4  # that a stream takes to open: by then the other side knows that the one before has ended


class Pipe:
    """Bytes on their way in one direction."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.is_ended = False
        self.news = trio.Event()

    def tell(self) -> None:
        """Wakes the reader."""
        self.news.set()
        self.news = trio.Event()


class MemoryStream(Stream):
    """One end of a pair; a reset of either end shows at both, and discards what was not read."""

    def __init__(self, peer_id: PeerId, incoming: Pipe, outgoing: Pipe) -> None:
        self.peer_id = peer_id
        self.far: MemoryStream | None = None
        self.is_reset = False
        self.on_write: Callable[[bytes], None] = lambda _: None
        self._incoming = incoming
        self._outgoing = outgoing

    def _check(self) -> None:
        if self.is_reset:
            raise PeerFault("stream_reset", "the peer reset the stream")

    async def read(self, count: int) -> bytes:
        pipe = self._incoming
        if pipe.data or pipe.is_ended or self.is_reset:
            await trio.lowlevel.checkpoint()
        while not (pipe.data or pipe.is_ended or self.is_reset):
            await pipe.news.wait()
        self._check()
        data = bytes(pipe.data[:count])
        del pipe.data[:count]
        return data

    async def write(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self._check()
        if self._outgoing.is_ended:
            raise PeerFault("stream_reset", "the stream's writing side was closed")
        self.on_write(data)
        self._outgoing.data += data
        self._outgoing.tell()

    async def close_write(self) -> None:
        await trio.lowlevel.checkpoint()
        self._check()
        self._end()

    async def aclose(self) -> None:
        self._end()
        await trio.lowlevel.cancel_shielded_checkpoint()

    async def reset(self) -> None:
        for end in (self, self.far):
            if end is not None and not end.is_reset:
                end.is_reset = True
                end._incoming.tell()
        await trio.lowlevel.cancel_shielded_checkpoint()

    def _end(self) -> None:
        if not self.is_reset:
            self._outgoing.is_ended = True
            self._outgoing.tell()


def stream_pair(left: PeerId = ALICE, right: PeerId = BOB) -> tuple[MemoryStream, MemoryStream]:
    """Two ends, the first held by `left`, so its `peer_id` is `right`."""
    there, back = Pipe(), Pipe()
    near, far = MemoryStream(right, back, there), MemoryStream(left, there, back)
    near.far, far.far = far, near
    return near, far


class MemoryNetwork:
    """All hosts of a test. A host that is not `up` can't be dialled."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.hosts: dict[PeerId, MemoryHost] = {}

    def host(self, name: str) -> "MemoryHost":
        return self.hosts.setdefault(PeerId(name), MemoryHost(self, PeerId(name)))

    def connect(self, dialler: "MemoryHost", other: "MemoryHost") -> None:
        if other.peer_id in dialler.connected:
            return
        if not other.up or dialler.peer_id in other.banned or other.peer_id in dialler.banned:
            raise PeerFault("peer_unreachable", f"{other.peer_id} can't be reached")
        dialler.link(other.peer_id, True)
        other.link(dialler.peer_id, False)


class MemoryHost:
    """A StreamHost. `crashes` collects what escaped from handlers, which a test should find empty."""

    def __init__(self, network: MemoryNetwork, peer_id: PeerId) -> None:
        self.network = network
        self.peer_id = peer_id
        self.up = True
        self.connected: dict[PeerId, ConnectedPeer] = {}
        self.banned: dict[PeerId, str] = {}
        self.handlers: dict[str, StreamHandler] = {}
        self.callbacks: list[Callable[[PeerId, bool], None]] = []
        self.streams: list[MemoryStream] = []
        self.crashes: list[Exception] = []

    def link(self, peer_id: PeerId, outbound: bool) -> None:
        self.connected[peer_id] = ConnectedPeer(peer_id, f"/memory/{peer_id}", 0)
        for callback in self.callbacks:
            callback(peer_id, outbound)

    def peers(self) -> tuple[ConnectedPeer, ...]:
        return tuple(self.connected[peer_id] for peer_id in sorted(self.connected))

    def serve(self, protocol: str, handler: StreamHandler) -> None:
        self.handlers[protocol] = handler

    def on_connected(self, callback: Callable[[PeerId, bool], None]) -> None:
        self.callbacks.append(callback)

    async def open_stream(
        self, peer_id: PeerId, protocol: str, addresses: Sequence[str] = (), timeout: float = 10
    ) -> MemoryStream:
        for _ in range(OPENING_STEPS):
            await trio.lowlevel.checkpoint()
        other = self.network.host(peer_id)
        self.network.connect(self, other)
        if protocol not in other.handlers:
            raise PeerFault("protocol_unknown", f"{peer_id} does not speak {protocol}")
        near, far = stream_pair(self.peer_id, peer_id)
        self.streams.append(near)
        other.streams.append(far)
        self.network.nursery.start_soon(other.run_handler, other.handlers[protocol], far)
        return near

    async def run_handler(self, handler: StreamHandler, stream: MemoryStream) -> None:
        try:
            await handler(stream)
        except Exception as error:  # noqa: BLE001 - the same guard as the real host's, but it remembers
            self.crashes.append(error)
            await stream.reset()

    async def disconnect(self, peer_id: PeerId) -> None:
        await trio.lowlevel.checkpoint()
        self.connected.pop(peer_id, None)
        self.network.host(peer_id).connected.pop(self.peer_id, None)
        for stream in self.streams:
            if stream.peer_id == peer_id:
                await stream.reset()

    def ban(self, peer_id: PeerId, seconds: float, reason: str) -> None:
        self.banned[peer_id] = reason
        self.network.nursery.start_soon(self.disconnect, peer_id)
