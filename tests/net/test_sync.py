"""Sync sessions between hosts in memory, on virtual time."""

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.streams import MemoryNetwork, stream_pair
from tests.support.sync_node import Node, say_different, two_nodes
from tests.support.toy_ledger import account, toy_block
from xnode.core.faults import PeerFault
from xnode.net import sync, sync_plan
from xnode.net.sessions import read_record, write_record
from xnode.net.streams import Stream
from xnode.net.sync import Sync
from xnode.net.sync_rota import SessionEnd


@pytest.fixture(autouse=True)
def virtual_time(autojump_clock: object) -> None:
    """No deadline of a session passes because the machine is slow."""


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
    known = set(a.ledger.arrivals[:99])
    assert a.ledger.arrivals[99:] == [wire for wire in b.ledger.arrivals if wire not in known]
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
        b.ledger.grow(owner, 2)
        a.ledger.grow(owner, 1 + owner % 2)
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
    assert a.sync.counters["blocks_received"] == 10
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
    await say_different(stream)
    for wires, last in pages:
        await read_record(stream, 1000)
        await write_record(stream, (sync_plan.BLOCKS, wires, 0, last))


def some_blocks(count: int, start: int = 1) -> tuple[bytes, ...]:
    return tuple(toy_block(1, height) for height in range(start, start + count))


@pytest.mark.parametrize(
    ("pages", "code", "height"),
    [
        ([(some_blocks(65), False)], "fault_not_asked", 0),
        ([(some_blocks(63), False)], "fault_not_asked", 0),
        ([(some_blocks(64), False), (some_blocks(129, 65), True)], "fault_not_asked", 0),
        ([(some_blocks(3) * 2, True)], "fault_malformed", 0),
        ([(some_blocks(64), False), ((), False)], "fault_not_asked", 0),
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
        await say_different(stream)
        height = 1
        while True:
            _, count = await read_record(stream, 1000)
            assert isinstance(count, int)
            await trio.sleep(9)
            await write_record(stream, (sync_plan.BLOCKS, some_blocks(count, height), 0, False))
            height += count

    slow.serve(sync.PROTOCOL, serve)
    before = trio.current_time()
    assert await a.fetch(slow) is SessionEnd.MORE  # slow, but it brought some
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
    assert (await read_record(stream, 2000))[0] == sync_plan.DIFFERENT
    await write_record(stream, (sync_plan.FOLLOW, 2**64 - 1, 0))
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


async def test_who_lacks_much_follows_and_goes_on_where_it_was(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync_plan, "SESSION_BLOCKS_MAX", 700)
    a, b = two_nodes(nursery)
    for number in range(2_000):
        b.ledger.grow(number % 40, 1)
    assert [await a.fetch(b) for _ in range(2)] == [SessionEnd.MORE, SessionEnd.MORE]
    again = Node(a.host.network, "a")  # killed, and started again with what was on disk
    again.ledger = a.ledger
    again.sync = Sync(again.host, a.ledger, a.ledger)
    assert again.ledger.resumes[b.host.peer_id].after == 1_400
    ends = [await again.fetch(b) for _ in range(3)]
    assert ends == [SessionEnd.MORE, SessionEnd.MORE, SessionEnd.EQUAL] or ends[-1] is SessionEnd.EQUAL
    assert again.ledger.arrivals == b.ledger.arrivals
    assert b.sync.counters["served_blocks"] == 2_000


async def test_parts_are_split_between_peers_and_each_block_comes_once(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    network = MemoryNetwork(nursery)
    a, others = Node(network, "a"), [Node(network, name) for name in ("b", "c", "d")]
    for number in range(3_000):
        for other in others:
            other.ledger.grow(number % 300, 1)
    a.ledger.seconds = 0.01
    for other in others:
        network.connect(a.host, other.host)
    nursery.start_soon(a.sync.run)
    await trio.sleep(5)
    assert a.ledger.extent().digest == others[0].ledger.extent().digest
    served = [other.sync.counters["served_blocks"] for other in others]
    assert sum(served) == 3_000
    assert min(served) > 500


async def test_a_peer_that_trickles_holds_up_nobody_else(nursery: trio.Nursery, autojump_clock: object) -> None:
    network = MemoryNetwork(nursery)
    a, b, slow = Node(network, "a"), Node(network, "b"), network.host("slow")
    for number in range(3_000):
        b.ledger.grow(number % 300, 1)

    async def serve(stream: Stream) -> None:
        await say_different(stream, 3_000)
        while True:
            await read_record(stream, 1000)
            await trio.sleep(9)
            await write_record(stream, (sync_plan.BLOCKS, (), 1, False))

    slow.serve(sync.PROTOCOL, serve)
    network.connect(a.host, slow)
    network.connect(a.host, b.host)
    nursery.start_soon(a.sync.run)
    await trio.sleep(5)
    half = len(a.ledger.arrivals)
    assert 1_000 < half < 3_000  # the rest is asked of the other one
    await trio.sleep(sync.SESSION_SECONDS + 25)
    assert a.ledger.extent().digest == b.ledger.extent().digest


async def test_a_liar_about_fingerprints_costs_bounded_work(nursery: trio.Nursery, autojump_clock: object) -> None:
    network = MemoryNetwork(nursery)
    a, liar = Node(network, "a"), network.host("liar")
    for owner in range(200):
        a.ledger.grow(owner, 1)
    sessions = []

    async def serve(stream: Stream) -> None:
        sessions.append(trio.current_time())
        await say_different(stream, 10**9)
        await read_record(stream, 1000)
        await write_record(stream, (sync_plan.BLOCKS, (), 10**9, True))
        await stream.aclose()

    liar.serve(sync.PROTOCOL, serve)
    network.connect(a.host, liar)
    nursery.start_soon(a.sync.run)
    await trio.sleep(800)
    assert len(sessions) <= 10
    assert a.sync.phase() is sync.Phase.SETTLED


async def test_a_crowded_node_asks_one_peer_at_a_time(nursery: trio.Nursery, autojump_clock: object) -> None:
    network = MemoryNetwork(nursery)
    a, others = Node(network, "a"), [Node(network, name) for name in ("b", "c")]
    for other in others:
        other.ledger.grow(1, 500)
        network.connect(a.host, other.host)
    a.ledger.crowded = True
    nursery.start_soon(a.sync.run)
    await trio.sleep(3)
    assert a.ledger.height(account(1)) == 500
    assert {other.sync.counters["served_blocks"] for other in others} == {0, 500}


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 12), st.integers(1, 9)), max_size=12),
    st.lists(st.tuples(st.integers(1, 12), st.integers(1, 9)), max_size=12),
)
async def test_any_two_ledgers_of_the_same_chains_become_equal(
    ours: list[tuple[int, int]], theirs: list[tuple[int, int]]
) -> None:
    async with trio.open_nursery() as nursery:
        a, b = two_nodes(nursery)
        for node, growth in ((a, ours), (b, theirs)):
            for owner, count in growth:
                node.ledger.grow(owner, count)
        await a.fetch(b)
        await b.fetch(a)
        assert await a.fetch(b) is SessionEnd.EQUAL
        assert a.ledger.heads == b.ledger.heads
        assert a.host.crashes == b.host.crashes == []
