"""Hello, rpc, sync and tunnels between real libp2p hosts on loopback, and random bytes at each of the protocols."""

import hashlib
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio

from tests.support.toy_ledger import ToyLedger
from xnode.core.faults import Ended, NotAllowed, PeerFault
from xnode.core.hashing import NetworkKey
from xnode.core.keys import SigningKey
from xnode.core.values import Hash, PublicKey
from xnode.net import handshake, rpc, sync, tunnel
from xnode.net.handshake import Handshake, Hello
from xnode.net.network import NetSettings, Network, open_network
from xnode.net.rpc import Args, Rpc
from xnode.net.streams import PeerId, Stream
from xnode.net.sync import Sync
from xnode.net.sync_rota import SessionEnd
from xnode.net.tunnel import TunnelAccess, Tunnels

pytestmark = pytest.mark.slow

HELLO = Hello("local", Hash(b"g" * 32), "0.1.0")
NETWORK = NetworkKey(b"n" * 32)
LEASE = Hash(b"1" * 32)
ACCESS, STRANGER = SigningKey(b"a" * 32), SigningKey(b"s" * 32)


class EchoMachine(TunnelAccess):
    """One lease, whose machine is an echo server that says bye at the end."""

    def __init__(self) -> None:
        self.port = 0
        self.has_ended = False

    def keys(self, lease_hash: Hash) -> tuple[PublicKey, ...]:
        if self.has_ended:
            raise Ended("lease_ended", "this lease has ended")
        return (ACCESS.public_key,)

    async def dial(self, lease_hash: Hash) -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", self.port)

    async def echo(self, sock: trio.SocketStream) -> None:
        try:
            async for data in sock:
                await sock.send_all(data)
            await sock.send_all(b"bye")
            await sock.send_eof()
        except trio.BrokenResourceError:
            return


class Node:
    """All stream protocols on one real host."""

    def __init__(self, network: Network, hello: Hello) -> None:
        self.network = network
        self.id = network.peer_id
        self.rpc = Rpc(network)
        self.handshake = Handshake(network, self.rpc, hello)
        self.ledger = ToyLedger()
        self.sync = Sync(self.handshake.host, self.ledger, self.ledger)
        self.machine = EchoMachine()
        self.tunnels = Tunnels(self.handshake.host, NETWORK, self.machine, os.urandom)
        self.rpc.register("echo", self.echo)
        self.handshake.on_greeted(self.sync.kick)

    async def echo(self, peer_id: PeerId, args: Args) -> Args:
        return args


@asynccontextmanager
async def open_node(seed: bytes, hello: Hello = HELLO) -> AsyncIterator[Node]:
    settings = NetSettings(listen=("/ip4/127.0.0.1/tcp/0",))
    async with trio.open_nursery() as nursery, open_network(settings, seed, {}, time.time_ns, os.urandom) as network:
        node = Node(network, hello)
        nursery.start_soon(node.handshake.run)
        listeners = await nursery.start(partial(trio.serve_tcp, node.machine.echo, 0, host="127.0.0.1"))
        node.machine.port = listeners[0].socket.getsockname()[1]
        yield node
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def two_nodes(hello: Hello = HELLO) -> AsyncIterator[tuple[Node, Node]]:
    with trio.fail_after(30):
        async with open_node(b"a" * 32) as a, open_node(b"b" * 32, hello) as b:
            yield a, b


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - peers and sockets tell nobody
        await trio.sleep(0.02)


async def test_hello_is_said_on_connect_and_calls_pass_both_ways() -> None:
    async with two_nodes() as (a, b):
        a.network.add_peer(b.network.addresses[0])
        await until(partial(a.handshake.knows, b.id))
        await until(partial(b.handshake.knows, a.id))
        assert await a.rpc.call(b.id, "echo", (b"x" * 60_000,)) == (b"x" * 60_000,)
        assert await b.rpc.call(a.id, "echo", (1,)) == (1,)
        async with trio.open_nursery() as nursery:
            for number in range(12):
                nursery.start_soon(a.rpc.call, b.id, "echo", (number,))
        assert b.rpc.counters["served"] >= 13


async def test_another_network_is_cut_off() -> None:
    async with two_nodes(HELLO._replace(network_id="other")) as (a, b):
        with pytest.raises(PeerFault) as caught:
            await a.rpc.call(b.id, "echo", (), addresses=b.network.addresses)
        assert caught.value.code == handshake.WRONG_NETWORK
        await until(lambda: a.network.peers() == ())
        with pytest.raises(PeerFault):
            await a.handshake.host.open_stream(b.id, rpc.PROTOCOL, b.network.addresses)


async def test_a_node_catches_up() -> None:
    async with two_nodes() as (a, b):
        for owner in range(1, 6):
            b.ledger.grow(owner, 200)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(a.sync.run)
            await trio.sleep(0.05)
            await a.handshake.ensure(b.id, b.network.addresses)
            await until(lambda: a.ledger.heads == b.ledger.heads)
            nursery.cancel_scope.cancel()
        assert await b.sync.fetch(a.id) is SessionEnd.EQUAL
        b.ledger.grow(9, 3)
        assert await a.sync.fetch(b.id) is SessionEnd.CAUGHT_UP
        assert a.ledger.heads == b.ledger.heads


async def pump(stream: Stream, seed: int) -> None:
    """A megabyte there and back, then half-close."""
    data = hashlib.shake_128(b"%d" % seed).digest(1_000_000)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.write, data)
        assert await stream.read_exactly(len(data)) == data
    await stream.close_write()
    assert await stream.read_exactly(3) == b"bye"
    assert await stream.read(1) == b""
    await stream.aclose()


async def test_several_tunnels_carry_megabytes_and_half_close() -> None:
    async with two_nodes() as (a, b):
        async with trio.open_nursery() as nursery:
            for number in range(4):
                stream = await a.tunnels.open(b.id, LEASE, ACCESS.sign, b.network.addresses)
                nursery.start_soon(pump, stream, number)
        await until(lambda: b.tunnels.counts() == {})
        assert b.tunnels.counters["opened"] == 4


async def test_refusals_and_the_end_of_a_lease_reach_the_client() -> None:
    async with two_nodes() as (a, b):
        with pytest.raises(NotAllowed, match="access key"):
            await a.tunnels.open(b.id, LEASE, STRANGER.sign, b.network.addresses)
        stream = await a.tunnels.open(b.id, LEASE, ACCESS.sign)
        await stream.write(b"ping")
        assert await stream.read_exactly(4) == b"ping"
        b.machine.has_ended = True
        assert b.tunnels.close_lease(LEASE) == 1
        with pytest.raises(PeerFault):
            await stream.read_exactly(1)
        with pytest.raises(Ended, match="ended"):
            await a.tunnels.open(b.id, LEASE, ACCESS.sign)


@pytest.mark.parametrize("protocol", [rpc.PROTOCOL, sync.PROTOCOL, tunnel.PROTOCOL])
async def test_random_bytes_at_each_protocol_leave_the_node_alive(protocol: str) -> None:
    async with two_nodes() as (a, b):
        await a.handshake.ensure(b.id, b.network.addresses)
        for number in range(20):
            junk = hashlib.shake_128(b"%d" % number).digest(17 * number)
            stream = await a.network.open_stream(b.id, protocol)
            await stream.write(junk if number % 2 else len(junk).to_bytes(4, "big") + junk)
            if number % 3:
                await stream.close_write()
            else:
                await stream.reset()
        await trio.sleep(0.2)
        assert await a.rpc.call(b.id, "echo", (protocol,)) == (protocol,)
