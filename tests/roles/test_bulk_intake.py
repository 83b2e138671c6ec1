"""Many old blocks at once: in any order, killed in the middle, from peers that lie, while others write."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
import trio

from tests.support.big_ledger import Maker, Shape, big_genesis
from tests.support.ledger import NOW, Chain, MemoryLedger, address_of
from tests.support.store import GENESIS as STORY
from tests.support.store import dump, story_blocks
from tests.support.streams import MemoryNetwork
from xnode.core.blocks import block_hash, decode_block, encode_block
from xnode.core.faults import PeerFault
from xnode.core.genesis import Genesis
from xnode.core.held import Held
from xnode.core.ledger import Effects, Outcome
from xnode.core.values import NS, U64_MAX
from xnode.net import sync_plan, sync_rounds
from xnode.net.streams import PeerId
from xnode.net.sync import Sync
from xnode.net.sync_plan import Resume, Taken
from xnode.net.sync_rota import SessionEnd
from xnode.roles.bulk_intake import BATCH_BLOCKS, RESUMES_MAX, BulkIntake
from xnode.roles.ledger_sync import LedgerSource
from xnode.roles.replica import RELEASED_MAX, Replica
from xnode.store.store import Store
from xnode.store.transaction import Transaction
from xnode.store.verify import verify_store

GENESIS = big_genesis()
PEER = PeerId("peer")
PAGE = 200


def make_wires(blocks: int = 1_500, accounts: int = 60) -> list[bytes]:
    return [encode_block(block) for block in Maker(GENESIS, Shape(blocks, accounts)).blocks()]


async def publish(_topic: str, _data: bytes) -> None:
    await trio.lowlevel.checkpoint()


class Node:
    """A ledger on disk with what fills it and what serves it."""

    def __init__(self, path: Path, network: MemoryNetwork | None = None, genesis: Genesis = GENESIS) -> None:
        self.store, self.now = Store.open(path, genesis), NOW
        self.replica = Replica(self.store, genesis, lambda: self.now, publish)
        self.intake = BulkIntake(self.store, genesis, self.replica)
        if network is not None:
            self.host = network.host(path.name)
            self.sync = Sync(self.host, LedgerSource(self.store), self.intake)

    async def take(self, wires: Sequence[bytes], resume: Resume | None = None) -> Taken:
        total = Taken()
        for start in range(0, len(wires), PAGE):
            taken = await self.intake.start(PEER, wires[start : start + PAGE]).land(resume)
            total = Taken(*(a + b for a, b in zip(total, taken, strict=True)))
        self.intake.flush()
        return total

    @property
    def blocks(self) -> int:
        with self.store.snapshot() as view:
            return view.counts().blocks

    @property
    def digest(self) -> bytes:
        with self.store.snapshot() as view:
            return view.frontiers_digest()


@pytest.mark.slow
async def test_a_ledger_lands_in_order_and_is_sound(tmp_path: Path) -> None:
    node, wires = Node(tmp_path / "a"), make_wires()
    assert await node.take(wires) == Taken(applied=1_500)
    assert await node.take(wires[:300]) == Taken(known=300)
    assert verify_store(node.store) == []


async def fill_both_ways(path: Path, genesis: Genesis, wires: Sequence[bytes]) -> list[dict[bytes, bytes]]:
    """All rows of a ledger that took these blocks in bulk, and of one that took one after the other."""
    found = []
    for name in ("bulk", "single"):
        node = Node(path / name, genesis=genesis)
        if name == "bulk":
            await node.take(wires)
        else:
            assert [node.replica.take_synced([wire]) for wire in wires] == [1] * len(wires)
        found.append(dump(node.store))
        node.store.close()
    return found


@pytest.mark.slow
async def test_in_bulk_the_ledger_is_byte_for_byte_that_of_one_block_after_the_other(tmp_path: Path) -> None:
    bulk, single = await fill_both_ways(tmp_path, GENESIS, make_wires(600))
    assert bulk == single


async def test_so_it_is_with_blocks_of_all_types(tmp_path: Path) -> None:
    wires = [encode_block(block) for block in story_blocks()]
    bulk, single = await fill_both_ways(tmp_path, STORY, wires)
    assert bulk == single


async def test_a_lease_dated_ahead_lands_when_its_time_has_come(tmp_path: Path) -> None:
    """It came by sync, so nobody looked at the clock; what it costs may still change."""
    node, late = Node(tmp_path / "a", genesis=STORY), STORY.timing.live_window * NS + 1
    ledger = MemoryLedger(STORY)
    lease = encode_block(ledger.chain("alice").lease(ledger, address_of("bob"), timestamp=NOW + late))
    assert await node.take([lease]) == Taken(refused=1)
    assert node.replica.take_synced([lease]) == 0
    node.now += 1
    assert await node.take([lease]) == Taken(applied=1)


@pytest.mark.slow
async def test_blocks_in_random_order_are_held_until_what_they_need_comes(tmp_path: Path) -> None:
    node, wires = Node(tmp_path / "a"), make_wires()
    Random(7).shuffle(wires)
    taken = await node.take(wires)
    assert (taken.applied, node.blocks, len(node.replica.held)) == (1_500, 1_500, 0)
    assert taken.held > 500
    assert verify_store(node.store) == []


async def test_many_that_wait_for_one_are_judged_a_few_at_a_time(tmp_path: Path, nursery: trio.Nursery) -> None:
    ledger, names = MemoryLedger(STORY), [f"waiting-{number}" for number in range(4 * RELEASED_MAX)]
    send = Chain(STORY, "alice").send(ledger, address_of("nobody"), 5)
    source = block_hash(STORY.network_key, send)
    node, steps = Node(tmp_path / "a", genesis=STORY), list[int]()
    await node.take([encode_block(Chain(STORY, name).receive(ledger, source)) for name in names])
    assert len(node.replica.held) == len(names)

    async def look() -> None:
        while True:
            steps.append(node.replica.outcomes[Outcome.NO_SOURCE])
            await trio.lowlevel.checkpoint()

    nursery.start_soon(look)
    assert (await node.take([encode_block(send)])).refused == len(names) == node.replica.outcomes[Outcome.NO_SOURCE]
    most = max(after - before for before, after in pairwise(steps))
    assert most <= 2 * RELEASED_MAX  # the other task's turn may be the last of one round and the first of the next
    nursery.cancel_scope.cancel()


@pytest.mark.slow
async def test_what_was_dropped_of_too_many_held_blocks_is_fetched_again(tmp_path: Path, nursery: trio.Nursery) -> None:
    network, wires = MemoryNetwork(nursery), make_wires()
    server, node = Node(tmp_path / "s", network), Node(tmp_path / "a", network)
    await server.take(wires)
    node.replica.held = Held(held_max=100)
    shuffled = list(wires)
    Random(7).shuffle(shuffled)
    await node.take(shuffled)
    assert node.blocks < 1_500
    assert len(node.replica.held) <= 100
    ends = [await node.sync.fetch(server.host.peer_id) for _ in range(3)]
    assert SessionEnd.EQUAL in ends
    assert node.digest == server.digest


@pytest.mark.slow
async def test_a_node_killed_in_the_middle_goes_on_where_its_ledger_is(
    tmp_path: Path, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, autojump_clock: object
) -> None:
    monkeypatch.setattr(sync_plan, "SESSION_BLOCKS_MAX", 600)
    network, wires = MemoryNetwork(nursery), make_wires()
    server, node = Node(tmp_path / "s", network), Node(tmp_path / "a", network)
    await server.take(wires)
    assert await node.sync.fetch(server.host.peer_id) is SessionEnd.MORE
    node.store.close()
    again = Node(tmp_path / "a", network)
    resume = again.intake.resume(server.host.peer_id)
    assert resume is not None
    assert resume.after == 600 == again.blocks
    while await again.sync.fetch(server.host.peer_id) is SessionEnd.MORE:
        pass
    assert again.digest == server.digest
    assert server.sync.counters["served_blocks"] == 1_500  # none came twice


@pytest.mark.slow
@pytest.mark.parametrize("limits", [("FRONTIERS_SENT",), ("WANTED_MAX", "SESSION_BLOCKS_MAX")])
async def test_sessions_too_small_for_what_blocks_wait_for_get_there_all_the_same(
    tmp_path: Path, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, limits: tuple[str, ...]
) -> None:
    for limit in limits:
        monkeypatch.setattr(sync_plan, limit, 3)
    monkeypatch.setattr(sync_rounds, "BUCKETS_MIN", 1)
    network, wires = MemoryNetwork(nursery), make_wires(300, 30)
    server, node = Node(tmp_path / "s", network), Node(tmp_path / "a", network)
    await server.take(wires)
    await node.take(wires[:150])
    ends = []
    while len(ends) < 300 and SessionEnd.EQUAL not in ends:
        ends.append(await node.sync.fetch(server.host.peer_id))
    assert node.digest == server.digest
    assert not {SessionEnd.CAUGHT_UP, SessionEnd.FRUITLESS} & set(ends[:-2])


async def test_what_is_not_landed_yet_is_not_noted_as_fetched(tmp_path: Path) -> None:
    node, wires = Node(tmp_path / "a"), make_wires(300, 20)
    assert BATCH_BLOCKS > 200
    await node.intake.start(PEER, wires[:200]).land(Resume(U64_MAX, 200))
    assert node.blocks == 0  # in the open batch
    node.store.close()  # killed
    again = Node(tmp_path / "a")
    assert (again.blocks, again.intake.resume(PEER)) == (0, None)


async def test_a_session_that_is_cut_off_between_the_two_steps_of_a_batch_hinders_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, wires = Node(tmp_path / "a"), make_wires(2 * BATCH_BLOCKS)
    prepare = Transaction.prepare
    with trio.CancelScope() as scope:

        def cut_off(transaction: Transaction) -> None:
            prepare(transaction)
            scope.cancel()

        monkeypatch.setattr(Transaction, "prepare", cut_off)
        await node.take(wires)
    monkeypatch.undo()
    assert scope.cancelled_caught
    assert (await node.intake.start(PEER, wires[:PAGE]).land(None)).known == PAGE
    await node.take(wires)
    assert node.blocks == len(wires)
    assert verify_store(node.store) == []


async def test_another_writer_in_the_middle_of_a_batch_settles_it(tmp_path: Path) -> None:
    node, wires = Node(tmp_path / "a"), make_wires(300, 20)
    await node.intake.start(PEER, wires[:200]).land(None)
    with node.store.transaction() as transaction:
        assert transaction.counts().blocks == 200
        transaction.put_note("test", b"k", b"v")
        transaction.commit()
    assert node.blocks == 200
    assert await node.take(wires[200:]) == Taken(applied=100)


async def test_a_block_that_is_bad_whoever_looks_ends_it_and_the_good_ones_before_stay(tmp_path: Path) -> None:
    node, wires = Node(tmp_path / "a"), make_wires(100, 20)
    forged = encode_block(decode_block(wires[50])._replace(signature=decode_block(wires[49]).signature))
    for bad, code in ((forged, "bad_signature"), (b"no block", "malformed")):
        with pytest.raises(PeerFault) as caught:
            await node.take([*wires[:50], bad, *wires[51:]])
        assert caught.value.code == code
        node.intake.flush()
        assert node.blocks == 50
    assert await node.take(wires[50:]) == Taken(applied=50)


async def test_watchers_hear_of_each_block_once_it_is_durable(tmp_path: Path) -> None:
    node, wires = Node(tmp_path / "a"), make_wires(120, 20)
    seen = []

    def watch(applied: Sequence[Effects]) -> None:
        seen.extend(node.blocks for _ in applied)

    node.replica.watch(watch)
    await node.take(wires)
    assert seen == [120] * 120


async def test_the_places_in_peers_logs_are_bounded(tmp_path: Path) -> None:
    node, wires = Node(tmp_path / "a"), make_wires(100, 20)
    for number in range(RESUMES_MAX + 10):
        await node.intake.start(PeerId(f"peer-{number}"), wires[:1]).land(Resume(1, number))
    node.intake.flush()
    again = BulkIntake(node.store, GENESIS, node.replica)
    known = [number for number in range(RESUMES_MAX + 10) if again.resume(PeerId(f"peer-{number}"))]
    assert known == list(range(10, RESUMES_MAX + 10))
