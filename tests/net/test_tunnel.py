"""Tunnels between hosts in memory, on virtual time: handshake, limits, deadlines, ends."""

import hashlib
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.streams import MemoryHost, MemoryNetwork, stream_pair
from xnode.core.faults import Ended, Fault, MachineFault, NotAllowed, NotFound, PeerFault, Unavailable, WrongState
from xnode.core.hashing import NetworkKey
from xnode.core.keys import SigningKey
from xnode.core.tunnel import TunnelAnswer, fault_of, tunnel_message
from xnode.core.values import Hash, PublicKey
from xnode.net import tunnel
from xnode.net.streams import Stream
from xnode.net.tunnel import TunnelAccess, TunnelLimits, Tunnels

NETWORK = NetworkKey(b"n" * 32)
ACCESS, CONSUMER, STRANGER = (SigningKey(letter * 32) for letter in (b"a", b"c", b"s"))
LEASE, OTHER_LEASE, ENDED_LEASE = Hash(b"1" * 32), Hash(b"2" * 32), Hash(b"3" * 32)
KEYS = (ACCESS.public_key, CONSUMER.public_key)


class Machines(TunnelAccess):
    """Two leases with a machine that echoes; `failure` is raised by the next dials, `stuck` never dials."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.failure: Exception | None = None
        self.is_stuck = False
        self.dials = 0
        self.ended = {ENDED_LEASE}

    def keys(self, lease_hash: Hash) -> tuple[PublicKey, ...]:
        if lease_hash in self.ended:
            raise Ended("lease_ended", "this lease has ended")
        if lease_hash not in (LEASE, OTHER_LEASE):
            raise NotFound("lease_unknown", "this provider has no such lease")
        return KEYS

    async def dial(self, lease_hash: Hash) -> Any:
        self.dials += 1
        if self.is_stuck:
            await trio.sleep_forever()
        if self.failure:
            raise self.failure
        near, far = trio.testing.memory_stream_pair()
        self.nursery.start_soon(self.echo, far)
        return near

    async def echo(self, machine: trio.StapledStream) -> None:  # type: ignore[type-arg]
        try:
            while data := await machine.receive_some(65536):
                await machine.send_all(data)
            await machine.send_all(b"bye")
            await machine.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            await machine.aclose()


def randoms() -> Callable[[int], bytes]:
    numbers = count()
    return lambda size: hashlib.sha256(b"%d" % next(numbers)).digest()[:size]


class Scene:
    """A client and a provider."""

    def __init__(self, nursery: trio.Nursery, limits: TunnelLimits = tunnel.DEFAULT_LIMITS) -> None:
        network = MemoryNetwork(nursery)
        self.near: MemoryHost = network.host("near")
        self.far: MemoryHost = network.host("far")
        self.machines = Machines(nursery)
        self.client = Tunnels(self.near, NETWORK, None, randoms())
        self.server = Tunnels(self.far, NETWORK, self.machines, randoms(), limits)

    async def open(self, lease_hash: Hash = LEASE, key: SigningKey = ACCESS) -> Stream:
        return await self.client.open(self.far.peer_id, lease_hash, key.sign)

    async def raw(self) -> Stream:
        return await self.near.open_stream(self.far.peer_id, tunnel.PROTOCOL)

    async def served(self) -> int:
        await trio.testing.wait_all_tasks_blocked()
        assert self.far.crashes == []
        return sum(self.server.counts().values())


async def talk(stream: Stream, data: bytes) -> None:
    await stream.write(data)
    assert await stream.read_exactly(len(data)) == data


@pytest.mark.parametrize("key", [ACCESS, CONSUMER])
async def test_bytes_pass_both_ways_and_half_close_is_passed_on(nursery: trio.Nursery, key: SigningKey) -> None:
    scene = Scene(nursery)
    stream = await scene.open(key=key)
    await talk(stream, b"SSH-2.0-x\r\n")
    assert await scene.served() == 1
    await stream.close_write()
    assert await stream.read_exactly(3) == b"bye"
    assert await stream.read(1) == b""
    assert await scene.served() == 0


async def test_several_tunnels_of_one_lease_at_once(nursery: trio.Nursery) -> None:
    scene = Scene(nursery)
    streams = [await scene.open() for _ in range(5)] + [await scene.open(OTHER_LEASE)]
    assert scene.server.counts() == {LEASE: 5, OTHER_LEASE: 1}
    async with trio.open_nursery() as talks:
        for number, stream in enumerate(streams):
            talks.start_soon(talk, stream, b"%d" % number * 100_000)


@pytest.mark.parametrize(
    ("lease_hash", "key", "fault"),
    [
        (LEASE, STRANGER, NotAllowed),
        (ENDED_LEASE, ACCESS, Ended),
        (Hash(b"?" * 32), ACCESS, NotFound),
    ],
)
async def test_refusals_reach_the_client_by_name(
    nursery: trio.Nursery, lease_hash: Hash, key: SigningKey, fault: type[Fault]
) -> None:
    scene = Scene(nursery)
    with pytest.raises(fault, match="lease"):
        await scene.open(lease_hash, key)
    assert scene.machines.dials == 0
    assert await scene.served() == 0


@pytest.mark.parametrize(
    ("failure", "fault", "text"),
    [
        (WrongState("not_running", "the machine is paused"), WrongState, "paused"),
        (MachineFault("ssh_closed", "the port is closed"), PeerFault, "closed"),
        (ConnectionRefusedError(), PeerFault, "does not answer"),
    ],
)
async def test_a_failed_dial_is_told_to_the_client(
    nursery: trio.Nursery, failure: Exception, fault: type[Fault], text: str
) -> None:
    scene = Scene(nursery)
    scene.machines.failure = failure
    with pytest.raises(fault, match=text):
        await scene.open()
    assert await scene.served() == 0


async def test_a_dial_without_end_is_given_up(nursery: trio.Nursery, autojump_clock: object) -> None:
    scene = Scene(nursery)
    scene.machines.is_stuck = True
    before = trio.current_time()
    with pytest.raises(PeerFault, match="does not answer"):
        await scene.open()
    assert trio.current_time() - before == pytest.approx(tunnel.DIAL_SECONDS_MAX)
    assert await scene.served() == 0


@pytest.mark.parametrize("sent", [b"", b"half a lease", LEASE, LEASE + b"half a signature"])
async def test_a_silent_client_is_dropped(nursery: trio.Nursery, autojump_clock: object, sent: bytes) -> None:
    scene = Scene(nursery)
    stream = await scene.raw()
    await stream.write(sent)
    before = trio.current_time()
    with pytest.raises(PeerFault):
        await stream.read_exactly(33)
    assert trio.current_time() - before == pytest.approx(tunnel.HANDSHAKE_SECONDS_MAX)
    await trio.testing.wait_all_tasks_blocked()
    assert scene.server.counters["dropped_peer_too_slow"] == 1
    assert scene.far.crashes == []


async def test_an_open_tunnel_may_be_silent_for_days(nursery: trio.Nursery, autojump_clock: object) -> None:
    scene = Scene(nursery)
    stream = await scene.open()
    await trio.sleep(3 * 24 * 3600)
    await talk(stream, b"still here")


async def test_a_signature_serves_for_its_own_challenge_only(nursery: trio.Nursery) -> None:
    scene = Scene(nursery)
    first, second = await scene.raw(), await scene.raw()
    await first.write(LEASE)
    await second.write(LEASE)
    challenge = await first.read_exactly(32)
    assert challenge != await second.read_exactly(32)
    signature = ACCESS.sign(tunnel_message(NETWORK, LEASE, challenge))
    await second.write(signature)
    assert await second.read_exactly(1) == bytes([TunnelAnswer.NOT_ALLOWED])
    await first.write(signature)
    assert await first.read_exactly(1) == b"\0"


async def test_a_wrong_signature_has_no_second_try(nursery: trio.Nursery) -> None:
    scene = Scene(nursery)
    stream = await scene.raw()
    await stream.write(LEASE)
    message = tunnel_message(NETWORK, LEASE, await stream.read_exactly(32))
    await stream.write(STRANGER.sign(message) + ACCESS.sign(message))
    answer = await stream.read_exactly(1)
    text = b""
    while piece := await stream.read(2000):
        text += piece
    assert isinstance(fault_of(answer[0], text), NotAllowed)
    assert scene.machines.dials == 0


async def test_limit_per_lease(nursery: trio.Nursery) -> None:
    scene = Scene(nursery, TunnelLimits(tunnels_max=10, per_lease_max=2))
    first, _ = await scene.open(), await scene.open()
    with pytest.raises(Unavailable, match="2 tunnels"):
        await scene.open()
    await scene.open(OTHER_LEASE)
    await first.reset()
    await trio.testing.wait_all_tasks_blocked()
    await talk(await scene.open(), b"again")
    assert scene.server.counters["refused_busy"] == 1


async def test_limit_of_the_node(nursery: trio.Nursery) -> None:
    scene = Scene(nursery, TunnelLimits(tunnels_max=3, per_lease_max=2))
    for lease_hash in (LEASE, LEASE, OTHER_LEASE):
        await scene.open(lease_hash)
    with pytest.raises(Unavailable, match="no free tunnel"):
        await scene.open(OTHER_LEASE)
    assert scene.machines.dials == 3


async def test_the_documented_defaults() -> None:
    assert (tunnel.DEFAULT_LIMITS.tunnels_max, tunnel.DEFAULT_LIMITS.per_lease_max) == (100, 16)
    assert tunnel.HANDSHAKE_SECONDS_MAX == 10


async def test_handshakes_take_no_tunnels_away(nursery: trio.Nursery) -> None:
    scene = Scene(nursery, TunnelLimits(tunnels_max=1, handshakes_max=4, handshakes_per_peer_max=3))
    idle = [await scene.raw() for _ in range(3)]
    await trio.testing.wait_all_tasks_blocked()
    extra = await scene.raw()
    with pytest.raises(PeerFault):
        await extra.read(1)
    await idle[0].reset()
    await trio.testing.wait_all_tasks_blocked()
    await talk(await scene.open(), b"x")


async def test_closing_a_lease_ends_its_tunnels_only(nursery: trio.Nursery) -> None:
    scene = Scene(nursery)
    mine = [await scene.open() for _ in range(3)]
    other = await scene.open(OTHER_LEASE)
    scene.machines.ended.add(LEASE)
    assert scene.server.close_lease(LEASE) == 3
    for stream in mine:
        with pytest.raises(PeerFault):
            await stream.read(1)
    await talk(other, b"x")
    assert await scene.served() == 1
    assert scene.server.close_lease(LEASE) == 0
    with pytest.raises(Ended):
        await scene.open()


async def test_closing_a_lease_ends_a_dial(nursery: trio.Nursery, autojump_clock: object) -> None:
    scene = Scene(nursery)
    scene.machines.is_stuck = True
    async with trio.open_nursery() as opening:
        opening.start_soon(expect_fault, scene)
        assert await scene.served() == 1
        before = trio.current_time()
        scene.server.close_all()
    assert trio.current_time() == before
    assert await scene.served() == 0


async def expect_fault(scene: Scene) -> None:
    with pytest.raises(PeerFault):
        await scene.open()


async def test_a_broken_client_frees_its_tunnel(nursery: trio.Nursery) -> None:
    scene = Scene(nursery)
    stream = await scene.open()
    await stream.write(b"x")
    await stream.reset()
    assert await scene.served() == 0


async def test_a_node_without_machines_serves_no_tunnels(nursery: trio.Nursery) -> None:
    scene = Scene(nursery)
    with pytest.raises(PeerFault):
        await scene.server.open(scene.near.peer_id, LEASE, ACCESS.sign)


@pytest.mark.parametrize("answer", [b"", b"c" * 31, b"c" * 32, b"c" * 32 + b"\x07"])
async def test_a_provider_that_stalls_is_left(nursery: trio.Nursery, autojump_clock: object, answer: bytes) -> None:
    scene = Scene(nursery)

    async def stall(stream: Stream) -> None:
        await stream.write(answer)
        await trio.sleep_forever()

    scene.far.serve(tunnel.PROTOCOL, stall)
    before = trio.current_time()
    with pytest.raises(PeerFault) as caught:
        await scene.open()
    assert caught.value.code == "peer_too_slow"
    assert trio.current_time() - before == pytest.approx(tunnel.OPEN_SECONDS_MAX)
    assert scene.near.streams[0].is_reset


async def test_an_endless_refusal_is_cut(nursery: trio.Nursery) -> None:
    scene = Scene(nursery)

    async def rant(stream: Stream) -> None:
        await stream.write(b"c" * 32 + b"\x03" + b"a" * 100_000)

    scene.far.serve(tunnel.PROTOCOL, rant)
    with pytest.raises(Ended) as caught:
        await scene.open()
    assert str(caught.value) == "a" * 1024
    assert scene.near.streams[0].is_reset


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=200), st.booleans())
async def test_random_bytes_crash_nothing(data: bytes, named: bool) -> None:
    async with trio.open_nursery() as nursery:
        scene = Scene(nursery)
        near, far = stream_pair()
        await near.write(LEASE + data if named else data)
        await near.aclose()
        await scene.far.run_handler(scene.far.handlers[tunnel.PROTOCOL], far)
        assert scene.far.crashes == []
        assert scene.machines.dials == 0
        assert await scene.served() == 0


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=60))
async def test_random_answers_are_a_tunnel_or_a_fault(data: bytes) -> None:
    async def serve(stream: Stream) -> None:
        await stream.write(data)
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        scene = Scene(nursery)
        scene.far.serve(tunnel.PROTOCOL, serve)
        is_open = False
        try:
            await scene.open()
            is_open = True
        except Fault:
            is_open = False
        assert is_open == (data[32:33] == b"\0")


async def test_over_a_real_socket(nursery: trio.Nursery) -> None:
    scene = Scene(nursery)
    listeners = await nursery.start(partial(trio.serve_tcp, scene.machines.echo, 0, host="127.0.0.1"))
    port = listeners[0].socket.getsockname()[1]

    async def dial(lease_hash: Hash) -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", port)

    scene.machines.dial = dial  # type: ignore[method-assign]
    with trio.fail_after(10):
        stream = await scene.open()
        sent = bytes(range(256)) * 8192
        nursery.start_soon(stream.write, sent)
        assert await stream.read_exactly(len(sent)) == sent
        await stream.close_write()
        assert await stream.read_exactly(3) == b"bye"
        assert await stream.read(1) == b""
    nursery.cancel_scope.cancel()
