"""The networks of many nodes in one trio run, on virtual time, with loss, delay and partitions from a seeded random.

`MemoryNetwork` has the methods of `xnode.net.network.Network` and its gossip goes the same way: a message that is new
is admitted, judged and delivered by the real `GossipJudge`, and passed on only if it was accepted.
"""

from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache
from hashlib import sha256
from random import Random
from typing import NamedTuple

import trio

from tests.support.streams import MemoryStream, stream_pair
from xnode.core.faults import CallerFault, PeerFault
from xnode.net.gossip import Bans, GossipJudge, Topic
from xnode.net.network import ConnectedPeer
from xnode.net.ports import StreamHandler
from xnode.net.streams import PeerId

REDIAL_SECONDS = 2.0
IDENTITIES_MAX = 1024  # remembered: a message is heard many times within a short time
UNSENT_MAX = 256  # own gossip that waits for the first peer, as in the real one


class Weather(NamedTuple):
    """What happens between nodes: `loss` is the chance of each gossip hop to fail, delays are in seconds."""

    loss: float = 0.0
    delay_min: float = 0.01
    delay_max: float = 0.05


class Internet:
    """All hosts that are up, and who can reach whom."""

    def __init__(self, seed: int = 1, weather: Weather = Weather()) -> None:  # noqa: B008  it is immutable
        self.random = Random(seed)
        self.weather = weather
        self.hosts: dict[PeerId, MemoryNetwork] = {}
        self._island: frozenset[PeerId] = frozenset()

    def delay(self) -> float:
        """Seconds for one hop."""
        return self.random.uniform(self.weather.delay_min, self.weather.delay_max)

    def loses(self) -> bool:
        """Whether this hop fails."""
        return self.random.random() < self.weather.loss

    def hops(self, _sender: PeerId, _receiver: PeerId, _topic: str, _data: bytes) -> Sequence[float]:
        """When a gossip message arrives, in seconds from now: once, or never."""
        return () if self.loses() else (self.delay(),)

    def carry(self, sender: "MemoryNetwork", receiver: PeerId, topic: str, data: bytes, delay: float) -> None:
        """Sends a gossip message on its way."""
        sender.carry(receiver, topic, data, delay)

    def on_heard(self, sender: PeerId, receiver: PeerId, topic: str, data: bytes) -> None:
        """Told of every gossip message that arrives, also of one that is no news."""

    def on_stream(self, near: MemoryStream, far: MemoryStream, protocol: str) -> None:
        """Told of every stream that is opened."""

    def is_cut(self, left: PeerId, right: PeerId) -> bool:
        """Whether a partition lies between them."""
        return (left in self._island) != (right in self._island)

    async def part(self, island: Collection[PeerId]) -> None:
        """Cuts the nodes of `island` off from all others; an empty one heals."""
        self._island = frozenset(island)
        for host in list(self.hosts.values()):
            for peer in host.peers():
                if self.is_cut(host.peer_id, peer.peer_id):
                    await host.disconnect(peer.peer_id)


class MemoryNetwork:
    """One node's side. `crashes` has what escaped from stream handlers, which a test should find empty."""

    def __init__(
        self,
        internet: Internet,
        peer_id: PeerId,
        topics: Mapping[str, Topic],
        clock: Callable[[], int],
        nursery: trio.Nursery,
    ) -> None:
        self.internet = internet
        self.peer_id = peer_id
        self.addresses: tuple[str, ...] = (f"/memory/{peer_id}/p2p/{peer_id}",)
        self.counters: Counter[str] = Counter()
        self.crashes: list[Exception] = []
        self.relays = True  # passes on what it hears
        self._clock = clock
        self._nursery = nursery
        self._bans = Bans(clock)
        self._judge = GossipJudge(topics, clock, self._bans, self.ban, self.counters)
        self._seen: set[bytes] = set()
        self._unsent: deque[tuple[str, bytes]] = deque(maxlen=UNSENT_MAX)
        self._peers: dict[PeerId, ConnectedPeer] = {}
        self._kept: list[PeerId] = []
        self._sorted: tuple[ConnectedPeer, ...] = ()
        self._handlers: dict[str, StreamHandler] = {}
        self._callbacks: list[Callable[[PeerId, bool], None]] = []
        self._streams: list[MemoryStream] = []

    def peers(self) -> tuple[ConnectedPeer, ...]:
        if len(self._sorted) != len(self._peers):
            self._sorted = tuple(self._peers[peer_id] for peer_id in sorted(self._peers))
        return self._sorted

    @property
    def seeks_peers(self) -> bool:
        return bool(self._kept)

    def forget(self, peer_id: PeerId) -> None:
        """It is no peer any more."""
        self._peers.pop(peer_id, None)
        self._sorted = ()

    async def publish(self, topic: str, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self._seen.add(_identity(topic, data))
        if not self._peers:
            self._unsent.append((topic, data))
        self._pass_on(topic, data, self.peer_id)

    def serve(self, protocol: str, handler: StreamHandler) -> None:
        self._handlers[protocol] = handler

    def on_connected(self, callback: Callable[[PeerId, bool], None]) -> None:
        self._callbacks.append(callback)

    def add_peer(self, multiaddr: str) -> None:
        name = multiaddr.rpartition("/p2p/")[2]
        if not name or name == multiaddr:
            raise CallerFault("bad_peer_address", f"{multiaddr} names no peer")
        self._kept.append(PeerId(name))
        if len(self._kept) == 1:
            self._nursery.start_soon(self._keep_dialled)

    async def open_stream(
        self, peer_id: PeerId, protocol: str, addresses: Sequence[str] = (), timeout: float = 10
    ) -> MemoryStream:
        await trio.sleep(timeout if self.internet.is_cut(self.peer_id, peer_id) else self.internet.delay())
        if peer_id not in self._peers and not (addresses and self.dial(peer_id)):
            raise PeerFault("peer_unreachable", f"{peer_id} can't be reached", retryable=True)
        return self.internet.hosts[peer_id].take_stream(self, protocol)

    def take_stream(self, caller: "MemoryNetwork", protocol: str) -> MemoryStream:
        """The caller's end of a stream that is served here."""
        if protocol not in self._handlers:
            raise PeerFault("protocol_refused", f"{self.peer_id} does not serve {protocol}")
        near, far = stream_pair(caller.peer_id, self.peer_id)
        self.internet.on_stream(near, far, protocol)
        caller._streams.append(near)
        self._streams.append(far)
        self._nursery.start_soon(self._run_handler, self._handlers[protocol], far)
        return near

    def dial(self, peer_id: PeerId) -> bool:
        """Connects, unless the peer is away, cut off, or one has banned the other."""
        other = self.internet.hosts.get(peer_id)
        is_up = self.internet.hosts.get(self.peer_id) is self
        if not is_up or other is None or other is self or self.internet.is_cut(self.peer_id, peer_id):
            return False
        if peer_id in self._bans or self.peer_id in other._bans:
            return False
        if peer_id not in self._peers:
            self._link(peer_id, True)
            other._link(self.peer_id, False)
        return True

    async def disconnect(self, peer_id: PeerId) -> None:
        other = self.internet.hosts.get(peer_id)
        for host, far in ((self, peer_id), (other, self.peer_id)):
            if host is not None:
                host.forget(far)
        await self.reset_streams(peer_id)

    async def reset_streams(self, peer_id: PeerId) -> None:
        """Ends all streams with a peer, which stays connected."""
        other = self.internet.hosts.get(peer_id)
        for host, far in ((self, peer_id), (other, self.peer_id)):
            for stream in [item for item in host._streams if item.peer_id == far] if host is not None else []:
                await stream.reset()

    def ban(self, peer_id: PeerId, seconds: float, reason: str) -> None:
        self.counters["peers_banned"] += 1
        self._bans.add(peer_id, seconds)
        self._nursery.start_soon(self.disconnect, peer_id)

    async def shut(self) -> None:
        """Leaves: every peer sees its streams reset."""
        with trio.CancelScope(shield=True):
            for peer in self.peers():
                await self.disconnect(peer.peer_id)

    def _link(self, peer_id: PeerId, outbound: bool) -> None:
        self._peers[peer_id] = ConnectedPeer(peer_id, f"/memory/{peer_id}", self._clock())
        self._sorted = ()
        for callback in self._callbacks:
            callback(peer_id, outbound)
        while self._unsent:
            self._pass_on(*self._unsent.popleft(), self.peer_id)

    async def _keep_dialled(self) -> None:
        while True:
            for peer_id in self._kept:
                self.dial(peer_id)
            await trio.sleep(REDIAL_SECONDS)

    async def _run_handler(self, handler: StreamHandler, stream: MemoryStream) -> None:
        try:
            await handler(stream)
        except Exception as error:  # noqa: BLE001  the same guard as the real network's, but it remembers
            self.crashes.append(error)
            await stream.reset()
        finally:
            self._streams.remove(stream)
            other = self.internet.hosts.get(stream.peer_id)
            if other is not None and stream.far in other._streams:
                other._streams.remove(stream.far)

    def _pass_on(self, topic: str, data: bytes, source: PeerId) -> None:
        for peer in self.peers():
            if peer.peer_id != source:
                self.whisper(peer.peer_id, topic, data)

    def whisper(self, peer_id: PeerId, topic: str, data: bytes) -> None:
        """Gossips to one peer only."""
        for delay in self.internet.hops(self.peer_id, peer_id, topic, data):
            self.internet.carry(self, peer_id, topic, data, delay)

    def carry(self, peer_id: PeerId, topic: str, data: bytes, delay: float) -> None:
        """Delivers to a peer, by a task of its own."""
        self._nursery.start_soon(self._hop, peer_id, topic, data, delay)

    async def _hop(self, peer_id: PeerId, topic: str, data: bytes, delay: float) -> None:
        await trio.sleep(delay)
        self.deliver(peer_id, topic, data)

    def deliver(self, peer_id: PeerId, topic: str, data: bytes) -> None:
        """The message arrives, if the peer is still connected."""
        if peer_id in self._peers:
            self.internet.hosts[peer_id].take(self.peer_id, topic, data)

    def take(self, forwarder: PeerId, topic: str, data: bytes) -> None:
        """A message arrives. It costs at most itself, as in the real network; what is worse ends this node only."""
        self.internet.on_heard(forwarder, self.peer_id, topic, data)
        try:
            self._hear(forwarder, topic, data)
        except Exception as error:  # noqa: BLE001  the same guard as the real network's, but it remembers
            self.crashes.append(error)
        except BaseException as error:  # noqa: BLE001  a power cut of the simulator's
            self._nursery.start_soon(_raise, error)

    def vanish(self) -> None:
        """From this moment on nothing goes in or out; for a node whose power goes."""
        if self.internet.hosts.get(self.peer_id) is self:
            del self.internet.hosts[self.peer_id]
        for host in self.internet.hosts.values():
            host.forget(self.peer_id)
        self._peers.clear()
        self._sorted = ()

    def _hear(self, forwarder: PeerId, topic: str, data: bytes) -> None:
        identity = _identity(topic, data)
        if identity in self._seen or not self._judge.admit(forwarder, topic, len(data)):  # type: ignore[arg-type]
            return
        if self._judge.take(forwarder, topic, data, identity):  # type: ignore[arg-type]
            self._seen.add(identity)
            if self.relays:
                self._pass_on(topic, data, forwarder)


@asynccontextmanager
async def open_memory_network(
    internet: Internet, peer_id: PeerId, topics: Mapping[str, Topic], clock: Callable[[], int]
) -> AsyncIterator[MemoryNetwork]:
    """As `open_network` does, until the block ends."""
    async with trio.open_nursery() as nursery:
        network = MemoryNetwork(internet, peer_id, topics, clock, nursery)
        internet.hosts[peer_id] = network
        try:
            yield network
        finally:
            if internet.hosts.get(peer_id) is network:
                del internet.hosts[peer_id]
            nursery.cancel_scope.cancel()
            await network.shut()


async def _raise(error: BaseException) -> None:
    raise error


@lru_cache(IDENTITIES_MAX)
def _identity(topic: str, data: bytes) -> bytes:
    return sha256(topic.encode() + b"\0" + data).digest()
