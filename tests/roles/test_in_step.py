"""A node writes nothing for its account before it is in step: what it lacks of its own chain, it would write again."""

import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trio

from tests.support.ledger import NOW, Chain, address_of, key_of
from tests.support.role_node import FORM, REPRESENTATIVE, RICH, ROOMY, AnyWork, Village, until
from tests.support.store import GENESIS, open_store
from tests.support.sync_node import two_nodes
from xnode.core.blocks import Send
from xnode.core.faults import CallerFault, Unavailable
from xnode.core.lease import LeaseState
from xnode.core.ledger import Outcome
from xnode.core.values import Asset
from xnode.net.streams import PeerId
from xnode.net.sync import PROTOCOL as SYNC
from xnode.roles import bulk_intake
from xnode.roles.author import IN_STEP_SECONDS_MAX, Author, Draft
from xnode.roles.in_step import ALONE_SECONDS, AWAITED_SECONDS, InStep
from xnode.roles.replica import Replica

TO_BOB = Draft(Asset.XUSD, -1, Send(address_of("bob"), 1))
TO_ALICE = Draft(Asset.XUSD, -1, Send(address_of("alice"), 1))
TO_CAROL = Draft(Asset.XUSD, -1, Send(address_of("carol"), 1))


async def nowhere(_topic: str, _data: bytes) -> None:
    await trio.lowlevel.checkpoint()


async def cancellable(act: Callable[[], Awaitable[None]], task_status: trio.TaskStatus[trio.CancelScope]) -> None:
    with trio.CancelScope() as scope:
        task_status.started(scope)
        await act()


async def test_an_author_out_of_step_writes_nothing_until_it_is_in_step(
    nursery: trio.Nursery, tmp_path: Path, autojump_clock: object
) -> None:
    in_step = trio.Event()
    with open_store(tmp_path) as store:
        replica = Replica(store, GENESIS, lambda: NOW, nowhere)
        author = Author(key_of("bob"), store, GENESIS, replica, AnyWork(), lambda: NOW, in_step)
        with store.snapshot() as view:
            sent = replica.take(Chain(GENESIS, "alice").send(view, address_of("bob"), 5))
        replica.confirm((sent.block_hash,), lambda _: None, lambda *_: None)
        receiving = await nursery.start(cancellable, author.receive_pending)
        with pytest.raises(Unavailable, match="no peer has told") as caught:
            await author.append(TO_BOB)
        assert (caught.value.code, caught.value.retryable) == ("not_in_step", True)
        assert trio.current_time() >= IN_STEP_SECONDS_MAX
        assert author.account().height == 0
        in_step.set()
        await trio.sleep(0.1)
        assert (author.account().height, author.account().xusd) == (1, 1_000_005)
        await author.append(TO_ALICE)
        receiving.cancel()
        await trio.lowlevel.checkpoint()


@pytest.mark.slow
async def test_an_old_account_on_an_empty_disk_fetches_its_chain_before_it_writes(
    village: Village, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seed 5722: it received what seemed to be pending, and so signed a second first block."""
    await village.start(REPRESENTATIVE, peers=())
    bob = await village.start("bob", peers=(REPRESENTATIVE,))
    await bob.roles.author.append(TO_ALICE)
    monkeypatch.setattr(bulk_intake, "BATCH_BLOCKS", bulk_intake.STEP_BLOCKS)
    for _ in range(
        2 * bulk_intake.BATCH_BLOCKS
    ):  # a sync brings the money in one batch, and who received it in a later one
        await bob.roles.author.append(TO_CAROL)
    alice = await village.start("alice")
    await until(lambda: alice.roles.author.account().height == 1, 60, "received")
    await village.agreed()
    await village.crash("alice")
    shutil.rmtree(village.root / "alice")
    await bob.roles.author.append(TO_ALICE)
    alice = await village.start("alice")
    await alice.roles.author.append(TO_CAROL)
    await until(lambda: alice.roles.author.account().height == 3, 60, "its chain, one more received, and what it sent")
    await village.agreed()
    assert alice.roles.author.account().xusd == RICH + 2 - 1
    assert bob.roles.replica.outcomes[Outcome.FORK] == 0


async def test_a_node_without_peers_writes_and_one_whose_peers_are_silent_does_not(
    village: Village, autojump_clock: object
) -> None:
    alone = await village.start("alice", peers=())
    await alone.roles.author.append(TO_BOB)
    waiting = await village.start("anna", peers=("bob",))
    with pytest.raises(Unavailable, match="no peer has told"):
        await waiting.roles.author.append(TO_BOB)
    await village.start("bob", peers=())
    await until(lambda: len(waiting.network.peers()) == 1, 60, "bob")
    await waiting.roles.author.append(TO_BOB)


async def test_a_node_without_peers_is_not_alone_any_more_once_one_has_come(
    village: Village, autojump_clock: object
) -> None:
    """The peer has told nothing when it leaves: it may have had our chain."""

    async def stall(_stream: object) -> None:
        await trio.sleep_forever()

    alice = await village.start("alice", peers=())
    bob = await village.start("bob", peers=("alice",))
    bob.network.serve(SYNC, stall)
    await trio.sleep(1)
    await village.crash("bob")
    await trio.sleep(ALONE_SECONDS)
    with pytest.raises(Unavailable, match="no peer has told"):
        await alice.roles.author.append(TO_BOB)


class Around(NamedTuple):
    """What tells of peers, as the network and the handshake do."""

    on_greeted: Callable[[Callable[[PeerId], None]], None]
    seeks_peers: bool = True


async def test_peers_that_come_anew_without_end_keep_nobody_from_writing(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    """Anybody could keep a node silent so; who came early is waited for, who comes late is not."""
    a, b = two_nodes(nursery)
    around: Any = Around(lambda greeted: a.host.on_connected(lambda peer_id, _outbound: greeted(peer_id)))
    in_step = InStep(a.sync, around, around)

    async def stall(_stream: object) -> None:
        await trio.sleep_forever()

    async def come_and_go() -> None:
        for number in range(1_000):
            stranger = a.host.network.host(f"stranger {number}")
            stranger.serve(SYNC, stall)
            a.host.network.connect(a.host, stranger)
            await trio.sleep(0.2)
            await a.host.disconnect(stranger.peer_id)

    a.host.network.connect(a.host, b.host)
    nursery.start_soon(a.sync.run)
    nursery.start_soon(come_and_go)
    with trio.move_on_after(AWAITED_SECONDS - 1) as early:
        await in_step.wait()
    assert early.cancelled_caught
    with trio.fail_after(2):
        await in_step.wait()


async def test_a_consumer_out_of_step_asks_nobody(village: Village, autojump_clock: object) -> None:
    await village.start_market("anna", bob=ROOMY)
    anna = village.nodes["anna"]
    anna.roles.author._in_step = trio.Event()
    with pytest.raises(Unavailable, match="no peer has told"):
        await anna.roles.consumer.request(FORM)
    assert anna.leases() == village.nodes["bob"].leases() == []


async def test_a_lease_whose_provider_is_out_of_step_is_given_back_for_good(
    village: Village, autojump_clock: object
) -> None:
    """It said that it was about to accept while it only waited, and accepted when the consumer had been told of a
    failure."""
    await village.start_market("anna", bob=ROOMY)
    anna, bob = village.nodes["anna"], village.nodes["bob"]
    in_step = bob.roles.author._in_step = trio.Event()
    with pytest.raises(CallerFault, match="did not accept in time"):
        await anna.roles.consumer.request(FORM._replace(timeout=20))
    in_step.set()
    await trio.sleep(30)
    (lease,) = anna.leases()
    assert lease.state is LeaseState.CANCELLED
    assert anna.roles.author.account().xusd == RICH
    await village.agreed()


async def test_who_was_in_step_once_writes_though_its_peers_have_left(village: Village, autojump_clock: object) -> None:
    await village.start("bob")
    alice = await village.start("alice", peers=("bob",))
    await trio.sleep(3)
    await village.crash("bob")
    await trio.sleep(3)
    assert alice.network.peers() == ()
    await alice.roles.author.append(TO_BOB)
