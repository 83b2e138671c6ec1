"""When a node is in step with its peers: who has told all it has, who has more, and who only says so."""

import pytest
import trio

from tests.support.streams import MemoryNetwork
from tests.support.sync_node import Node, say_different, two_nodes
from tests.support.toy_ledger import toy_block
from xnode.net import sync, sync_plan
from xnode.net.sessions import read_record, write_record
from xnode.net.streams import Stream
from xnode.net.sync_rota import INTERVAL_SECONDS, QUIET_SECONDS, SKIM_SECONDS, SKIMS_MAX, SessionEnd


@pytest.fixture(autouse=True)
def virtual_time(autojump_clock: object) -> None:
    """No deadline of a session passes because the machine is slow."""


async def test_who_follows_through_what_it_has_goes_on_soon_and_is_not_met_before_the_end(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, autojump_clock: object
) -> None:
    monkeypatch.setattr(sync_plan, "SESSION_BLOCKS_MAX", 300)
    a, b = two_nodes(nursery)
    for number in range(6_000):
        b.ledger.grow(number % 40, 1)
    for wire in b.ledger.arrivals[:2_400]:  # of a peer that is gone
        a.ledger.add(wire)
    a.host.network.connect(a.host, b.host)
    nursery.start_soon(a.sync.run)
    while not a.sync.is_met():  # noqa: ASYNC110  as who writes on the ledger waits for it
        await trio.sleep(0.01)
    assert len(a.ledger.arrivals) == 6_000
    assert trio.current_time() < 8 * SKIM_SECONDS + 1


async def test_a_log_without_end_costs_ever_less_and_holds_nobody_up(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, autojump_clock: object
) -> None:
    monkeypatch.setattr(sync_plan, "SESSION_PAGES_MAX", 4)
    network = MemoryNetwork(nursery)
    a, b, liar = Node(network, "a"), Node(network, "b"), network.host("liar")
    sessions = []

    async def serve(stream: Stream) -> None:
        sessions.append(trio.current_time())
        await say_different(stream, 10**6)
        for page in range(1, 5):
            await read_record(stream, 1000)
            await write_record(stream, (sync_plan.BLOCKS, (), 10 * len(sessions) + page, False))

    liar.serve(sync.PROTOCOL, serve)
    network.connect(a.host, liar)
    network.connect(a.host, b.host)
    nursery.start_soon(a.sync.run)
    await trio.sleep(SKIM_SECONDS * (SKIMS_MAX + 1))
    assert len(sessions) == SKIMS_MAX + 1
    with trio.fail_after(QUIET_SECONDS):
        while not a.sync.is_met():  # noqa: ASYNC110  as who writes on the ledger waits for it
            await trio.sleep(0.25)
    assert len(sessions) <= SKIMS_MAX + 1 + QUIET_SECONDS / INTERVAL_SECONDS


async def test_a_block_that_is_held_again_and_again_is_no_gain(nursery: trio.Nursery, autojump_clock: object) -> None:
    network = MemoryNetwork(nursery)
    a, b, liar = Node(network, "a"), Node(network, "b"), network.host("liar")
    sessions = []

    async def serve(stream: Stream) -> None:
        sessions.append(trio.current_time())
        await say_different(stream, 10**6)
        await read_record(stream, 1000)
        await trio.sleep(0.05)
        await write_record(stream, (sync_plan.BLOCKS, (toy_block(7, 5),), len(sessions), True))

    liar.serve(sync.PROTOCOL, serve)
    network.connect(a.host, liar)
    network.connect(a.host, b.host)
    nursery.start_soon(a.sync.run)
    with trio.fail_after(QUIET_SECONDS + 1):
        while not a.sync.is_met():  # noqa: ASYNC110  as who writes on the ledger waits for it
            await trio.sleep(0.25)
    await trio.sleep(100 - trio.current_time())
    assert len(sessions) <= 100 / INTERVAL_SECONDS + 1


async def test_who_gets_much_that_must_wait_first_goes_on_soon(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, autojump_clock: object
) -> None:
    monkeypatch.setattr(sync_plan, "SESSION_BLOCKS_MAX", 1_000)
    a, b = two_nodes(nursery)
    for owner in range(400):
        b.ledger.grow(owner, 10)
    first = {toy_block(owner, 1) for owner in range(400)}  # in earnest of other parts, and brought by another peer
    b.ledger.arrivals.sort(key=first.__contains__)
    a.host.network.connect(a.host, b.host)
    nursery.start_soon(a.sync.run)
    await trio.sleep(3 * SKIM_SECONDS + 1)
    assert a.ledger.heads == b.ledger.heads


async def reset(stream: Stream) -> None:
    """Takes its share, and brings nothing of it."""
    await say_different(stream)
    await stream.reset()


async def test_a_peer_that_was_asked_for_half_has_not_told_all(nursery: trio.Nursery, autojump_clock: object) -> None:
    network = MemoryNetwork(nursery)
    a, b, bad = Node(network, "a"), Node(network, "b"), network.host("z-bad")
    for owner in range(200):
        b.ledger.grow(owner, 1)
    bad.serve(sync.PROTOCOL, reset)
    network.connect(a.host, b.host)
    network.connect(a.host, bad)
    nursery.start_soon(a.sync.run)
    while not a.sync.is_met():  # noqa: ASYNC110  as who writes on the ledger waits for it
        await trio.sleep(0.01)
    assert a.ledger.extent().digest == b.ledger.extent().digest
    assert trio.current_time() < 2 * INTERVAL_SECONDS


async def test_who_was_told_some_of_the_buckets_that_differ_has_not_told_all(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync_plan, "FRONTIERS_SENT", 50)
    a, b = two_nodes(nursery)
    for owner in range(200):
        b.ledger.grow(owner, 2)
        a.ledger.grow(owner, 1)
    ends = [await a.fetch(b) for _ in range(5)]
    assert ends == [*[SessionEnd.MORE] * 3, SessionEnd.CAUGHT_UP, SessionEnd.EQUAL]
    b.ledger.grow(1, 1)
    for owner in range(200, 400):
        a.ledger.grow(owner, 1)
    assert not a.sync.is_met()


async def test_two_peers_that_always_differ_and_bring_nothing_are_asked_seldom_and_have_told_all(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    network = MemoryNetwork(nursery)
    a, others = Node(network, "a"), [Node(network, name) for name in "bc"]
    for owner in range(200):
        a.ledger.grow(owner, 2)
        for other in others:
            other.ledger.grow(owner, 1)  # behind us
    for other in others:
        network.connect(a.host, other.host)
    nursery.start_soon(a.sync.run)
    await trio.sleep(25)
    assert a.sync.is_met()
    assert sum(other.sync.counters["served"] for other in others) <= 6
