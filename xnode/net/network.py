"""The node's place in the network: peers, gossip and streams. The only face that libp2p shows to the node."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from enum import Enum
from typing import NamedTuple

from xnode.net.streams import PeerId, Stream


class Verdict(Enum):
    """What becomes of a gossip message (design rule: a peer's message is refused in exactly two ways)."""

    ACCEPT = "accept"  # delivered and passed on
    IGNORE = "ignore"  # dropped, nobody is to blame
    REJECT = "reject"  # dropped, and it lowers the sender's score


class Judged(NamedTuple):
    """A validator's answer; `value` is the decoded message of an ACCEPT and is what `deliver` gets."""

    verdict: Verdict
    value: object | None
    reason: str


class Topic(NamedTuple):
    """One gossip topic. Both functions run on the loop and must be synchronous, total and quick."""

    validate: Callable[[PeerId, bytes], Judged]
    deliver: Callable[[PeerId, object], None]
    rate_per_second: float  # per peer; what comes above is IGNOREd and counted
    burst: int


class NetSettings(NamedTuple):
    """Times are seconds."""

    listen: tuple[str, ...]  # multiaddrs, e.g. /ip4/0.0.0.0/tcp/4001; port 0 for any
    peers: tuple[str, ...] = ()  # multiaddrs with /p2p/: dialled for ever
    announce: tuple[str, ...] = ()  # multiaddrs that others shall dial, instead of those listened on
    mdns: bool = False
    network_id: str = ""  # mDNS tells it, and only nodes of the same one are dialled
    connections_max: int = 200
    streams_per_peer_max: int = 256


class ConnectedPeer(NamedTuple):
    peer_id: PeerId
    address: str  # multiaddr of the connection's other end
    connected_at: int  # Unix nanoseconds


class Network:
    """Made by `open_network`; all methods belong to its trio loop."""

    peer_id: PeerId
    addresses: tuple[str, ...]
    counters: dict[str, int]

    def peers(self) -> tuple[ConnectedPeer, ...]:
        """The connected peers, sorted by id."""
        raise NotImplementedError

    async def publish(self, topic: str, data: bytes) -> None:
        raise NotImplementedError

    def serve(self, protocol: str, handler: Callable[[Stream], Awaitable[None]]) -> None:
        raise NotImplementedError

    async def open_stream(
        self, peer_id: PeerId, protocol: str, addresses: Sequence[str] = (), timeout: float = 10
    ) -> Stream:
        raise NotImplementedError

    def add_peer(self, multiaddr: str) -> None:
        raise NotImplementedError

    def on_connected(self, callback: Callable[[PeerId, bool], None]) -> None:
        raise NotImplementedError

    async def disconnect(self, peer_id: PeerId) -> None:
        raise NotImplementedError

    def ban(self, peer_id: PeerId, seconds: float, reason: str) -> None:
        raise NotImplementedError


@asynccontextmanager
async def open_network(
    settings: NetSettings,
    seed: bytes,
    topics: Mapping[str, Topic],
    clock: Callable[[], int],
    random: Callable[[int], bytes],
) -> AsyncIterator[Network]:
    """Runs the host until the block ends. `seed`: 32 bytes, the ed25519 identity."""
    raise NotImplementedError
    yield Network()
