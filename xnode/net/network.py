"""The node's place in the network: peers, gossip and streams. The only face that libp2p shows to the node."""

import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

import trio
from libp2p.abc import INetStream
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.custom_types import TProtocol
from libp2p.host.exceptions import HostException
from libp2p.io.exceptions import IOException
from libp2p.network.exceptions import SwarmException
from libp2p.network.stream.net_stream import NetStream
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from xnode.core.faults import CallerFault, PeerFault
from xnode.net.dialer import Dialer, parse_peer, parse_peer_id
from xnode.net.gossip import DATA_BYTES_MAX, Bans, GossipJudge, Judged, Topic, Verdict
from xnode.net.gossip_guard import GuardedPubsub, HardGossipSub
from xnode.net.hardening import HostLimits, close_connection, close_host, hardened_host, swarm_of
from xnode.net.hardening_service import running_service
from xnode.net.listening import check_free, parse_addresses
from xnode.net.mdns import run_mdns
from xnode.net.notices import ConnectedPeer, PeerTable
from xnode.net.peer_stream import PeerStream
from xnode.net.streams import PeerId, Stream

__all__ = ["ConnectedPeer", "Judged", "NetSettings", "Network", "Topic", "Verdict", "open_network"]

log = logging.getLogger(__name__)

CLOSE_SECONDS: Final = 2.0  # for a polite end; what is open then is cut
INBOUND_SHARE: Final = 3 / 4  # of the connections; the rest is kept for dialling


class NetSettings(NamedTuple):
    """Which network to be in, and how much of it to take."""

    listen: tuple[str, ...]  # multiaddrs, e.g. /ip4/0.0.0.0/tcp/4001; port 0 for any
    peers: tuple[str, ...] = ()  # multiaddrs with /p2p/: dialled for ever
    announce: tuple[str, ...] = ()  # multiaddrs that others shall dial, instead of those listened on
    mdns: bool = False
    network_id: str = ""  # mDNS tells it, and only nodes of the same one are dialled
    connections_max: int = 200
    streams_per_peer_max: int = 256


class Network:
    """Made by `open_network`; all methods belong to its trio loop."""

    def __init__(
        self,
        settings: NetSettings,
        seed: bytes,
        topics: Mapping[str, Topic],
        clock: Callable[[], int],
        random: Callable[[int], bytes],
        nursery: trio.Nursery,
    ) -> None:
        self.counters: Counter[str] = Counter()
        self._bans = Bans(clock)
        self._nursery = nursery
        self._topics = topics
        self._callbacks: list[Callable[[PeerId, bool], None]] = []
        limits = HostLimits(
            settings.connections_max, round(INBOUND_SHARE * settings.connections_max), settings.streams_per_peer_max
        )
        self._host = hardened_host(
            create_new_key_pair(seed), limits, self._is_allowed, parse_addresses(settings.announce)
        )
        self.peer_id = PeerId(str(self._host.get_id()))
        swarm = swarm_of(self._host)
        self._dialer = Dialer(swarm, random, nursery)
        self._table = PeerTable(swarm, clock, self._tell_connected)
        swarm.register_notifee(self._table)
        self._router = HardGossipSub()
        judge = GossipJudge(topics, clock, self._bans, self.ban, self.counters)
        self._pubsub = GuardedPubsub(self._host, self._router, judge, frozenset(topics))

    @property
    def addresses(self) -> tuple[str, ...]:
        """What others can dial: real ports, with /p2p/ and the id."""
        return tuple(str(address) for address in self._host.get_addrs())

    def peers(self) -> tuple[ConnectedPeer, ...]:
        """The connected peers, sorted by id."""
        return self._table.sorted()

    @property
    def seeks_peers(self) -> bool:
        """Whether it was given peers to keep dialled."""
        return self._dialer.keeps_any

    async def publish(self, topic: str, data: bytes) -> None:
        """Gossips `data`; with no subscriber yet, keeps it for the first that comes within a minute.

        Not delivered to this node itself. Raises CallerFault for an unknown topic or too much data.
        """
        if topic not in self._pubsub.topic_ids:
            raise CallerFault("unknown_topic", f"{topic!r} is not one of this node's gossip topics")
        if len(data) > DATA_BYTES_MAX:
            raise CallerFault("gossip_too_large", f"{len(data)} bytes; gossip carries at most {DATA_BYTES_MAX}")
        self.counters["gossip_published"] += 1
        await self._pubsub.publish(topic, data)

    def serve(self, protocol: str, handler: Callable[[Stream], Awaitable[None]]) -> None:
        """Calls `handler` for each stream that a peer opens. An exception in it resets that stream only."""

        async def handle(stream: INetStream) -> None:
            assert isinstance(stream, NetStream)
            await handler(PeerStream(stream))

        self._host.set_stream_handler(TProtocol(protocol), handle)

    async def open_stream(
        self, peer_id: PeerId, protocol: str, addresses: Sequence[str] = (), timeout: float = 10
    ) -> Stream:
        """Opens a stream, and first dials `addresses` (multiaddrs) when the peer is not connected.

        Raises PeerFault(peer_unreachable), or PeerFault(protocol_refused) when the peer does not serve it.
        """
        peer = parse_peer_id(peer_id)
        if peer_id in self._bans:
            raise PeerFault("peer_unreachable", f"peer {peer_id} is banned here")
        try:
            with trio.fail_after(timeout):
                await self._dialer.dial(peer, parse_addresses(addresses))
                stream = await self._host.new_stream(peer, [TProtocol(protocol)])
        except trio.TooSlowError:
            raise PeerFault("peer_unreachable", f"peer {peer_id} did not answer", retryable=True) from None
        except PeerFault:  # the dialler's, which says why
            raise
        except HostException as error:
            if not self._dialer.is_connected(peer):
                raise PeerFault("peer_unreachable", f"peer {peer_id} is gone", retryable=True) from error
            raise PeerFault("protocol_refused", f"peer {peer_id} does not serve {protocol}") from error
        except (SwarmException, IOException, OSError) as error:
            raise PeerFault("peer_unreachable", f"peer {peer_id}: {error}", retryable=True) from error
        except Exception as error:  # a peer-message edge: the library reads what the peer answers
            message = f"peer {peer_id} answers nonsense ({type(error).__name__})"
            raise PeerFault("peer_unreachable", message, retryable=True) from error
        assert isinstance(stream, NetStream)
        return PeerStream(stream)

    def add_peer(self, multiaddr: str) -> None:
        """Keeps a peer dialled for ever. Raises CallerFault(bad_peer_address, too_many_peers)."""
        if not self._dialer.keep(*parse_peer(multiaddr)):
            raise CallerFault("too_many_peers", "too many peers are configured already")

    def on_connected(self, callback: Callable[[PeerId, bool], None]) -> None:
        """`callback(peer, outbound)` is called whenever a peer becomes connected; it must not wait."""
        self._callbacks.append(callback)

    async def disconnect(self, peer_id: PeerId) -> None:
        """Closes all connections to the peer, if there are any. It may come again."""
        for connection in list(swarm_of(self._host).connections.get(parse_peer_id(peer_id), ())):
            await close_connection(connection)

    def ban(self, peer_id: PeerId, seconds: float, reason: str) -> None:
        """Disconnects the peer and lets it not come again, in either direction, until the time is over."""
        log.info("peer %s is banned for %.0f s: %s", peer_id, seconds, reason)
        self.counters["peers_banned"] += 1
        self._bans.add(peer_id, seconds)
        self._nursery.start_soon(self.disconnect, peer_id)

    def _is_allowed(self, peer: ID) -> bool:
        return str(peer) not in self._bans

    def _tell_connected(self, peer: PeerId, outbound: bool) -> None:
        for callback in self._callbacks:
            callback(peer, outbound)

    def _found(self, peer: str, addresses: list[Multiaddr]) -> None:
        try:
            identity = parse_peer_id(peer)
        except CallerFault:
            return
        for address in addresses:
            self._dialer.keep(identity, address, forever=False)

    @asynccontextmanager
    async def _running(self, settings: NetSettings, listen: Sequence[Multiaddr]) -> AsyncIterator[None]:
        async with (
            self._host.run(listen),
            running_service(self._router),
            running_service(self._pubsub),
        ):
            try:
                await self._pubsub.wait_until_ready()
                for topic in sorted(self._topics):
                    await self._pubsub.subscribe(topic)
                for peer in settings.peers:
                    self.add_peer(peer)
                if settings.mdns:
                    own = self._host.get_transport_addrs()
                    self._nursery.start_soon(run_mdns, settings.network_id, self.peer_id, own, self._found)
                yield
            finally:
                self._nursery.cancel_scope.cancel()
                await close_host(self._host, CLOSE_SECONDS)
                self._pubsub.seen_messages.stop()


@asynccontextmanager
async def open_network(
    settings: NetSettings,
    seed: bytes,
    topics: Mapping[str, Topic],
    clock: Callable[[], int],
    random: Callable[[int], bytes],
) -> AsyncIterator[Network]:
    """Listens, dials and gossips until the block ends.

    `seed`: 32 bytes, the ed25519 identity. `clock`: Unix ns. `random(n)`: n random bytes. Raises, before
    anything is open, CallerFault for a bad address and OperatorFault(address_in_use).
    """
    listen = parse_addresses(settings.listen)
    for peer in settings.peers:
        parse_peer(peer)
    check_free(listen)
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        network = Network(settings, seed, topics, clock, random, nursery)
        async with network._running(settings, listen):
            try:
                yield network
            except Exception as error:  # noqa: BLE001 -- a task edge: it goes on below, out of all groups
                failure = error
    if failure is not None:
        raise failure
