"""What the stream protocols need of the network under them, so that they run over libp2p and in a simulation alike."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from xnode.net.streams import PeerId, Stream

if TYPE_CHECKING:  # importing the network loads libp2p, which takes more than a second
    from xnode.net.network import ConnectedPeer

StreamHandler = Callable[[Stream], Awaitable[None]]


class StreamHost(Protocol):
    """Peers and streams; `Network` is one."""

    peer_id: PeerId

    def peers(self) -> Sequence["ConnectedPeer"]:
        """The connected peers, sorted by id."""

    def serve(self, protocol: str, handler: StreamHandler) -> None:
        """Hands each inbound stream of `protocol` to `handler`; an exception from it resets that stream only."""

    async def open_stream(
        self, peer_id: PeerId, protocol: str, addresses: Sequence[str] = (), timeout: float = 10
    ) -> Stream:
        """Opens a stream, dialling the peer if need be. Raises PeerFault(peer_unreachable)."""

    def on_connected(self, callback: Callable[[PeerId, bool], None]) -> None:
        """Calls back with (peer, whether we dialled) after each new connection."""

    async def disconnect(self, peer_id: PeerId) -> None:
        """Closes the peer's connections."""

    def ban(self, peer_id: PeerId, seconds: float, reason: str) -> None:
        """Refuses the peer for so long, and cuts it off."""


class Admission(Protocol):
    """Who has said hello."""

    async def admitted(self, peer_id: PeerId) -> bool:
        """Whether the peer may be served; waits a little for a hello that is on its way."""

    async def ensure(self, peer_id: PeerId, addresses: Sequence[str], timeout: float) -> None:
        """Says hello unless that was done. Raises PeerFault."""
