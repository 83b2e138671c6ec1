"""What the role tells elections: a block confirmed by what rests on it, a block taken back by what it rested on."""

from tests.support.elections import BOB, CAROL, HIGH, LOW, PLACE, Table
from tests.support.vote_network import hash_number
from xnode.core.elections import ELECTION_LIFETIME_NS, ELECTIONS_PER_ACCOUNT_MAX
from xnode.core.vote_effects import CastVote, Lost, NoRoom, NotOpened
from xnode.core.votes import Position


def test_a_block_confirmed_by_what_rests_on_it_ends_its_election() -> None:
    table = Table(10, 30, 60)
    table.block(LOW)
    table.block(HIGH)
    assert table.elections.on_confirmed(PLACE, HIGH, 0) == (Lost(PLACE, LOW, HIGH),)
    assert len(table.elections) == 0
    assert table.block(LOW) == (NotOpened(PLACE, LOW, NoRoom.CONFIRMED),)
    assert table.block(HIGH) == ()
    assert table.elections.on_confirmed(PLACE, HIGH, 0) == ()


def test_our_final_vote_outlives_it() -> None:
    table = Table(70, 30)
    table.elections.restore_final(PLACE, LOW)
    table.elections.on_confirmed(PLACE, LOW, 0)
    assert table.elections.answer(PLACE) == CastVote(PLACE, LOW, is_final=True)


def test_votes_that_waited_for_it_wait_no_longer() -> None:
    table = Table(10, 30, 60)
    table.vote(BOB, LOW)
    table.vote(CAROL, LOW, final=True)
    assert table.elections.waiting == 2
    table.elections.on_confirmed(PLACE, LOW, 0)
    assert table.elections.waiting == 0
    assert table.tick(ELECTION_LIFETIME_NS) == ()


def test_what_was_taken_back_takes_no_place() -> None:
    table = Table(10, 90)
    positions = [Position(PLACE.account, hash_number(number)) for number in range(100, 100 + ELECTIONS_PER_ACCOUNT_MAX)]
    for position in positions:
        table.block(LOW, position)
    assert table.block(LOW) == (NotOpened(PLACE, LOW, NoRoom.ACCOUNT_FULL),)
    for position in positions:
        assert table.elections.on_undone(position, LOW) == (LOW,)
    assert table.elections.on_undone(positions[0], LOW) == ()
    assert table.block(LOW) == (CastVote(PLACE, LOW, is_final=False),)


def test_a_final_vote_stays_where_the_election_was_undone() -> None:
    table = Table(10, 90)
    table.elections.restore_final(PLACE, LOW)
    table.block(LOW)
    table.elections.on_undone(PLACE, LOW)
    assert table.block(HIGH)[0] == CastVote(PLACE, LOW, is_final=True)
