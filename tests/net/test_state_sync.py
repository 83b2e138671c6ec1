"""State-chain sync between hosts in memory, on virtual time: pages, forks, bounds, peers that serve badly."""

from collections.abc import Sequence

import pytest
import trio
import trio.testing

from tests.support.streams import MemoryHost, MemoryNetwork
from tests.support.toy_ledger import ToyLedger
from xnode.core.codec import Plain, decode, encode
from xnode.core.faults import PeerFault
from xnode.net import state_plan
from xnode.net.sessions import read_record, session, write_record
from xnode.net.state_plan import Answer, Question, Search, parse_answer, parse_question
from xnode.net.state_sync import STATE_PROTOCOL, StateFirst, StateLedger, StateSync
from xnode.net.streams import Stream
from xnode.net.sync import Phase, Sync
from xnode.net.sync_progress import ALONE_SECONDS
from xnode.net.sync_rota import SessionEnd

BLOCK_BYTES = 300


def toy_block(number: int, salt: str = "") -> bytes:
    return encode((number, salt, bytes(BLOCK_BYTES)))


class ToyChain(StateLedger):
    """A chain of toy blocks; it takes what follows, and notes what it refuses."""

    def __init__(self, length: int = 1, salt: str = "", salted_from: int = 1) -> None:
        self.chain = [toy_block(number, salt if number >= salted_from else "") for number in range(length)]
        self.refused: list[bytes] = []

    def tip_number(self) -> int:
        return len(self.chain) - 1

    def wires(self, first: int, count: int) -> list[bytes]:
        return self.chain[first : first + count]

    def is_ours(self, number: int, wire: bytes) -> bool:
        if decode(wire)[0] != number:
            raise PeerFault("malformed", "another block than was asked for")
        return self.chain[number] == wire

    async def take_synced(self, wires: Sequence[bytes]) -> int:
        await trio.lowlevel.checkpoint()
        for count, wire in enumerate(wires):
            if decode(wire)[0] != len(self.chain):
                self.refused.append(wire)
                return count
            self.chain.append(wire)
        return len(wires)


class Node:
    """A host with a chain and its sync."""

    def __init__(self, network: MemoryNetwork, name: str, chain: ToyChain) -> None:
        self.host: MemoryHost = network.host(name)
        self.chain = chain
        self.sync = StateSync(self.host, chain)


def two_nodes(nursery: trio.Nursery, one: ToyChain, other: ToyChain) -> tuple[Node, Node]:
    network = MemoryNetwork(nursery)
    return Node(network, "a", one), Node(network, "b", other)


async def test_equal_chains_show_one_block(nursery: trio.Nursery) -> None:
    a, b = two_nodes(nursery, ToyChain(9), ToyChain(9))
    assert await a.sync.fetch(b.host.peer_id) is SessionEnd.EQUAL
    assert b.sync.counters["served_blocks"] == 1
    assert a.sync.met == {b.host.peer_id}


@pytest.mark.parametrize("length", [2, 65, 66, 1000])
async def test_missing_blocks_come_in_pages(nursery: trio.Nursery, length: int) -> None:
    a, b = two_nodes(nursery, ToyChain(1), ToyChain(length))
    assert await a.sync.fetch(b.host.peer_id) is SessionEnd.CAUGHT_UP
    assert a.chain.chain == b.chain.chain
    assert a.host.crashes == b.host.crashes == []
    await trio.testing.wait_all_tasks_blocked()
    assert b.sync.counters["served"] == 1


async def test_whoever_is_ahead_has_nothing_to_get(nursery: trio.Nursery) -> None:
    a, b = two_nodes(nursery, ToyChain(9), ToyChain(3))
    assert await a.sync.fetch(b.host.peer_id) is SessionEnd.EQUAL
    assert await b.sync.fetch(a.host.peer_id) is SessionEnd.CAUGHT_UP
    assert len(b.chain.chain) == 9


async def test_a_page_ends_where_it_is_full_of_bytes(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_plan, "PAGE_BYTES_MAX", 2 * BLOCK_BYTES)
    a, b = two_nodes(nursery, ToyChain(1), ToyChain(40))
    assert await a.sync.fetch(b.host.peer_id) is SessionEnd.CAUGHT_UP
    assert len(a.chain.chain) == 40


async def test_a_session_is_bounded_and_goes_on_next_time(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_plan, "SESSION_BLOCKS_MAX", 100)
    a, b = two_nodes(nursery, ToyChain(1), ToyChain(251))
    ends = [await a.sync.fetch(b.host.peer_id) for _ in range(4)]
    assert ends == [SessionEnd.MORE, SessionEnd.MORE, SessionEnd.CAUGHT_UP, SessionEnd.EQUAL]
    assert len(a.chain.chain) == 251


@pytest.mark.parametrize(("ours", "theirs"), [(50, 50), (50, 20), (20, 50)])
@pytest.mark.parametrize("at", [1, 2, 10, 19])
async def test_the_first_block_that_differs_is_shown(nursery: trio.Nursery, ours: int, theirs: int, at: int) -> None:
    a, b = two_nodes(nursery, ToyChain(ours), ToyChain(theirs, "other", at))
    assert await a.sync.fetch(b.host.peer_id) is SessionEnd.CAUGHT_UP
    assert a.chain.refused == [toy_block(at, "other")]
    assert len(a.chain.chain) == ours


async def test_run_asks_everybody_and_the_ledger_waits_for_it(nursery: trio.Nursery, autojump_clock: object) -> None:
    network = MemoryNetwork(nursery)
    nodes = [Node(network, name, ToyChain(length)) for name, length in (("a", 1), ("b", 30), ("c", 90))]
    met: list[str] = []
    nodes[0].sync.on_met = met.append
    view = StateFirst(nodes[0].host, nodes[0].sync)
    for other in nodes[1:]:
        network.connect(nodes[0].host, other.host)
    assert view.peers() == []
    nursery.start_soon(nodes[0].sync.run)
    await trio.sleep(2)
    assert sorted(met) == ["b", "c"] == [peer.peer_id for peer in view.peers()]
    assert len(nodes[0].chain.chain) == 90
    nodes[2].chain.chain.append(toy_block(90))
    await trio.sleep(21)
    assert len(nodes[0].chain.chain) == 91


async def test_a_node_is_not_alone_while_the_state_chain_of_its_peers_is_fetched(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    network = MemoryNetwork(nursery)
    a, slow = Node(network, "a", ToyChain(1)), network.host("slow")

    async def stall(_stream: Stream) -> None:
        await trio.sleep_forever()

    slow.serve(STATE_PROTOCOL, stall)
    network.connect(a.host, slow)
    ledger = ToyLedger()
    view = StateFirst(a.host, a.sync)
    sync = Sync(view, ledger, ledger, lambda: bool(a.host.peers()))
    nursery.start_soon(a.sync.run)
    nursery.start_soon(sync.run)
    await trio.sleep(2 * ALONE_SECONDS)
    assert view.peers() == []
    assert sync.phase() is Phase.STARTING
    assert sync.progress().phase is Phase.STARTING
    await a.host.disconnect(slow.peer_id)
    await trio.sleep(1)
    assert sync.phase() is Phase.STARTING  # since when it is alone is seen now
    await trio.sleep(ALONE_SECONDS)
    assert sync.phase() is Phase.SETTLED


async def test_a_peer_that_does_not_speak_it_is_met_all_the_same(nursery: trio.Nursery) -> None:
    network = MemoryNetwork(nursery)
    a, stranger = Node(network, "a", ToyChain(1)), network.host("stranger")
    assert await a.sync.fetch(stranger.peer_id) is SessionEnd.FAULT
    assert a.sync.met == {stranger.peer_id}


@pytest.mark.parametrize(
    "answers",
    [
        [(1, 5, (toy_block(0),)), (1, 5, ())],  # has blocks and gives none
        [(1, 5, (toy_block(3),))],  # another than was asked for
        [(1, 5, (toy_block(0), toy_block(1)))],  # more than was asked for
        [(1, 5, (toy_block(0),)), (1, 5, (toy_block(2),))],  # not the next one
        [(1, 5, ("text",))],
        [(2, 5, ())],
        [(True, 5, (toy_block(0),))],
        [(1, -0, ())],
        [],
    ],
)
async def test_a_peer_that_serves_badly_is_at_fault(
    nursery: trio.Nursery, autojump_clock: object, answers: list[tuple[Plain, ...]]
) -> None:
    network = MemoryNetwork(nursery)
    a, liar = Node(network, "a", ToyChain(1)), network.host("liar")

    async def lie(stream: Stream) -> None:
        async with session(stream, 100):
            for answer in answers:
                await read_record(stream, 1000)
                await write_record(stream, answer)
            await trio.sleep(60)

    liar.serve(STATE_PROTOCOL, lie)
    assert await a.sync.fetch(liar.peer_id) is SessionEnd.FAULT
    assert len(a.chain.chain) == 1


@pytest.mark.parametrize(
    "question", [(0, 0, 0), (0, 0, 257), (0, -1, 1), (0, True, 1), (0, 0, "1"), (1, 0, 1), (False, 0, 1), (0, 0), ()]
)
async def test_a_bad_question_ends_the_session(nursery: trio.Nursery, question: tuple[Plain, ...]) -> None:
    network = MemoryNetwork(nursery)
    b, asker = Node(network, "b", ToyChain(5)), network.host("asker")
    stream = await asker.open_stream(b.host.peer_id, STATE_PROTOCOL)
    if -1 in question:
        with pytest.raises(PeerFault):
            parse_question(question, 0)
        return
    await write_record(stream, question)
    with pytest.raises(PeerFault):
        await read_record(stream, 10_000)
    assert b.host.crashes == []


def test_an_asker_gets_a_sessions_blocks_and_no_more() -> None:
    assert parse_question((0, 0, 256), state_plan.SESSION_BLOCKS_MAX) == Question(0, 256)
    with pytest.raises(PeerFault) as caught:
        parse_question((0, 0, 256), state_plan.SESSION_BLOCKS_MAX + 1)
    assert caught.value.code == "too_many"


def test_an_empty_page_is_right_where_there_is_nothing() -> None:
    assert parse_answer((1, 4, ()), Question(5, 1)) == Answer(4, ())


@pytest.mark.parametrize("first", range(1, 40))
def test_the_search_finds_the_first(first: int) -> None:
    search, steps = Search(0, 39), 0
    while not search.is_over:
        search, steps = search.on_compared(search.middle < first), steps + 1
    assert search.differs == first
    assert steps <= 6
