"""Networks of real nodes on loopback: gossip, verdicts, bans, dialling, limits, and bytes from strangers."""

import os
import random
import socket
import threading
import time
from contextlib import AsyncExitStack, suppress
from typing import Any

import psutil
import pytest
import trio
from zeroconf import Zeroconf

from tests.support.nodes import eventually, listening_topic, open_node
from xnode.core.faults import CallerFault, OperatorFault, PeerFault
from xnode.core.values import Hash
from xnode.net.handshake import Handshake, Hello
from xnode.net.hardening import swarm_of
from xnode.net.mdns import SERVICE_TYPE, _look_up, _Names
from xnode.net.network import Network
from xnode.net.rpc import Rpc
from xnode.net.streams import PeerId, Stream

pytestmark = pytest.mark.slow

UNKNOWN_PEER = PeerId("12D3KooWPkma149cmvkLufjpzguGZQHGcFww6uAr4ETTaqPLZqTp")


def peer_ids(network: Network) -> set[PeerId]:
    return {peer.peer_id for peer in network.peers()}


async def echo(stream: Stream) -> None:
    while data := await stream.read(65536):
        await stream.write(data)
    await stream.aclose()


async def idle(_: Stream) -> None:
    await trio.sleep_forever()


async def ask(network: Network, other: Network, data: bytes = b"ping") -> bytes:
    stream = await network.open_stream(other.peer_id, "/echo/1", other.addresses)
    await stream.write(data)
    answer = await stream.read_exactly(len(data))
    await stream.aclose()
    return answer


async def test_gossip_reaches_all_once_both_ways() -> None:
    got: tuple[list[bytes], ...] = ([], [], [])
    async with open_node(1, got[0]) as a, open_node(2, got[1], peers=a.addresses) as b:  # noqa: SIM117 -- longer than a line
        async with open_node(3, got[2], peers=b.addresses) as c:
            await eventually(lambda: len(b.peers()) == 2)
            await a.publish("t", b"from a")
            await c.publish("t", b"from c")
            await eventually(lambda: b"from c" in got[0] and b"from a" in got[2] and len(got[1]) == 2)
            await b.publish("t", b"from a")  # the same content, by somebody else
            await trio.sleep(0.2)
            assert (got[0], got[2]) == ([b"from c"], [b"from a"])


async def test_gossip_before_any_peer_reaches_the_first() -> None:
    got: list[bytes] = []
    async with open_node(1) as a:
        await a.publish("t", b"early")
        await trio.sleep(0.1)
        async with open_node(2, got, peers=a.addresses):
            await eventually(lambda: got == [b"early"])


async def test_ignored_gossip_is_not_passed_on() -> None:
    got: tuple[list[bytes], ...] = ([], [])
    async with open_node(1) as a, open_node(2, got[0], peers=a.addresses) as b:  # noqa: SIM117 -- longer than a line
        async with open_node(3, got[1], peers=b.addresses):
            await eventually(lambda: len(b.peers()) == 2)
            await a.publish("t", b"odd")
            await a.publish("t", b"good")
            await eventually(lambda: got[1] == [b"good"])
            assert got[0] == [b"good"]
            assert b.counters["gossip_ignore"] >= 1
            assert not b.counters["peers_banned"]


async def test_rejected_gossip_ends_in_a_ban_that_ends() -> None:
    now = time.time_ns()
    async with open_node(1, clock=lambda: now) as judge, open_node(2) as bad, open_node(3, peers=judge.addresses):
        judge.serve("/echo/1", echo)
        bad.add_peer(judge.addresses[0])
        await eventually(lambda: len(judge.peers()) == 2)
        for number in range(5):
            await bad.publish("t", b"bad %d" % number)
        await eventually(lambda: bad.peer_id not in peer_ids(judge))
        assert len(judge.peers()) == 1
        with pytest.raises(PeerFault):
            await ask(bad, judge)
        with pytest.raises(PeerFault):
            await judge.open_stream(bad.peer_id, "/echo/1", bad.addresses)
        now += 700 * 10**9
        await eventually(lambda: bad.peer_id in peer_ids(judge))
        assert await ask(bad, judge) == b"ping"


async def test_gossip_above_the_rate_is_ignored_and_counted() -> None:
    got: list[bytes] = []
    now = time.time_ns()
    topics = {"t": listening_topic(got, rate=1, burst=3)}
    async with open_node(1, topics=topics, clock=lambda: now) as a, open_node(2, peers=a.addresses) as b:
        for number in range(10):
            await b.publish("t", b"%d" % number)
        await eventually(lambda: a.counters["gossip_over_rate"] >= 7)
        assert got == [b"0", b"1", b"2"]
        now += 2 * 10**9
        for number in range(10, 20):
            await b.publish("t", b"%d" % number)
        await eventually(lambda: a.counters["gossip_over_rate"] >= 15)
        assert len(got) == 5
        assert not a.counters["peers_banned"]


async def test_publish_refuses_what_nobody_would_take() -> None:
    async with open_node(1) as a:
        with pytest.raises(CallerFault):
            await a.publish("unknown", b"x")
        with pytest.raises(CallerFault):
            await a.publish("t", bytes(256 * 1024 + 1))


async def test_the_largest_gossip_passes() -> None:
    got: list[bytes] = []
    data = os.urandom(256 * 1024)
    async with open_node(1, got) as a, open_node(2, peers=a.addresses) as b:
        await b.publish("t", data)
        await eventually(lambda: got == [data])


async def test_a_restarted_peer_is_dialled_again() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    listen = (f"/ip4/127.0.0.1/tcp/{port}",)
    async with open_node(1) as a:
        for _ in range(2):
            async with open_node(2, listen=listen) as b:
                a.add_peer(b.addresses[0])
                await eventually(lambda: a.peers())
            await eventually(lambda: not a.peers())


async def test_both_sides_are_told_of_a_connection() -> None:
    told: list[tuple[str, PeerId, bool]] = []
    async with open_node(1) as a, open_node(2) as b:
        a.on_connected(lambda peer, outbound: told.append(("a", peer, outbound)))
        b.on_connected(lambda peer, outbound: told.append(("b", peer, outbound)))
        a.add_peer(b.addresses[0])
        await eventually(lambda: len(told) == 2)
        assert sorted(told) == [("a", b.peer_id, True), ("b", a.peer_id, False)]
        (peer,) = a.peers()
        assert f"{peer.address}/p2p/{b.peer_id}" == b.addresses[0]
        assert abs(time.time_ns() - peer.connected_at) < 10**10


async def test_disconnect_closes_and_a_stream_dials_again() -> None:
    async with open_node(1) as a, open_node(2) as b:
        b.serve("/echo/1", echo)
        assert await ask(a, b) == b"ping"
        await a.disconnect(b.peer_id)
        await eventually(lambda: not a.peers() and not b.peers())
        assert await ask(a, b) == b"ping"


async def test_names_are_dialled() -> None:
    async with open_node(1) as a, open_node(2) as b:
        a.add_peer(b.addresses[0].replace("/ip4/127.0.0.1/", "/dns4/localhost/"))
        await eventually(lambda: a.peers())


async def test_streams_that_can_not_be_opened() -> None:
    async with open_node(1) as a, open_node(2) as b:
        b.serve("/echo/1", echo)
        for peer, protocol, addresses, code, why in (
            (UNKNOWN_PEER, "/echo/1", ("/ip4/127.0.0.1/tcp/1",), "peer_unreachable", "can't be reached"),
            (UNKNOWN_PEER, "/echo/1", (), "peer_unreachable", "no address is known"),
            (UNKNOWN_PEER, "/echo/1", b.addresses, "peer_unreachable", "can't be reached"),
            (a.peer_id, "/echo/1", a.addresses, "peer_unreachable", "this node itself"),
            (b.peer_id, "/nothing/1", b.addresses, "protocol_refused", "does not serve"),
        ):
            with pytest.raises(PeerFault, match=why) as fault:
                await a.open_stream(peer, protocol, addresses)
            assert fault.value.code == code
        with pytest.raises(CallerFault):
            await a.open_stream(PeerId("nonsense"), "/echo/1")


@pytest.mark.parametrize(
    "address", ["", "x", "/ip4/127.0.0.1/tcp/1", "/ip4/127.0.0.1/udp/1", "/ip4/1.2.3.4/tcp/1/p2p/x"]
)
async def test_bad_peer_addresses_are_the_callers_fault(address: str) -> None:
    async with open_node(1) as a:
        with pytest.raises(CallerFault) as fault:
            a.add_peer(address)
        assert fault.value.code == "bad_peer_address"


async def test_a_port_in_use_is_the_operators_fault() -> None:
    async with open_node(1) as a:
        taken = a.addresses[0].split("/p2p/")[0]
        with pytest.raises(OperatorFault) as fault:
            async with open_node(2, listen=(taken,)):
                pass
        assert fault.value.code == "address_in_use"


async def test_an_exception_in_a_handler_resets_its_stream_only() -> None:
    async def buggy(_: Stream) -> None:
        raise KeyError("a bug")

    async with open_node(1) as a, open_node(2) as b:
        b.serve("/buggy/1", buggy)
        b.serve("/echo/1", echo)
        stream = await a.open_stream(b.peer_id, "/buggy/1", b.addresses)
        with pytest.raises(PeerFault):
            await stream.read(1)
        assert await ask(a, b) == b"ping"
        assert len(b.peers()) == 1


async def test_connections_have_a_limit_and_slots_come_back() -> None:
    async with open_node(1, connections_max=4) as a, open_node(9) as late:
        async with AsyncExitStack() as guests:
            for number in range(2, 5):
                await guests.enter_async_context(open_node(number, peers=a.addresses))
            await eventually(lambda: len(a.peers()) == 3)
            with pytest.raises(PeerFault):
                await late.open_stream(a.peer_id, "/echo/1", a.addresses, timeout=1)
        await eventually(lambda: not a.peers())
        late.add_peer(a.addresses[0])
        await eventually(lambda: a.peers())


async def test_streams_of_a_peer_have_a_limit() -> None:
    async with open_node(1, streams_per_peer_max=8) as a, open_node(2) as hog, open_node(3) as other:
        a.serve("/idle/1", idle)
        a.serve("/echo/1", echo)
        opened = 0
        for _ in range(12):
            with suppress(PeerFault):
                await hog.open_stream(a.peer_id, "/idle/1", a.addresses)
                opened += 1
        assert opened <= 8
        assert await ask(other, a) == b"ping"


async def test_a_node_leaves_nothing_behind() -> None:
    process = psutil.Process()
    async with open_node(1) as a, open_node(2, peers=a.addresses):
        await eventually(lambda: a.peers())
    await trio.sleep(0.1)
    before = process.num_fds()
    threads = threading.active_count()
    async with open_node(1) as a, open_node(2, peers=a.addresses):
        await eventually(lambda: a.peers())
    await trio.sleep(0.1)
    assert process.num_fds() == before
    assert threading.active_count() <= threads


async def test_a_cancelled_node_ends_and_its_peers_notice() -> None:
    async with open_node(1) as a:
        with trio.move_on_after(0.5) as limit:
            async with open_node(2, peers=a.addresses):
                await trio.sleep_forever()
        assert limit.cancelled_caught
        assert trio.current_time() < limit.deadline + 3
        await eventually(lambda: not a.peers())


async def test_an_error_of_the_body_comes_out_as_it_is() -> None:
    with pytest.raises(KeyError):
        async with open_node(1):
            raise KeyError("mine")


async def test_a_peer_that_has_gone_is_forgotten() -> None:
    async with open_node(1) as a:
        async with open_node(2, peers=a.addresses) as b:
            await eventually(lambda: a.peers())
            gone = b.peer_id
        await eventually(lambda: not a.peers())
        await trio.sleep(0.3)
        assert gone not in {str(peer) for peer in a._host.get_peerstore().peer_ids()}


async def test_random_bytes_on_the_port_harm_nobody() -> None:
    chance = random.Random(7)
    async with open_node(1) as a, open_node(2) as friend:
        a.serve("/echo/1", echo)
        port = int(a.addresses[0].split("/")[4])
        for head in (
            b"",
            b"GET / HTTP/1.0\r\n\r\n",
            b"\x13/multistream/1.0.0\n",
            b"\x13/multistream/1.0.0\n\x07/noise\n",
        ):
            for size in (1, 100, 20_000):
                async with await trio.open_tcp_stream("127.0.0.1", port) as stranger:
                    with suppress(trio.BrokenResourceError):
                        await stranger.send_all(head + chance.randbytes(size))
        assert await ask(friend, a) == b"ping"


async def test_random_bytes_on_every_protocol_harm_nobody() -> None:
    chance = random.Random(8)
    protocols = ("/echo/1", "/meshsub/1.1.0", "/ipfs/id/1.0.0", "/ipfs/id/push/1.0.0", "/ipfs/ping/1.0.0")
    got: list[bytes] = []
    async with open_node(1, got) as a, open_node(2) as stranger, open_node(3, peers=a.addresses) as friend:
        a.serve("/echo/1", echo)
        for protocol in protocols:
            for size in (1, 50, 5000):
                stream = await stranger.open_stream(a.peer_id, protocol, a.addresses)
                with suppress(PeerFault):
                    await stream.write(chance.randbytes(size))
                    await stream.write(bytes([size % 100]) + chance.randbytes(size))
                    await stream.close_write()
                await trio.sleep(0.01)
                await stream.reset()
        assert await ask(friend, a) == b"ping"
        await friend.publish("t", b"still there?")
        await eventually(lambda: got == [b"still there?"])


async def test_a_peer_that_answers_nonsense_ends_nothing() -> None:
    """Before any hello: its answer to the choice of a protocol is no text."""

    async def nonsense(stream: Any) -> None:
        await stream.write(b"\x13/multistream/1.0.0\n" + b"\x02\xff\n")
        await trio.sleep(1)

    async with open_node(1) as a, open_node(2, peers=a.addresses) as evil:
        await eventually(lambda: bool(a.peers()))
        swarm_of(evil._host).set_stream_handler(nonsense)
        with pytest.raises(PeerFault, match="nonsense") as caught:
            await a.open_stream(evil.peer_id, "/echo/1")
        assert caught.value.code == "peer_unreachable"
        handshake = Handshake(a, Rpc(a), Hello("test", Hash(bytes(32)), "1"))
        with trio.move_on_after(1):
            await handshake.run()
        assert handshake.greeted() == ()


@pytest.mark.parametrize("name", ["foo._http._tcp.local.", f"a\x01b.{SERVICE_TYPE}", ".", SERVICE_TYPE])
async def test_an_announcement_that_makes_no_sense_is_forgotten(name: str) -> None:
    """Anybody on the local network can announce it."""
    listener = _Names()
    zeroconf = Zeroconf(interfaces=["127.0.0.1"])
    try:
        listener.add_service(zeroconf, SERVICE_TYPE, name)
        assert _look_up(zeroconf, listener, name, "ours") == ("", [])
        assert name == SERVICE_TYPE or not listener.names
    finally:
        await trio.to_thread.run_sync(zeroconf.close)


async def test_nodes_of_one_network_find_each_other_by_mdns() -> None:
    async with open_node(1, mdns=True, network_id="ours") as a, open_node(3, mdns=True, network_id="theirs") as other:  # noqa: SIM117 -- longer than a line
        async with open_node(2, mdns=True, network_id="ours") as b:
            await eventually(lambda: peer_ids(a) == {b.peer_id} and peer_ids(b) == {a.peer_id})
            assert not other.peers()
