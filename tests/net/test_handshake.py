"""Nothing passes between peers before hello, and peers of other networks are cut off."""

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.streams import MemoryHost, MemoryNetwork
from xnode.core.faults import PeerFault
from xnode.core.values import Hash
from xnode.net import handshake
from xnode.net.handshake import Handshake, Hello, parse_hello
from xnode.net.rpc import Args, Rpc
from xnode.net.streams import PeerId, Stream

HELLO = Hello("local", Hash(b"g" * 32), "0.1.0")


class Node:
    """A host with its handshake, not yet running."""

    def __init__(self, network: MemoryNetwork, name: str, hello: Hello = HELLO) -> None:
        self.raw: MemoryHost = network.host(name)
        self.id = self.raw.peer_id
        self.rpc = Rpc(self.raw)
        self.handshake = Handshake(self.raw, self.rpc, hello)
        self.host = self.handshake.host
        self.host.serve("/test/echo", self.echo)
        self.rpc.register("ping", self.ping)

    async def echo(self, stream: Stream) -> None:
        await stream.write(await stream.read_exactly(4))

    async def ping(self, peer_id: PeerId, args: Args) -> Args:
        return args


async def echo(node: Node, other: Node) -> bytes:
    stream = await node.host.open_stream(other.id, "/test/echo")
    await stream.write(b"ping")
    return await stream.read_exactly(4)


async def test_who_wants_no_more_greetings_gets_none(nursery: trio.Nursery, autojump_clock: object) -> None:
    network = MemoryNetwork(nursery)
    a, b = Node(network, "a"), Node(network, "b")
    seen: list[PeerId] = []
    for handler in (seen.append, seen.remove):
        b.handshake.on_greeted(handler)
    b.handshake.off_greeted(seen.remove)
    nursery.start_soon(a.handshake.run)
    network.connect(a.raw, b.raw)
    await trio.testing.wait_all_tasks_blocked()
    assert seen == [a.id]


async def test_connected_peers_are_greeted_both_ways(nursery: trio.Nursery, autojump_clock: object) -> None:
    network = MemoryNetwork(nursery)
    a, b = Node(network, "a"), Node(network, "b", HELLO._replace(version="0.2.0"))
    seen: list[PeerId] = []
    b.handshake.on_greeted(seen.append)
    nursery.start_soon(a.handshake.run)
    network.connect(a.raw, b.raw)
    await trio.testing.wait_all_tasks_blocked()
    assert a.handshake.greeted() == (b.id,)
    assert b.handshake.greeted() == (a.id,)
    assert a.handshake.version(b.id) == "0.2.0"
    assert a.handshake.version(PeerId("nobody")) == ""
    assert seen == [a.id]
    assert [peer.peer_id for peer in a.host.peers()] == [b.id]


async def test_opening_a_stream_says_hello_first(nursery: trio.Nursery) -> None:
    network = MemoryNetwork(nursery)
    a, b = Node(network, "a"), Node(network, "b")
    assert await echo(a, b) == b"ping"
    assert a.handshake.knows(b.id)
    assert b.handshake.knows(a.id)
    assert await echo(b, a) == b"ping"


async def test_calling_says_hello_first(nursery: trio.Nursery) -> None:
    network = MemoryNetwork(nursery)
    a, b = Node(network, "a"), Node(network, "b")
    assert await a.rpc.call(b.id, "ping", (1,)) == (1,)


async def test_a_stream_waits_for_hello_and_is_then_reset(nursery: trio.Nursery, autojump_clock: object) -> None:
    network = MemoryNetwork(nursery)
    b = Node(network, "b")
    stranger = network.host("stranger")
    before = trio.current_time()
    stream = await stranger.open_stream(b.id, "/test/echo")
    with pytest.raises(PeerFault):
        await stream.read(1)
    assert trio.current_time() - before == pytest.approx(handshake.HELLO_WAIT_SECONDS)
    assert not b.handshake.knows(stranger.peer_id)


async def test_a_stream_ahead_of_its_hello_is_served(nursery: trio.Nursery, autojump_clock: object) -> None:
    network = MemoryNetwork(nursery)
    a, b = Node(network, "a"), Node(network, "b")
    stream = await a.raw.open_stream(b.id, "/test/echo")
    await stream.write(b"soon")
    await trio.sleep(1)
    await a.handshake.ensure(b.id)
    assert await stream.read_exactly(4) == b"soon"


@pytest.mark.parametrize("other", [HELLO._replace(network_id="other"), HELLO._replace(genesis_hash=Hash(b"x" * 32))])
async def test_another_network_is_banned_and_cut(nursery: trio.Nursery, autojump_clock: object, other: Hello) -> None:
    network = MemoryNetwork(nursery)
    a, b = Node(network, "a"), Node(network, "b", other)
    nursery.start_soon(a.handshake.run)
    network.connect(a.raw, b.raw)
    await trio.testing.wait_all_tasks_blocked()
    assert b.id in a.raw.banned
    assert a.raw.peers() == ()
    assert not a.handshake.knows(b.id)
    assert not b.handshake.knows(a.id)
    with pytest.raises(PeerFault):
        await a.host.open_stream(b.id, "/test/echo")


async def test_a_liar_in_its_answer_is_banned(nursery: trio.Nursery) -> None:
    network = MemoryNetwork(nursery)
    a = Node(network, "a")
    liar = network.host("liar")

    async def lie(peer_id: PeerId, args: Args) -> Args:
        return ("other", b"x" * 32, "1")

    Rpc(liar).register("hello", lie)
    with pytest.raises(PeerFault) as caught:
        await a.handshake.ensure(liar.peer_id)
    assert caught.value.code == handshake.WRONG_NETWORK
    assert liar.peer_id in a.raw.banned


async def test_a_silent_peer_is_disconnected(nursery: trio.Nursery, autojump_clock: object) -> None:
    network = MemoryNetwork(nursery)
    a = Node(network, "a")
    mute = network.host("mute")
    nursery.start_soon(a.handshake.run)
    network.connect(a.raw, mute)
    await trio.sleep(handshake.TRIES_MAX * (handshake.LOOK_SECONDS + handshake.HELLO_SECONDS_MAX))
    assert a.raw.peers() == ()
    assert a.raw.banned == {}
    assert a.handshake.counters["silent"] == 1


async def test_a_peer_that_left_must_say_hello_again(nursery: trio.Nursery, autojump_clock: object) -> None:
    network = MemoryNetwork(nursery)
    a, b = Node(network, "a"), Node(network, "b")
    nursery.start_soon(a.handshake.run)
    await a.handshake.ensure(b.id)
    await a.raw.disconnect(b.id)
    await trio.sleep(2 * handshake.LOOK_SECONDS)
    assert not a.handshake.knows(b.id)
    assert await echo(a, b) == b"ping"


junk = st.recursive(
    st.none() | st.integers(0, 2**64 - 1) | st.binary(max_size=40) | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=4).map(tuple),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(st.lists(junk, max_size=4).map(tuple))
def test_any_record_is_a_hello_or_the_peers_fault(record: Args) -> None:
    try:
        hello = parse_hello(record)
    except PeerFault:
        return
    assert hello == record
