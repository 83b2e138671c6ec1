"""Streams and hosts in memory, for protocols under test on virtual time."""

from collections.abc import Callable, Sequence

import trio
import trio.testing

from xnode.core.faults import PeerFault
from xnode.net.network import ConnectedPeer
from xnode.net.ports import StreamHandler
from xnode.net.streams import PeerId, Stream

ALICE = PeerId("alice")
BOB = PeerId("bob")


class MemoryStream(Stream):
    """One end of a pair; a reset of either end shows at both, and discards what was not read."""

    def __init__(self, peer_id: PeerId, inner: trio.StapledStream) -> None:  # type: ignore[type-arg]
        self.peer_id = peer_id
        self.inner = inner
        self.far: MemoryStream | None = None
        self.is_reset = False
        self.on_write: Callable[[bytes], None] = lambda _: None

    def _check(self) -> None:
        if self.is_reset:
            raise PeerFault("stream_reset", "the peer reset the stream")

    async def read(self, count: int) -> bytes:
        await trio.lowlevel.checkpoint()
        self._check()
        try:
            data = bytes(await self.inner.receive_some(count))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise PeerFault("stream_reset", "the stream is gone") from error
        self._check()
        return data

    async def write(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self._check()
        self.on_write(data)
        try:
            await self.inner.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise PeerFault("stream_reset", "the stream is gone") from error

    async def close_write(self) -> None:
        self._check()
        await self.inner.send_eof()

    async def aclose(self) -> None:
        with trio.CancelScope(shield=True):
            if not self.is_reset:
                await self.inner.send_eof()

    async def reset(self) -> None:
        ends = [end for end in (self, self.far) if end is not None and not end.is_reset]
        for end in ends:
            end.is_reset = True
        with trio.CancelScope(shield=True):
            for end in ends:
                await trio.aclose_forcefully(end.inner)


def stream_pair(left: PeerId = ALICE, right: PeerId = BOB, lockstep: bool = False) -> tuple[MemoryStream, MemoryStream]:
    """Two ends, the first held by `left`, so its `peer_id` is `right`. With `lockstep` a write waits for its reader."""
    make = trio.testing.lockstep_stream_pair if lockstep else trio.testing.memory_stream_pair
    inner_left, inner_right = make()
    near, far = MemoryStream(right, inner_left), MemoryStream(left, inner_right)
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
