"""Sync sessions between hosts in memory, on virtual time."""

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.streams import MemoryHost, MemoryNetwork, stream_pair
from tests.support.toy_ledger import ToyLedger, account, toy_block
from xnode.core.faults import PeerFault
from xnode.net import sync, sync_plan
from xnode.net.sessions import read_record, write_record
from xnode.net.streams import Stream
from xnode.net.sync import Sync
from xnode.net.sync_plan import SessionEnd


class Node:
    """A host with a toy ledger and its sync."""

    def __init__(self, network: MemoryNetwork, name: str, breath: bool = False) -> None:
        self.host: MemoryHost = network.host(name)
        self.ledger = ToyLedger(breath)
        self.sync = Sync(self.host, self.ledger, self.ledger)

    async def fetch(self, other: "Node | MemoryHost") -> SessionEnd:
        host = other.host if isinstance(other, Node) else other
        return await self.sync.fetch(host.peer_id)


def two_nodes(nursery: trio.Nursery, breath: bool = False) -> tuple[Node, Node]:
    network = MemoryNetwork(nursery)
    return Node(network, "a"), Node(network, "b", breath)


async def test_equal_ledgers_exchange_digests_only(nursery: trio.Nursery) -> None:
    a, b = two_nodes(nursery)
    a.ledger.grow(1, 3)
    b.ledger.grow(1, 3)
    assert await a.fetch(b) is SessionEnd.EQUAL
    assert b.sync.counters["served_blocks"] == 0
    assert a.sync.state().equal_peers == 1


@pytest.mark.parametrize("breath", [False, True])
async def test_missing_blocks_come_in_their_order_of_arrival(nursery: trio.Nursery, breath: bool) -> None:
    a, b = two_nodes(nursery, breath)
    for height in range(1, 200):
        for owner in (3, 1, 2):
            b.ledger.add(toy_block(owner, height))
    for height in range(1, 100):
        a.ledger.add(toy_block(1, height))
    assert await a.fetch(b) is SessionEnd.CAUGHT_UP
    assert a.ledger.heads == b.ledger.heads
    assert a.ledger.arrivals[99:] == [wire for wire in b.ledger.arrivals if wire not in set(a.ledger.arrivals[:99])]
    assert a.sync.counters["blocks_applied"] == 3 * 199 - 99 == b.sync.counters["served_blocks"]
    assert await a.fetch(b) is SessionEnd.EQUAL
    assert a.host.crashes == b.host.crashes == []


async def test_each_side_gets_what_it_misses(nursery: trio.Nursery) -> None:
    a, b = two_nodes(nursery)
    a.ledger.grow(1, 10)
    b.ledger.grow(2, 10)
    assert await a.fetch(b) is SessionEnd.CAUGHT_UP
    assert await b.fetch(a) is SessionEnd.CAUGHT_UP
    assert await a.fetch(b) is SessionEnd.EQUAL


async def test_many_accounts_cross_in_pages(nursery: trio.Nursery) -> None:
    a, b = two_nodes(nursery)
    for owner in range(1, 1300):
        b.ledger.grow(owner, 1)
        a.ledger.grow(owner, owner % 2)
    assert await a.fetch(b) is SessionEnd.CAUGHT_UP
    assert a.ledger.heads == b.ledger.heads


async def test_a_session_is_bounded_and_goes_on_next_time(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync_plan, "SESSION_BLOCKS_MAX", 100)
    a, b = two_nodes(nursery)
    b.ledger.grow(1, 250)
    assert [await a.fetch(b) for _ in range(4)] == [
        SessionEnd.MORE,
        SessionEnd.MORE,
        SessionEnd.CAUGHT_UP,
        SessionEnd.EQUAL,
    ]
    assert a.ledger.height(account(1)) == 250


async def test_a_fork_shows_itself_and_does_no_harm(nursery: trio.Nursery) -> None:
    a, b = two_nodes(nursery)
    a.ledger.grow(1, 5, b"mine")
    b.ledger.grow(1, 5, b"yours")
    b.ledger.grow(2, 5)
    assert await a.fetch(b) is SessionEnd.CAUGHT_UP
    assert a.sync.counters["blocks_received"] == 6
    assert a.sync.counters["blocks_applied"] == 5


async def test_run_catches_up_with_every_peer(nursery: trio.Nursery, autojump_clock: object) -> None:
    network = MemoryNetwork(nursery)
    nodes = [Node(network, name) for name in "abc"]
    for number, node in enumerate(nodes, start=1):
        node.ledger.grow(number, 20)
        nursery.start_soon(node.sync.run)
    for one, other in ((0, 1), (1, 2)):
        network.connect(nodes[one].host, nodes[other].host)
        nodes[one].sync.kick()
    await trio.sleep(65.5)
    assert all(node.ledger.height(account(number)) == 20 for node in nodes for number in (1, 2, 3))
    assert [node.host.crashes for node in nodes] == [[], [], []]
    state = nodes[1].sync.state()
    assert (state.equal_peers, state.is_running) == (2, False)


async def stall(stream: Stream) -> None:
    await trio.sleep_forever()


async def test_a_stalling_peer_is_left_and_the_next_one_served(nursery: trio.Nursery, autojump_clock: object) -> None:
    network = MemoryNetwork(nursery)
    a, b = Node(network, "a"), Node(network, "b")
    b.ledger.grow(1, 10)
    bad = network.host("0-bad")
    bad.serve(sync.PROTOCOL, stall)
    network.connect(a.host, bad)
    network.connect(a.host, b.host)
    nursery.start_soon(a.sync.run)
    await trio.sleep(sync.STEP_SECONDS_MAX + 1)
    assert a.ledger.height(account(1)) == 10
    assert a.sync.counters["fault_peer_too_slow"] == 1


async def serve_pages(stream: Stream, *pages: tuple[tuple[bytes, ...], bool]) -> None:
    await read_record(stream, 1000)
    await write_record(stream, (sync_plan.DIFFERENT,))
    await read_record(stream, 10_000)
    for wires, last in pages:
        await read_record(stream, 1000)
        await write_record(stream, (sync_plan.BLOCKS, wires, last))


def some_blocks(count: int, start: int = 1) -> tuple[bytes, ...]:
    return tuple(toy_block(1, height) for height in range(start, start + count))


@pytest.mark.parametrize(
    ("pages", "code", "height"),
    [
        ([(some_blocks(65), False)], "fault_not_asked", 0),
        ([(some_blocks(63), False)], "fault_not_asked", 0),
        ([(some_blocks(64), False), (some_blocks(129, 65), True)], "fault_not_asked", 64),
        ([(some_blocks(3) * 2, True)], "fault_malformed", 0),
        ([(some_blocks(64), False), ((), False)], "fault_not_asked", 64),
        ([((b"x" * 100_000,) * 3, True)], "fault_frame_too_long", 0),
    ],
)
async def test_a_peer_that_breaks_its_promise_is_cut(
    nursery: trio.Nursery, pages: list[tuple[tuple[bytes, ...], bool]], code: str, height: int
) -> None:
    network = MemoryNetwork(nursery)
    a, bad = Node(network, "a"), network.host("bad")

    async def serve(stream: Stream) -> None:
        await serve_pages(stream, *pages)

    bad.serve(sync.PROTOCOL, serve)
    a.ledger.grow(2, 1)
    assert await a.fetch(bad) is SessionEnd.FAULT
    assert a.sync.counters[code] == 1
    assert a.ledger.height(account(1)) == height
    assert all(stream.is_reset for stream in a.host.streams)


async def test_an_endless_trickle_makes_way(nursery: trio.Nursery, autojump_clock: object) -> None:
    network = MemoryNetwork(nursery)
    a, slow = Node(network, "a"), network.host("slow")

    async def serve(stream: Stream) -> None:
        await read_record(stream, 1000)
        await write_record(stream, (sync_plan.DIFFERENT,))
        await read_record(stream, 10_000)
        height = 1
        while True:
            _, count = await read_record(stream, 1000)
            assert isinstance(count, int)
            await trio.sleep(9)
            await write_record(stream, (sync_plan.BLOCKS, some_blocks(count, height), False))
            height += count

    slow.serve(sync.PROTOCOL, serve)
    before = trio.current_time()
    assert await a.fetch(slow) is SessionEnd.MORE
    assert trio.current_time() - before < sync.SESSION_SECONDS + sync.STEP_SECONDS_MAX


async def test_unreachable_peer_is_a_fault_not_an_end(nursery: trio.Nursery) -> None:
    network = MemoryNetwork(nursery)
    a, gone = Node(network, "a"), network.host("gone")
    gone.up = False
    assert await a.fetch(gone) is SessionEnd.FAULT


async def test_one_session_per_peer_is_served(nursery: trio.Nursery) -> None:
    a, b = two_nodes(nursery)
    first = await a.host.open_stream(b.host.peer_id, sync.PROTOCOL)
    await trio.testing.wait_all_tasks_blocked()
    second = await a.host.open_stream(b.host.peer_id, sync.PROTOCOL)
    with pytest.raises(PeerFault):
        await second.read(1)
    assert b.sync.counters["served_busy"] == 1
    await first.reset()
    await trio.testing.wait_all_tasks_blocked()
    assert await a.fetch(b) is SessionEnd.EQUAL


async def test_a_silent_asker_is_dropped(nursery: trio.Nursery, autojump_clock: object) -> None:
    a, b = two_nodes(nursery)
    stream = await a.host.open_stream(b.host.peer_id, sync.PROTOCOL)
    before = trio.current_time()
    with pytest.raises(PeerFault):
        await stream.read(1)
    assert trio.current_time() - before == pytest.approx(sync.STEP_SECONDS_MAX)


async def test_an_asker_of_too_much_is_cut(nursery: trio.Nursery) -> None:
    a, b = two_nodes(nursery)
    b.ledger.grow(1, 500)
    stream = await a.host.open_stream(b.host.peer_id, sync.PROTOCOL)
    await write_record(stream, (sync_plan.DIGEST, bytes(32)))
    assert await read_record(stream, 1000) == (sync_plan.DIFFERENT,)
    await write_record(stream, (sync_plan.FRONTIERS, (), True))
    await write_record(stream, (sync_plan.ASK, 257))
    with pytest.raises(PeerFault):
        await read_record(stream, 1_000_000)
    await trio.testing.wait_all_tasks_blocked()
    assert b.sync.counters["served_malformed"] == 1
    assert b.sync.counters["served_blocks"] == 0


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=300), st.booleans(), st.booleans())
async def test_random_bytes_crash_nothing(data: bytes, framed: bool, greeted: bool) -> None:
    async with trio.open_nursery() as nursery:
        _, b = two_nodes(nursery)
        near, far = stream_pair()
        if greeted:
            await write_record(near, (sync_plan.DIGEST, bytes(32)))
        await near.write(len(data).to_bytes(4, "big") + data if framed else data)
        await near.aclose()
        await b.host.run_handler(b.host.handlers[sync.PROTOCOL], far)
        assert b.host.crashes == []


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=300))
async def test_random_answers_crash_nothing(data: bytes) -> None:
    async def serve(stream: Stream) -> None:
        await stream.write(data)
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        network = MemoryNetwork(nursery)
        a, bad = Node(network, "a"), network.host("bad")
        bad.serve(sync.PROTOCOL, serve)
        assert await a.fetch(bad) in SessionEnd
