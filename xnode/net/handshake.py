"""Hello: peers tell each other which network they are of, before anything else (protocol section 1).

Theory of operation. Each side calls the other's rpc method `hello` after a connection; request and answer carry
the same three values, so one exchange admits each to the other. A peer of another network or genesis is banned by
whoever called it. Until a peer has said hello its streams wait a little and are then reset, its calls are refused
and its gossip is IGNOREd. Which peers are still to be greeted is looked up from the connections every few seconds:
an event only makes it quicker. A peer that never answers hello is disconnected after a few tries.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

import trio

from xnode.core.faults import NotAllowed, PeerFault
from xnode.core.values import HASH_BYTES, Hash
from xnode.net.ports import StreamHandler, StreamHost
from xnode.net.pulse import Pulse
from xnode.net.rpc import Args, Rpc
from xnode.net.sessions import time_limit
from xnode.net.streams import PeerId, Stream

if TYPE_CHECKING:  # importing the network loads libp2p, which takes more than a second
    from xnode.net.network import ConnectedPeer

METHOD: Final = "hello"
HELLO_SECONDS_MAX: Final = 10.0  # one call of hello
HELLO_WAIT_SECONDS: Final = 5.0  # a stream waits so long for its peer's hello that is on its way
LOOK_SECONDS: Final = 5.0  # between looks at the connections
TRIES_MAX: Final = 3  # calls of hello without an answer, then the peer is disconnected
GREETED_MAX: Final = 4096
VERSION_CHARS_MAX: Final = 64
NETWORK_ID_CHARS_MAX: Final = 32
BAN_SECONDS: Final = 600.0
WRONG_NETWORK: Final = "wrong_network"


class Hello(NamedTuple):
    """What one side says of itself."""

    network_id: str
    genesis_hash: Hash
    version: str


def parse_hello(record: Args) -> Hello:
    """Raises PeerFault(malformed)."""
    match record:
        case (str(network_id), bytes(genesis_hash), str(version)):
            hello = Hello(network_id, Hash(genesis_hash), version)
            if _is_sane(hello):
                return hello
    raise PeerFault("malformed", "hello is (network_id, genesis_hash, version)")


def _is_sane(hello: Hello) -> bool:
    return (
        len(hello.network_id) <= NETWORK_ID_CHARS_MAX
        and len(hello.genesis_hash) == HASH_BYTES
        and len(hello.version) <= VERSION_CHARS_MAX
        and hello.version.isprintable()
    )


class Handshake:
    """Keeps who said hello. `run` must run as a task; `host` is the network for admitted peers only."""

    def __init__(self, host: StreamHost, rpc: Rpc, hello: Hello) -> None:
        self._host = host
        self._rpc = rpc
        self._hello = hello
        self._greeted: dict[PeerId, str] = {}  # peer -> its version
        self._tries: Counter[PeerId] = Counter()
        self._in_flight: set[PeerId] = set()
        self._changed = trio.Event()
        self._connected = Pulse()
        self._callbacks: list[Callable[[PeerId], None]] = []
        self.counters: Counter[str] = Counter()
        self.host: StreamHost = GreetedHost(host, self)
        rpc.register(METHOD, self._on_hello, before_hello=True)
        rpc.require(self)
        host.on_connected(self._on_connected)

    def knows(self, peer_id: PeerId) -> bool:
        """Whether the peer said hello: for gossip validators, which IGNORE what the others send."""
        return peer_id in self._greeted

    def on_greeted(self, callback: Callable[[PeerId], None]) -> None:
        """Calls back, synchronously, with each peer that says hello for the first time since it connected."""
        self._callbacks.append(callback)

    def off_greeted(self, callback: Callable[[PeerId], None]) -> None:
        """Calls it back no more."""
        self._callbacks.remove(callback)

    def version(self, peer_id: PeerId) -> str:
        """The peer's version, "" until it said hello."""
        return self._greeted.get(peer_id, "")

    def greeted(self) -> tuple[PeerId, ...]:
        """The connected peers that said hello, sorted."""
        return tuple(peer.peer_id for peer in self._host.peers() if peer.peer_id in self._greeted)

    async def admitted(self, peer_id: PeerId) -> bool:
        """Whether the peer said hello, after waiting up to 5 s for it."""
        if peer_id in self._greeted:
            return True
        with trio.move_on_after(HELLO_WAIT_SECONDS):
            while peer_id not in self._greeted:
                await self._changed.wait()
        return peer_id in self._greeted

    async def ensure(self, peer_id: PeerId, addresses: Sequence[str] = (), timeout: float = HELLO_SECONDS_MAX) -> None:
        """Says hello unless that was done, dialling if need be. Raises PeerFault (peer_unreachable, wrong_network)."""
        if peer_id not in self._greeted:
            await self._greet(peer_id, addresses, timeout)

    async def run(self) -> None:
        """Greets every connected peer, for ever."""
        async with trio.open_nursery() as nursery:
            while True:
                for peer_id in self._look():
                    self._in_flight.add(peer_id)
                    nursery.start_soon(self._greet_connected, peer_id)
                await self._connected.wait(LOOK_SECONDS)

    def _look(self) -> tuple[PeerId, ...]:
        """Forgets who left, and returns who is still to be greeted."""
        here = {peer.peer_id for peer in self._host.peers()}
        self._greeted = {peer_id: version for peer_id, version in self._greeted.items() if peer_id in here}
        self._tries = Counter({peer_id: count for peer_id, count in self._tries.items() if peer_id in here})
        return tuple(sorted(here - self._greeted.keys() - self._in_flight))

    async def _greet_connected(self, peer_id: PeerId) -> None:
        try:
            await self._greet(peer_id, (), HELLO_SECONDS_MAX)
        except PeerFault:
            self._tries[peer_id] += 1
            if self._tries[peer_id] >= TRIES_MAX:
                self.counters["silent"] += 1
                await self._host.disconnect(peer_id)
        finally:
            self._in_flight.discard(peer_id)

    async def _greet(self, peer_id: PeerId, addresses: Sequence[str], timeout: float) -> None:
        try:
            answer = await self._rpc.call(peer_id, METHOD, self._hello, min(timeout, HELLO_SECONDS_MAX), addresses)
            self._admit(peer_id, parse_hello(answer))
        except (PeerFault, NotAllowed) as fault:
            if fault.code == WRONG_NETWORK:
                self._host.ban(peer_id, BAN_SECONDS, str(fault))
            if isinstance(fault, NotAllowed):
                raise PeerFault(fault.code, str(fault)) from fault
            raise

    async def _on_hello(self, peer_id: PeerId, args: Args) -> Args:
        self._admit(peer_id, parse_hello(args))
        return self._hello

    def _admit(self, peer_id: PeerId, hello: Hello) -> None:
        if hello[:2] != self._hello[:2]:
            self.counters[WRONG_NETWORK] += 1
            self._greeted.pop(peer_id, None)
            mine = f"{self._hello.network_id} ({self._hello.genesis_hash.hex()[:12]})"
            raise NotAllowed(WRONG_NETWORK, f"this peer is of another network than {mine}")
        if peer_id not in self._greeted and len(self._greeted) >= GREETED_MAX:
            raise NotAllowed("busy", "too many peers")
        is_new = peer_id not in self._greeted
        self._greeted[peer_id] = hello.version
        if is_new:
            self._announce(peer_id)

    def _announce(self, peer_id: PeerId) -> None:
        self._changed.set()
        self._changed = trio.Event()
        for callback in self._callbacks:
            callback(peer_id)

    def _on_connected(self, _peer_id: PeerId, _outbound: bool) -> None:
        self._connected.fire()


class GreetedHost:
    """The network as admitted peers see it: both ways, nothing passes before hello."""

    def __init__(self, host: StreamHost, handshake: Handshake) -> None:
        self._host = host
        self._handshake = handshake
        self.peer_id = host.peer_id

    def peers(self) -> "Sequence[ConnectedPeer]":
        """The connected peers that said hello, sorted by id."""
        return tuple(peer for peer in self._host.peers() if self._handshake.knows(peer.peer_id))

    def serve(self, protocol: str, handler: StreamHandler) -> None:
        """Hands streams of admitted peers to `handler`, and resets the others."""

        async def guarded(stream: Stream) -> None:
            if await self._handshake.admitted(stream.peer_id):
                await handler(stream)
            else:
                await stream.reset()

        self._host.serve(protocol, guarded)

    async def open_stream(
        self, peer_id: PeerId, protocol: str, addresses: Sequence[str] = (), timeout: float = 10
    ) -> Stream:
        """Says hello first if need be. Raises PeerFault."""
        with time_limit(timeout):
            await self._handshake.ensure(peer_id, addresses, timeout)
            return await self._host.open_stream(peer_id, protocol, addresses, timeout)

    def on_connected(self, callback: Callable[[PeerId, bool], None]) -> None:
        """Passes through: the peer has not said hello yet."""
        self._host.on_connected(callback)

    async def disconnect(self, peer_id: PeerId) -> None:
        """Passes through."""
        await self._host.disconnect(peer_id)

    def ban(self, peer_id: PeerId, seconds: float, reason: str) -> None:
        """Passes through."""
        self._host.ban(peer_id, seconds, reason)
