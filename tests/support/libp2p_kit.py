"""Two ways to make a libp2p host, stock and hardened; a probe runs on either and says if it is well."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import libp2p
import trio
from libp2p.abc import INetStream
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key
from libp2p.custom_types import TProtocol
from libp2p.discovery.bootstrap.bootstrap import BootstrapDiscovery
from libp2p.host.basic_host import BasicHost
from libp2p.network.config import ConnectionConfig
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo
from libp2p.pubsub.gossipsub import GossipSub
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import Pubsub
from libp2p.rcmgr.manager import ResourceLimits, ResourceManager
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.tools.anyio_service import background_trio_service
from multiaddr import Multiaddr

TOPIC = "t"
LOOPBACK = Multiaddr("/ip4/127.0.0.1/tcp/0")
Validator = Callable[[bytes], bool]


class Limits(NamedTuple):
    connections: int = 100
    inbound: int = 80
    streams: int = 1000  # stock knows only a total, hardened one per peer


DEFAULT_LIMITS = Limits()


class GossipNode(NamedTuple):
    host: BasicHost
    pubsub: Any
    router: Any
    received: list[bytes]


def info(host: BasicHost) -> PeerInfo:
    """How others can dial the host."""
    addresses = [address.decapsulate(Multiaddr(f"/p2p/{host.get_id()}")) for address in host.get_addrs()]
    return PeerInfo(host.get_id(), addresses)


def port_of(host: BasicHost) -> int:
    """The TCP port that the host listens on."""
    return int(str(host.get_addrs()[0].value_for_protocol("tcp")))


def key_pair(number: int) -> Any:
    """The identity of test host `number`."""
    return create_new_key_pair(number.to_bytes(32, "big"))


async def connect(dialler: BasicHost, listener: BasicHost) -> None:
    """Dials, and fails the test rather than wait."""
    with trio.fail_after(8):
        await dialler.connect(info(listener))


async def open_stream(dialler: BasicHost, peer: ID, protocol: str) -> Any:
    """Opens a stream, and fails the test rather than wait."""
    with trio.fail_after(8):
        return await dialler.new_stream(peer, [TProtocol(protocol)])


async def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether `condition` comes true in time."""
    with trio.move_on_after(seconds):
        while not condition():  # noqa: ASYNC110 -- libp2p tells nobody
            await trio.sleep(0.01)
        return True
    return condition()


class Kit(ABC):
    """One way to make hosts."""

    hardened: bool

    @abstractmethod
    def host(self, number: int, limits: Limits = DEFAULT_LIMITS) -> BasicHost:
        """A host with Noise and Yamux, not yet running."""

    @abstractmethod
    def default_host(self, number: int) -> BasicHost:
        """A host as one gets it without further thought."""

    @abstractmethod
    async def write(self, stream: Any, data: bytes) -> None:
        """Writes to a libp2p stream the way this kit's users do."""

    @asynccontextmanager
    async def running(self, *hosts: BasicHost) -> AsyncIterator[None]:
        """Runs hosts that listen on loopback."""
        if not hosts:
            yield
            return
        async with hosts[0].run([LOOPBACK]), self.running(*hosts[1:]):
            yield

    @abstractmethod
    def gossip(
        self, number: int, validate: Validator | None = None, message_id: Callable[[Any], bytes] | None = None
    ) -> "Any":
        """An async context manager that gives a running GossipNode subscribed to TOPIC."""

    @abstractmethod
    async def dial(self, host: BasicHost, peer: ID, address: Multiaddr) -> None:
        """One dial; raises when it fails."""

    @abstractmethod
    async def keep_dialling(self, host: BasicHost, peer: ID, address: Multiaddr, quickly: bool) -> None:
        """Keeps a configured peer connected, until cancelled."""

    @abstractmethod
    def mdns(self, number: int) -> Any:
        """An async context manager that runs a host that announces itself by mDNS."""


class StockKit(Kit):
    """The library as it ships, with Noise chosen where a probe is not about that."""

    hardened = False

    def __init__(self, is_async: bool = False, **router_settings: Any) -> None:
        self.is_async = is_async
        self.router_settings = router_settings

    def host(self, number: int, limits: Limits = DEFAULT_LIMITS, **more: Any) -> BasicHost:
        pair = key_pair(number)
        host = libp2p.new_host(
            key_pair=pair,
            sec_opt={NOISE: NoiseTransport(pair, noise_privkey=create_noise_key().private_key)},
            connection_config=ConnectionConfig(
                max_connections=limits.connections,
                min_connections=limits.connections - limits.inbound,
                low_watermark=limits.connections - limits.inbound,
                high_watermark=limits.connections,
            ),
            resource_manager=ResourceManager(limits=ResourceLimits(max_streams=limits.streams)),
            **more,
        )
        assert isinstance(host, BasicHost)
        return host

    def default_host(self, number: int) -> BasicHost:
        host = libp2p.new_host(key_pair=key_pair(number))
        assert isinstance(host, BasicHost)
        return host

    async def write(self, stream: Any, data: bytes) -> None:
        await stream.write(data)

    @asynccontextmanager
    async def gossip(
        self, number: int, validate: Validator | None = None, message_id: Callable[[Any], bytes] | None = None
    ) -> AsyncIterator[GossipNode]:
        host = self.host(number)
        router = GossipSub(
            protocols=[TProtocol("/meshsub/1.1.0")], degree=6, degree_low=4, degree_high=12, **self.router_settings
        )
        pubsub = Pubsub(host, router, **({"msg_id_constructor": message_id} if message_id else {}))
        if validate is not None:
            pubsub.set_topic_validator(TOPIC, self.validator(validate), self.is_async)
        received: list[bytes] = []
        async with host.run([LOOPBACK]), background_trio_service(router), background_trio_service(pubsub):
            await pubsub.wait_until_ready()
            subscription = await pubsub.subscribe(TOPIC)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_collect, subscription, received)
                yield GossipNode(host, pubsub, router, received)
                nursery.cancel_scope.cancel()

    def validator(self, validate: Validator) -> Callable[[ID, rpc_pb2.Message], Any]:
        """Stock's shape of a validator."""

        async def later(_: ID, message: rpc_pb2.Message) -> bool:
            await trio.sleep(0.05)
            return validate(message.data)

        return later if self.is_async else lambda _, message: validate(message.data)

    async def dial(self, host: BasicHost, peer: ID, address: Multiaddr) -> None:
        await host.connect(PeerInfo(peer, [address]))

    async def keep_dialling(self, host: BasicHost, peer: ID, address: Multiaddr, quickly: bool) -> None:
        seconds = 0.1 if quickly else 10.0
        discovery = BootstrapDiscovery(host.get_network(), [f"{address}/p2p/{peer}"], reconnect_interval=seconds)
        await discovery.start()
        await trio.sleep_forever()

    @asynccontextmanager
    async def mdns(self, number: int) -> AsyncIterator[None]:
        host = self.host(number, enable_mDNS=True)
        async with host.run([LOOPBACK]):
            yield
            await host.close()


async def _collect(subscription: Any, received: list[bytes]) -> None:
    async for message in subscription:
        received.append(message.data)


Probe = Callable[[Kit], Awaitable[bool]]


async def sleepy(_: INetStream) -> None:
    """A stream handler that never reads and never ends."""
    await trio.sleep_forever()
