"""The author: its chain may be moved beneath it while it looks for work."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

from tests.support.ledger import NOW, Chain, address_of, key_of
from tests.support.role_node import open_gate
from tests.support.store import GENESIS, open_store
from xnode.core.blocks import Block, Receive, Send, block_hash, encode_block
from xnode.core.faults import CallerFault, Unavailable
from xnode.core.ledger import Effects, Outcome
from xnode.core.values import U64_MAX, Asset, Hash
from xnode.roles import author as author_module
from xnode.roles.author import HEADS_TRIED_MAX, Author, Draft
from xnode.roles.replica import Replica
from xnode.store.store import Store

BOB = address_of("bob")


async def nowhere(_topic: str, _data: bytes) -> None:
    await trio.lowlevel.checkpoint()


class Interrupted:
    """Work during which something happens."""

    def __init__(self) -> None:
        self.happenings: list[Callable[[], object]] = []
        self.solved = 0

    async def solve(self, root: bytes, difficulty: int) -> int:
        await trio.lowlevel.checkpoint()
        self.solved += 1
        if self.happenings:
            self.happenings.pop(0)()
        return 0


class Desk:
    """Alice's author on a store of its own."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.replica = Replica(store, GENESIS, lambda: NOW, nowhere)
        self.work = Interrupted()
        self.author = Author(key_of("alice"), store, GENESIS, self.replica, self.work, lambda: NOW, open_gate())
        self.alice = Chain(GENESIS, "alice")

    def send(self, amount: int) -> Awaitable[Hash]:
        return self.author.append(Draft(Asset.XUSD, -amount, Send(BOB, amount)))

    def rival(self, amount: int) -> Block:
        """Another block for the next position."""
        with self.store.snapshot() as view:
            return self.alice.send(view, BOB, amount)

    def elect(self, winner: Block) -> None:
        """The network votes for it."""
        decision = self.replica.replace(winner, lambda transaction: None, lambda transaction, stored: None)
        assert decision.confirmed


async def test_a_rollback_during_the_work_is_no_callers_fault(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        desk = Desk(store)
        rival = desk.rival(7)
        await desk.send(1)
        desk.work.happenings.append(lambda: desk.elect(rival))
        await desk.send(2)
        assert desk.author.account().height == 2
        assert desk.author.account().xusd == 1_000_000 - 7 - 2
        assert desk.replica.outcomes[Outcome.GAP_PREVIOUS] == 0
        assert len(desk.replica.held) == 0


async def test_a_block_signed_elsewhere_during_the_work_is_no_callers_fault(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        desk = Desk(store)
        desk.work.happenings.append(lambda: desk.replica.take(desk.rival(7)))
        await desk.send(2)
        assert desk.author.account().xusd == 1_000_000 - 7 - 2
        assert desk.replica.outcomes[Outcome.FORK] == 0


async def test_a_chain_that_never_stands_still_is_given_up(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        desk = Desk(store)
        desk.work.happenings += [lambda: desk.replica.take(desk.rival(1))] * (HEADS_TRIED_MAX + 1)
        with pytest.raises(Unavailable) as caught:
            await desk.send(2)
        assert (caught.value.code, caught.value.retryable) == ("chain_moved", True)
        assert desk.work.solved == HEADS_TRIED_MAX


async def test_what_the_new_head_can_not_pay_is_told(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        desk = Desk(store)
        desk.work.happenings.append(lambda: desk.replica.take(desk.rival(999_999)))
        with pytest.raises(CallerFault, match="holds 1;"):
            await desk.send(2)


async def test_a_block_that_a_sync_is_about_to_land_is_built_upon(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        desk = Desk(store)
        rival = desk.rival(7)

        def fetch() -> None:
            """As the intake of sync: staged, and landed once its batch is full or somebody else writes."""
            transaction = store.transaction()
            identity = block_hash(GENESIS.network_key, rival)
            wire = encode_block(rival)
            assert isinstance(
                desk.replica.stage_bulk(transaction, rival, identity, wire, desk.replica.context()), Effects
            )
            store.lend(transaction.commit)

        desk.work.happenings.append(fetch)
        await desk.send(2)
        assert desk.author.account().height == 2
        assert desk.replica.outcomes[Outcome.FORK] == 0


async def test_what_would_be_more_than_an_account_can_hold_is_refused(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        desk = Desk(store)
        with pytest.raises(CallerFault, match="can't hold more than") as caught:
            await desk.author.append(Draft(Asset.XUSD, U64_MAX, Receive(Hash(bytes(32)))))
        assert caught.value.code == "overflow"


async def test_what_is_sent_is_received_once_it_is_confirmed(
    nursery: trio.Nursery, tmp_path: Path, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who spends twice would undo the chain of everybody that he sends to; what never comes hides nothing else."""
    monkeypatch.setattr(author_module, "RECEIVES_A_LOOK_MAX", 2)
    with open_store(tmp_path) as store:
        desk, bob = Desk(store), Chain(GENESIS, "bob")
        nursery.start_soon(desk.author.receive_pending)
        sent = []
        for _ in range(5):
            with store.snapshot() as view:
                sent.append(desk.replica.take(bob.send(view, desk.alice.address, 5)).block_hash)
        await trio.sleep(60)
        assert desk.author.account().height == 0
        desk.replica.confirm(sent[:4], lambda _: None, lambda *_: None)
        await trio.sleep(60)
        assert desk.author.account().height == 4
        desk.replica.confirm(sent, lambda _: None, lambda *_: None)
        await trio.sleep(60)
        with store.snapshot() as view:
            assert view.pendings(desk.alice.address) == []
        nursery.cancel_scope.cancel()
