"""A ledger that was fetched whole is confirmed by votes at its heads, without an election for each block."""

from pathlib import Path

import pytest
import trio

from tests.roles.test_bulk_intake import Node, make_wires
from tests.support.big_ledger import first_owner
from xnode.core.keys import SigningKey
from xnode.core.values import Address, Hash
from xnode.core.votes import VOTES_MAX, Position, Vote, VoteBundle
from xnode.core.weights import Weights
from xnode.roles.catch_up import STEP_BLOCKS, CatchUp
from xnode.roles.final_votes import FINAL_SPACE, position_key, settle_finals
from xnode.roles.replica import Decision
from xnode.store.finality import Climb

FIRST = first_owner()
MINE = Weights(100, {FIRST.address: 67})


class Round:
    """A node that has fetched a ledger, and a representative that answers for what it has confirmed."""

    def __init__(self, path: Path, weights: Weights = MINE, voter: SigningKey = FIRST.key) -> None:
        self.node = Node(path)
        self.voter = Address(voter.public_key)
        self.questions: list[int] = []
        self.decisions: list[Decision] = []
        self.is_settled = True
        self.catch_up = CatchUp(
            self.node.store,
            self.node.replica,
            lambda: weights,
            lambda: self.is_settled,
            self.ask,
            self.decisions.append,
            settle_finals,
        )

    async def ask(self, positions: tuple[Position, ...]) -> list[VoteBundle]:
        await trio.lowlevel.checkpoint()
        self.questions.append(len(positions))
        with self.node.store.snapshot() as view:
            heads = [(item, view.standing_after(*item)) for item in positions]
        votes = tuple(Vote(item, stored.block_hash, True) for item, stored in heads if stored is not None)
        return [VoteBundle(self.voter, 1, votes)]

    def unconfirmed(self) -> int:
        with self.node.store.snapshot() as view:
            return len(view.unconfirmed(limit=10_000))


@pytest.mark.slow
async def test_everything_is_confirmed_by_questions_for_heads_only(tmp_path: Path) -> None:
    one, wires = Round(tmp_path / "a"), make_wires(1_500, 100)
    await one.node.take(wires)
    assert one.unconfirmed() == 1_500
    await one.catch_up.round()
    assert one.unconfirmed() == 0
    assert max(one.questions) <= VOTES_MAX
    assert sum(one.questions) <= 101
    assert sum(len(decision.confirmed) for decision in one.decisions) == 1_500


async def test_votes_of_less_than_67_percent_confirm_nothing(tmp_path: Path) -> None:
    one = Round(tmp_path / "a", Weights(100, {FIRST.address: 66}))
    await one.node.take(make_wires(150, 40))
    await one.catch_up.round()
    assert one.unconfirmed() == 150
    assert one.decisions == []


async def test_a_ledger_that_is_being_filled_is_not_confirmed(tmp_path: Path) -> None:
    one = Round(tmp_path / "a")
    await one.node.take(make_wires(150, 40))
    one.is_settled = False
    await one.catch_up.round()
    assert (one.unconfirmed(), one.questions) == (150, [])


async def test_our_final_votes_below_the_confirmed_height_leave_the_disk(tmp_path: Path) -> None:
    one = Round(tmp_path / "a")
    await one.node.take(make_wires(150, 40))
    with one.node.store.snapshot() as view:
        stored = view.recent_blocks(1)[0]
    space, key = FINAL_SPACE, position_key(Position(stored.block.account, stored.block.previous))
    with one.node.store.transaction() as transaction:
        transaction.put_note(space, key, stored.block_hash)
        transaction.put_note(space, bytes(64), bytes(32))
        transaction.commit()
    await one.catch_up.round()
    with one.node.store.snapshot() as view:
        assert view.note(space, key) is None
        assert view.note(space, bytes(64)) == bytes(32)  # of another position


async def test_run_waits_for_the_ledger_to_be_filled(
    tmp_path: Path, nursery: trio.Nursery, autojump_clock: object
) -> None:
    one = Round(tmp_path / "a")
    await one.node.take(make_wires(150, 40))
    one.is_settled = False
    nursery.start_soon(one.catch_up.run)
    await trio.sleep(60)
    assert one.questions == []
    one.is_settled = True
    await trio.sleep(3)
    assert one.unconfirmed() == 0


@pytest.mark.parametrize(("blocks", "chains", "is_worth_it"), [(300, 3, True), (150, 3, False), (40, 40, True)])
async def test_run_leaves_a_few_short_chains_to_elections(
    tmp_path: Path, nursery: trio.Nursery, autojump_clock: object, blocks: int, chains: int, is_worth_it: bool
) -> None:
    one = Round(tmp_path / "a")
    await one.node.take(make_wires(blocks, chains))
    nursery.start_soon(one.catch_up.run)
    await trio.sleep(3)
    assert one.unconfirmed() == (0 if is_worth_it else blocks)


@pytest.mark.slow
async def test_a_long_chain_is_confirmed_in_small_steps(tmp_path: Path) -> None:
    node = Node(tmp_path / "a")
    await node.take(make_wires(600, 3))
    with node.store.snapshot() as view:
        newest: Hash = view.recent_blocks(1)[0].block_hash
    climb, steps = Climb(newest), []
    while not climb.is_over:
        with node.store.transaction() as transaction:
            steps.append(len(climb.step(transaction, STEP_BLOCKS)))
            transaction.commit()
    assert max(steps) <= STEP_BLOCKS
    with node.store.snapshot() as view:
        assert view.is_confirmed(newest)


async def test_a_climb_to_what_was_taken_back_is_over(tmp_path: Path) -> None:
    node = Node(tmp_path / "a")
    await node.take(make_wires(60, 3))
    with node.store.snapshot() as view:
        newest = view.recent_blocks(1)[0].block_hash
    climb = Climb(newest)
    with node.store.transaction() as transaction:
        assert len(climb.step(transaction, 5)) <= 5
        transaction.commit()
    with node.store.transaction() as transaction:
        transaction.rollback_with_descendants(newest)
        assert climb.step(transaction, 1_000) is not None
        transaction.commit()
    assert climb.is_over
