"""Who is connected: libp2p's notices about connections, told as notices about peers."""

from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from libp2p.abc import INetConn, INetStream, INetwork, INotifee
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.network.swarm import Swarm
from libp2p.peer.peerstore import PeerStoreError
from libp2p.rcmgr import Direction
from multiaddr import Multiaddr

from xnode.net.streams import PeerId


class ConnectedPeer(NamedTuple):
    """One peer, however many connections there are to it."""

    peer_id: PeerId
    address: str  # multiaddr of the other end of the oldest connection
    connected_at: int  # Unix nanoseconds


class PeerTable(INotifee):
    """The connected peers. `on_connected(peer, outbound)` is called once per peer that becomes connected."""

    def __init__(self, swarm: Swarm, clock: Callable[[], int], on_connected: Callable[[PeerId, bool], None]) -> None:
        self._swarm = swarm
        self._clock = clock
        self._on_connected = on_connected
        self._peers: dict[PeerId, ConnectedPeer] = {}

    def sorted(self) -> tuple[ConnectedPeer, ...]:
        return tuple(self._peers[peer] for peer in sorted(self._peers))

    async def connected(self, network: INetwork, conn: INetConn) -> None:  # noqa: ARG002 -- libp2p's shape
        peer = PeerId(str(conn.muxed_conn.peer_id))
        if peer in self._peers or conn.is_closed:
            return
        addresses = conn.get_transport_addresses()
        self._peers[peer] = ConnectedPeer(peer, str(addresses[0]) if addresses else "", self._clock())
        self._on_connected(peer, isinstance(conn, SwarmConn) and conn.direction == Direction.OUTBOUND)

    async def disconnected(self, network: INetwork, conn: INetConn) -> None:  # noqa: ARG002 -- libp2p's shape
        others = self._swarm.connections.get(conn.muxed_conn.peer_id, ())
        if all(other.is_closed for other in others):
            self._peers.pop(PeerId(str(conn.muxed_conn.peer_id)), None)
            # libp2p keeps addresses and records of every peer that ever came, and takes a restarted peer's
            # newer record for an older one.
            with suppress(PeerStoreError):
                self._swarm.peerstore.clear_peerdata(conn.muxed_conn.peer_id)

    async def opened_stream(self, network: INetwork, stream: INetStream) -> None:
        """Not of interest."""

    async def closed_stream(self, network: INetwork, stream: INetStream) -> None:
        """Not of interest."""

    async def listen(self, network: INetwork, multiaddr: Multiaddr) -> None:
        """Not of interest."""

    async def listen_close(self, network: INetwork, multiaddr: Multiaddr) -> None:
        """Not of interest."""
