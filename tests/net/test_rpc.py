"""Requests and answers between peers, in memory and on virtual time."""

from collections.abc import Sequence

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.streams import MemoryHost, MemoryNetwork, stream_pair
from xnode.core.codec import encode
from xnode.core.faults import NotFound, PeerFault
from xnode.net import rpc
from xnode.net.rpc import Args, Rpc
from xnode.net.sessions import PeerSlots, session
from xnode.net.streams import PeerId, Stream, read_frame, write_frame


class Pair:
    """Two hosts with an Rpc each."""

    def __init__(self, nursery: trio.Nursery, slots: PeerSlots | None = None) -> None:
        network = MemoryNetwork(nursery)
        self.near, self.far = network.host("near"), network.host("far")
        self.client, self.server = Rpc(self.near), Rpc(self.far, slots)

    async def call(self, method: str, args: Args = (), timeout: float = 30) -> Args:
        return await self.client.call(self.far.peer_id, method, args, timeout)


async def echo(peer_id: PeerId, args: Args) -> Args:
    return (str(peer_id), *args)


async def test_call_and_answer(nursery: trio.Nursery) -> None:
    pair = Pair(nursery)
    pair.server.register("echo", echo)
    assert await pair.call("echo", (1, b"x", None, (True, "y"))) == ("near", 1, b"x", None, (True, "y"))
    assert pair.server.counters["served"] == 1


async def test_faults_come_back_as_the_peers(nursery: trio.Nursery) -> None:
    async def missing(peer_id: PeerId, args: Args) -> Args:
        raise NotFound("lease_unknown", "no such lease\x1b[0m" + "!" * 3000)

    pair = Pair(nursery)
    pair.server.register("missing", missing)
    with pytest.raises(PeerFault, match="no such lease") as caught:
        await pair.call("missing")
    assert caught.value.code == "lease_unknown"
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) <= rpc.MESSAGE_BYTES_MAX
    with pytest.raises(PeerFault) as caught:
        await pair.call("nothing")
    assert caught.value.code == "unknown_method"


async def test_unreachable_peer(nursery: trio.Nursery) -> None:
    pair = Pair(nursery)
    pair.far.up = False
    with pytest.raises(PeerFault) as caught:
        await pair.call("echo")
    assert caught.value.code == "peer_unreachable"


async def test_silent_server_is_left_at_the_deadline(nursery: trio.Nursery, autojump_clock: object) -> None:
    pair = Pair(nursery)

    async def sleepy(peer_id: PeerId, args: Args) -> Args:
        await trio.sleep_forever()
        return ()

    pair.server.register("sleepy", sleepy)
    before = trio.current_time()
    with pytest.raises(PeerFault) as caught:
        await pair.call("sleepy", timeout=3)
    assert caught.value.code == "peer_too_slow"
    assert trio.current_time() - before == pytest.approx(3)


async def test_silent_client_is_dropped(nursery: trio.Nursery, autojump_clock: object) -> None:
    pair = Pair(nursery)
    stream = await pair.near.open_stream(pair.far.peer_id, rpc.PROTOCOL)
    before = trio.current_time()
    with pytest.raises(PeerFault):
        await stream.read(1)
    assert trio.current_time() - before == pytest.approx(rpc.CALL_SECONDS_MAX)
    assert pair.far.crashes == []


async def test_too_many_calls_of_one_peer_are_answered_busy(nursery: trio.Nursery) -> None:
    release = trio.Event()
    pair = Pair(nursery, PeerSlots(total_max=3, per_peer_max=2))

    async def slow(peer_id: PeerId, args: Args) -> Args:
        await release.wait()
        return ()

    pair.server.register("slow", slow)
    nursery.start_soon(pair.call, "slow")
    nursery.start_soon(pair.call, "slow")
    await trio.testing.wait_all_tasks_blocked()
    with pytest.raises(PeerFault) as caught:
        await pair.call("slow")
    assert (caught.value.code, caught.value.retryable) == ("busy", True)
    release.set()
    await trio.testing.wait_all_tasks_blocked()
    assert await pair.call("slow") == ()


def test_slots_are_shared_between_peers() -> None:
    slots = PeerSlots(total_max=3, per_peer_max=2)
    with slots.take(PeerId("a")), slots.take(PeerId("a")), slots.take(PeerId("b")):
        assert slots.taken == 3
        for peer in ("a", "b", "c"):
            with pytest.raises(Exception, match="too many"), slots.take(PeerId(peer)):
                pass
    assert slots.taken == 0


async def test_an_answer_that_does_not_fit_is_a_fault(nursery: trio.Nursery) -> None:
    async def large(peer_id: PeerId, args: Args) -> Args:
        return (b"x" * rpc.FRAME_BYTES_MAX,)

    pair = Pair(nursery)
    pair.server.register("large", large)
    with pytest.raises(PeerFault) as caught:
        await pair.call("large")
    assert caught.value.code == "answer_too_large"


async def test_a_request_that_does_not_fit_is_cut(nursery: trio.Nursery) -> None:
    pair = Pair(nursery)
    pair.server.register("echo", echo)
    with pytest.raises(PeerFault):
        await pair.call("echo", (b"x" * rpc.FRAME_BYTES_MAX,))
    assert pair.far.crashes == []


async def test_a_bug_in_a_handler_ends_its_stream_only(nursery: trio.Nursery) -> None:
    async def broken(peer_id: PeerId, args: Args) -> Args:
        raise ZeroDivisionError

    pair = Pair(nursery)
    pair.server.register("broken", broken)
    pair.server.register("echo", echo)
    with pytest.raises(PeerFault):
        await pair.call("broken")
    await trio.testing.wait_all_tasks_blocked()
    assert [type(error) for error in pair.far.crashes] == [ZeroDivisionError]
    assert await pair.call("echo") == ("near",)


class Gate:
    """An admission that is open or shut."""

    def __init__(self) -> None:
        self.is_open = False
        self.ensured: list[PeerId] = []

    async def admitted(self, peer_id: PeerId) -> bool:
        return self.is_open

    async def ensure(self, peer_id: PeerId, addresses: Sequence[str], timeout: float) -> None:
        self.ensured.append(peer_id)


async def test_nobody_is_served_before_hello(nursery: trio.Nursery) -> None:
    pair, gate = Pair(nursery), Gate()
    pair.server.register("echo", echo)
    pair.server.register("hello", echo, before_hello=True)
    pair.server.require(gate)
    with pytest.raises(PeerFault) as caught:
        await pair.call("echo")
    assert caught.value.code == "hello_first"
    assert await pair.call("hello") == ("near",)
    gate.is_open = True
    assert await pair.call("echo") == ("near",)


async def test_hello_is_ensured_before_a_call(nursery: trio.Nursery) -> None:
    pair, gate = Pair(nursery), Gate()
    pair.server.register("echo", echo)
    pair.client.register("hello", echo, before_hello=True)
    pair.client.require(gate)
    await pair.call("echo")
    assert gate.ensured == [pair.far.peer_id]


async def feed(host: MemoryHost, protocol: str, data: bytes) -> None:
    near, far = stream_pair()
    await near.write(data)
    await near.aclose()
    await host.run_handler(host.handlers[protocol], far)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200), st.booleans())
async def test_random_requests_crash_nothing(data: bytes, framed: bool) -> None:
    async with trio.open_nursery() as nursery:
        pair = Pair(nursery)
        pair.server.register("echo", echo)
        await feed(pair.far, rpc.PROTOCOL, len(data).to_bytes(4, "big") + data if framed else data)
        assert pair.far.crashes == []


plain = st.recursive(
    st.none() | st.booleans() | st.integers(0, 2**64 - 1) | st.binary(max_size=9) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4).map(tuple),
    max_leaves=9,
)


@settings(max_examples=40, deadline=None)
@given(st.lists(plain, max_size=4).map(tuple))
async def test_any_record_as_answer_is_a_result_or_the_peers_fault(record: tuple[object, ...]) -> None:
    async def answer(stream: Stream) -> None:
        async with session(stream, 1):
            await read_frame(stream, 100)
            await write_frame(stream, encode(record))  # type: ignore[arg-type]

    async with trio.open_nursery() as nursery:
        pair = Pair(nursery)
        pair.far.serve(rpc.PROTOCOL, answer)
        outcome = await outcome_of(pair)
        if isinstance(outcome, PeerFault):
            assert rpc._CODE.fullmatch(outcome.code)
            assert str(outcome).isprintable()
        else:
            assert outcome == record[1]


async def outcome_of(pair: Pair) -> Args | PeerFault:
    try:
        return await pair.call("x")
    except PeerFault as fault:
        return fault
