"""Blocks of two chains that want one step of a lease (protocol section 8): one vote for both, one final vote."""

import pytest

from tests.support.elections import BOB, CAROL, DAVE, PLACE, US, Table
from tests.support.vote_network import hash_number, position_number
from xnode.core.lease import LeaseState
from xnode.core.rivalry import PAUSE_NS, STANDING_PAUSES
from xnode.core.steps import Step
from xnode.core.values import NS
from xnode.core.vote_effects import CastVote, Confirmed, Equivocation, Lost, NoRoom, NotOpened

STEP = Step(hash_number(9), LeaseState.CREATED)
THERE = position_number(1)
ACCEPT, CANCEL, OTHER = hash_number(1), hash_number(2), hash_number(3)


def rivals(*units: int) -> Table:
    """The acceptance came first, then the cancellation on another chain."""
    table = Table(*units)
    assert table.block(ACCEPT, step=STEP) == (CastVote(PLACE, ACCEPT, False, STEP),)
    table.block(CANCEL, THERE, step=STEP)
    return table


def test_who_votes_for_one_does_not_vote_for_the_other() -> None:
    table = Table(10, 90)
    table.block(ACCEPT, step=STEP)
    assert table.block(CANCEL, THERE, step=STEP) == ()
    assert table.elections.answer(PLACE) == CastVote(PLACE, ACCEPT, False, STEP)
    assert table.elections.answer(THERE) is None


def test_our_vote_moves_to_the_rival_that_leads_and_leaves_nothing_behind() -> None:
    table = rivals(10, 40, 50)
    table.vote(CAROL, CANCEL, position=THERE)
    assert CastVote(THERE, CANCEL, False, STEP) not in table.tick(PAUSE_NS - 1)
    assert CastVote(THERE, CANCEL, False, STEP) in table.tick(1)
    assert table.elections.answer(PLACE) is None
    assert table.elections.answer(THERE) == CastVote(THERE, CANCEL, False, STEP)


def test_ties_go_to_the_lowest_hash() -> None:
    table = Table(10, 10, 80)
    table.block(CANCEL, THERE, step=STEP)
    table.block(ACCEPT, step=STEP)
    table.vote(BOB, ACCEPT)
    assert CastVote(PLACE, ACCEPT, False, STEP) in table.tick(PAUSE_NS)


def test_a_vote_that_moved_to_a_rival_no_longer_supports_the_first() -> None:
    """Bob was first for the acceptance: with his old vote it would have 67 %."""
    table = rivals(10, 60, 30)
    table.vote(BOB, CANCEL, position=THERE, timestamp=5)
    table.vote(BOB, ACCEPT, timestamp=3)
    table.vote(CAROL, ACCEPT, timestamp=3)
    for _ in range(20):
        assert CastVote(PLACE, ACCEPT, True, STEP) not in table.tick(NS)


def test_without_a_rival_in_sight_the_final_vote_waits_for_nothing() -> None:
    table = Table(10, 60, 30)
    table.block(ACCEPT, step=STEP)
    assert table.vote(BOB, ACCEPT) == (CastVote(PLACE, ACCEPT, True, STEP),)


def test_with_a_rival_67_percent_must_have_stood_for_four_pauses() -> None:
    table = rivals(10, 60, 30)
    assert table.vote(BOB, ACCEPT) == ()
    assert table.tick(STANDING_PAUSES * PAUSE_NS - 1) == () or not table.elections.answer(PLACE).is_final  # type: ignore[union-attr]
    assert CastVote(PLACE, ACCEPT, True, STEP) in table.tick(1)


def test_with_a_rival_a_vote_that_was_not_said_in_these_pauses_makes_nobody_sure() -> None:
    table = Table(10, 30, 30, 30)
    table.block(ACCEPT, step=STEP)
    table.block(CANCEL, THERE, step=STEP)
    table.vote(BOB, ACCEPT, timestamp=1)
    table.tick(PAUSE_NS)
    table.vote(CAROL, ACCEPT, timestamp=1)
    final = CastVote(PLACE, ACCEPT, True, STEP)
    assert final not in table.tick(STANDING_PAUSES * PAUSE_NS)
    assert final not in table.vote(CAROL, ACCEPT, timestamp=2)
    assert final in table.vote(BOB, ACCEPT, timestamp=2)


def test_a_final_vote_for_one_forbids_any_for_the_other() -> None:
    table = Table(10, 60, 30)
    table.block(ACCEPT, step=STEP)
    table.vote(BOB, ACCEPT)
    assert table.elections.answer(PLACE) == CastVote(PLACE, ACCEPT, True, STEP)
    table.block(CANCEL, THERE, step=STEP)
    table.vote(BOB, CANCEL, position=THERE, timestamp=9)
    table.vote(CAROL, CANCEL, position=THERE, timestamp=9)
    for _ in range(200):
        assert THERE not in [one.position for one in table.tick(NS) if isinstance(one, CastVote)]


def test_a_restored_final_vote_for_the_step_forbids_it_too() -> None:
    table = Table(10, 60, 30)
    table.elections.restore_final(PLACE, ACCEPT)
    table.elections.restore_step(STEP, ACCEPT)
    assert table.block(CANCEL, THERE, step=STEP) == ()
    assert table.block(ACCEPT, step=STEP) == (CastVote(PLACE, ACCEPT, True, STEP),)


def test_the_rival_of_a_confirmed_block_is_lost_and_its_position_free() -> None:
    table = rivals(10, 30, 60)
    table.vote(BOB, CANCEL, position=THERE, final=True)
    won = table.vote(CAROL, CANCEL, position=THERE, final=True)
    assert Confirmed(THERE, CANCEL, (), CANCEL) in won
    assert Lost(PLACE, ACCEPT, CANCEL) in won
    assert len(table.elections) == 0
    assert table.block(ACCEPT, step=STEP) == (NotOpened(PLACE, ACCEPT, NoRoom.CONFIRMED),)
    assert table.block(OTHER) == (CastVote(PLACE, OTHER, False),)


def test_a_final_vote_for_the_loser_binds_nobody_at_its_position() -> None:
    """We were for the acceptance finally; 90 % cancelled. Our vote for bob's next block there is free, also after it
    comes back to us from peers, and where peers still say that they were for the loser."""
    table = Table(10, 60, 30)
    table.block(ACCEPT, step=STEP)
    table.vote(BOB, ACCEPT)
    table.block(CANCEL, THERE, step=STEP)
    table.vote(BOB, CANCEL, position=THERE, final=True)
    assert Lost(PLACE, ACCEPT, CANCEL) in table.vote(CAROL, CANCEL, position=THERE, final=True)
    assert table.vote(US, ACCEPT, final=True) == ()
    assert table.vote(BOB, ACCEPT, final=True) == ()
    assert table.block(OTHER) == (CastVote(PLACE, OTHER, False),)
    assert CastVote(PLACE, OTHER, True) in table.vote(BOB, OTHER, final=True)


def test_what_else_stands_at_the_loser_s_position_is_voted_for_at_once() -> None:
    table = rivals(10, 30, 60)
    table.block(OTHER)
    table.vote(BOB, CANCEL, position=THERE, final=True)
    won = table.vote(CAROL, CANCEL, position=THERE, final=True)
    assert won[-2:] == (Lost(PLACE, ACCEPT, CANCEL), CastVote(PLACE, OTHER, False))


def test_a_final_vote_for_a_fork_that_lost_binds_no_step() -> None:
    table = Table(10, 60, 30)
    table.block(ACCEPT, step=STEP)
    table.vote(BOB, ACCEPT)  # we are bound
    table.block(OTHER)
    table.vote(BOB, OTHER, final=True)
    table.vote(CAROL, OTHER, final=True)
    table.block(CANCEL, THERE, step=STEP)
    assert CastVote(THERE, CANCEL, True, STEP) in table.vote(BOB, CANCEL, position=THERE, final=True)


def test_final_votes_of_one_for_two_rivals_are_told() -> None:
    table = rivals(10, 30, 60)
    table.vote(BOB, ACCEPT, final=True)
    assert Equivocation(BOB, THERE, ACCEPT, CANCEL) in table.vote(BOB, CANCEL, position=THERE, final=True)


def test_a_block_that_loses_at_its_own_position_does_not_lead_a_rivalry() -> None:
    """The provider has forked its acceptance: most are for the other block, so those for the acceptance yield."""
    table = rivals(10, 20, 30, 40)
    table.vote(CAROL, OTHER)
    table.vote(DAVE, OTHER)
    table.vote(BOB, ACCEPT)
    table.block(OTHER)
    told = table.tick(PAUSE_NS)
    assert CastVote(PLACE, OTHER, False) in told
    assert CastVote(THERE, CANCEL, False, STEP) in [*told, *table.tick(PAUSE_NS), *table.tick(2 * PAUSE_NS)]


def test_a_block_confirmed_by_what_rests_on_it_ends_its_rivals() -> None:
    table = rivals(10, 90)
    effects = table.elections.on_confirmed(THERE, CANCEL, table.now, STEP)
    assert effects == (Lost(PLACE, ACCEPT, CANCEL),)
    assert len(table.elections) == 0


@pytest.mark.parametrize("number", [1, 2])
def test_a_rival_that_expires_leaves_the_other_alone(number: int) -> None:
    table = rivals(10, 90)
    table.elections.on_undone(PLACE if number == 1 else THERE, ACCEPT if number == 1 else CANCEL)
    (view,) = table.elections.views()
    assert view.position == (THERE if number == 1 else PLACE)
    if number == 1:
        assert CastVote(THERE, CANCEL, False, STEP) in table.tick(PAUSE_NS)
