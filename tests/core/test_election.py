"""One position's election: what we vote and when, what is decided and when (protocol section 8)."""

from itertools import pairwise

from tests.support.elections import BOB, CAROL, DAVE, HIGH, LOW, OTHER, PLACE, US, Table
from xnode.core.election import NUDGE_MAX_NS, NUDGE_NS
from xnode.core.rivalry import PAUSE_MAX_NS, PAUSE_NS, STANDING_PAUSES
from xnode.core.tally import VoteOutcome
from xnode.core.values import NS
from xnode.core.vote_effects import CastVote, Confirmed, Equivocation, WantBlock, WantVotes

STANDING_NS = STANDING_PAUSES * PAUSE_NS


def cast(block: object, final: bool = False) -> CastVote:
    return CastVote(PLACE, block, final)  # type: ignore[arg-type]


def casts(effects: tuple[object, ...]) -> list[object]:
    return [effect for effect in effects if isinstance(effect, CastVote)]


def contest(*units: int) -> Table:
    """We vote for HIGH, which came first, and Bob for LOW."""
    table = Table(*units)
    table.block(HIGH)
    table.block(LOW)
    table.vote(BOB, LOW)
    return table


def test_the_first_block_gets_our_vote_at_once() -> None:
    assert Table(10, 90).block(LOW) == (cast(LOW),)


def test_a_block_that_rests_on_unconfirmed_ones_gets_no_vote_until_it_may() -> None:
    table = Table(10, 90)
    assert table.block(LOW, is_votable=False) == ()
    assert table.vote(BOB, LOW) == ()
    assert table.block(LOW) == (cast(LOW), cast(LOW, final=True))


def test_a_node_without_weight_does_not_vote_but_sees_what_is_confirmed() -> None:
    table = Table(0, 100)
    assert table.block(LOW) == ()
    assert table.vote(BOB, LOW, final=True) == (Confirmed(PLACE, LOW, (), None),)


def test_a_node_that_represents_nobody_does_not_vote() -> None:
    table = Table(10, 90, own=None)
    assert table.block(LOW) == ()
    assert table.vote(US, LOW, final=True) == ()
    assert table.vote(BOB, LOW, final=True) == (Confirmed(PLACE, LOW, (), None),)


def test_a_second_block_changes_no_vote_at_once() -> None:
    table = Table(10, 90)
    table.block(HIGH)
    assert table.block(LOW) == ()
    assert table.vote(BOB, LOW) == ()


def test_67_percent_of_any_votes_bring_our_final_vote() -> None:
    table = Table(10, 57, 33)
    table.block(LOW)
    assert table.vote(BOB, LOW) == (cast(LOW, final=True),)


def test_less_than_67_percent_do_not_bring_our_final_vote() -> None:
    table = Table(10, 56, 34)
    table.block(LOW)
    assert table.vote(BOB, LOW) == ()


def test_final_votes_of_others_bring_our_final_vote_too() -> None:
    table = Table(10, 57, 33)
    table.block(LOW)
    assert table.vote(BOB, LOW, final=True) == (cast(LOW, final=True), Confirmed(PLACE, LOW, (), LOW))


def test_67_percent_of_final_votes_confirm() -> None:
    table = Table(10, 30, 27, 33)
    table.block(LOW)
    table.vote(BOB, LOW, final=True)
    assert table.vote(CAROL, LOW, final=True)[-1] == Confirmed(PLACE, LOW, (), LOW)


def test_67_percent_of_other_votes_do_not_confirm() -> None:
    table = Table(10, 30, 60)
    table.block(LOW)
    table.vote(BOB, LOW)
    assert table.vote(CAROL, LOW) == (cast(LOW, final=True),)
    assert table.vote(BOB, LOW, final=True) == ()
    assert table.vote(CAROL, LOW, final=True) == (Confirmed(PLACE, LOW, (), LOW),)


def test_no_time_lowers_the_bar() -> None:
    table = Table(10, 56, 34)
    table.block(LOW)
    table.vote(BOB, LOW, final=True)
    for _ in range(299):
        assert set(map(type, table.tick(NS))) <= {CastVote, WantVotes}
    assert len(table.elections) == 1


def test_who_has_all_the_weight_confirms_alone() -> None:
    assert Table(10).block(LOW) == (cast(LOW), cast(LOW, final=True), Confirmed(PLACE, LOW, (), LOW))


def test_in_a_contest_our_vote_moves_to_the_leader_after_a_pause() -> None:
    table = contest(10, 11, 79)
    assert casts(table.tick(PAUSE_NS - 1)) == []
    assert casts(table.tick(1)) == [cast(LOW)] * 2  # moved, and said again by the nudge that is due too


def test_in_a_tie_our_vote_moves_to_the_lowest_hash() -> None:
    assert cast(LOW) in contest(10, 10, 80).tick(PAUSE_NS)


def test_our_vote_does_not_move_to_one_with_less() -> None:
    assert cast(LOW) not in contest(11, 10, 79).tick(PAUSE_NS)


def test_our_vote_does_not_move_to_a_block_that_may_not_be_voted_for() -> None:
    table = Table(10, 20, 70)
    table.block(HIGH)
    table.block(LOW, is_votable=False)
    table.vote(BOB, LOW)
    assert cast(LOW) not in table.tick(PAUSE_NS)
    table.block(LOW)
    assert cast(LOW) in table.tick(PAUSE_NS)


def test_each_move_waits_twice_as_long_as_the_one_before() -> None:
    table = contest(10, 11, 79)
    moves = []
    leader, loser = LOW, HIGH
    for second in range(1, 260):
        vote = table.tick(NS)
        if table.elections.answer(PLACE) == cast(leader):
            moves.append(second)
            leader, loser = loser, leader
            table.vote(BOB, leader, timestamp=1 + second)
        assert len(casts(vote)) <= 2
    waits = [later - earlier for earlier, later in pairwise(moves)]
    longest = PAUSE_MAX_NS // NS
    assert waits == [2, 4, 8, 16, 32, longest, longest, longest]


def test_in_a_contest_67_percent_must_stand_for_a_while_before_our_final_vote() -> None:
    table = Table(40, 30, 30)
    table.block(LOW)
    table.block(HIGH)
    assert table.vote(BOB, LOW) == ()
    assert cast(LOW, final=True) not in table.tick(STANDING_NS - 1)
    assert cast(LOW, final=True) in table.tick(1)


def test_in_a_contest_a_vote_that_was_not_said_in_these_pauses_makes_nobody_sure() -> None:
    """Seed 4666: Bob was cut off from us, and had moved his vote on the other side long ago."""
    table = Table(10, 30, 30, 30)
    table.block(LOW)
    table.block(HIGH)
    table.vote(BOB, LOW, timestamp=1)
    table.tick(PAUSE_NS)
    table.vote(CAROL, LOW, timestamp=1)
    assert cast(LOW, final=True) not in table.tick(STANDING_NS)
    assert cast(LOW, final=True) not in table.vote(CAROL, LOW, timestamp=2)
    assert cast(LOW, final=True) not in table.vote(BOB, LOW, timestamp=1)  # what we know says nothing anew
    assert cast(LOW, final=True) in table.vote(BOB, LOW, timestamp=2)


def test_in_a_contest_a_final_vote_need_not_be_said_again() -> None:
    table = Table(10, 30, 30, 30)
    table.block(LOW)
    table.block(HIGH)
    table.vote(BOB, LOW, final=True)
    table.tick(PAUSE_NS)
    table.vote(CAROL, LOW)
    assert cast(LOW, final=True) in table.tick(STANDING_NS)


def test_while_67_percent_stand_in_a_contest_our_vote_is_said_again_every_pause() -> None:
    table = Table(10, 30, 30, 30)
    table.block(LOW)
    table.block(HIGH)
    table.vote(BOB, LOW)
    table.vote(CAROL, LOW)
    table.tick(10 * STANDING_NS)  # too late for both
    assert [len(casts(table.tick(PAUSE_NS // 2))) for _ in range(8)] == [0, 1, 0, 1, 0, 1, 0, 1]


def test_without_67_percent_in_a_contest_our_vote_is_said_at_nudges_only() -> None:
    table = contest(10, 30, 60)
    table.tick(PAUSE_NS)
    assert [len(casts(table.tick(PAUSE_NS))) for _ in range(6)] == [0, 1, 0, 0, 0, 1]


def test_67_percent_that_were_lost_meanwhile_must_stand_anew() -> None:
    table = Table(40, 30, 30)
    table.block(LOW)
    table.block(HIGH)
    table.vote(BOB, LOW, timestamp=1)
    table.tick(STANDING_NS - 1)
    table.vote(BOB, HIGH, timestamp=2)
    table.vote(BOB, LOW, timestamp=3)
    assert cast(LOW, final=True) not in table.tick(STANDING_NS - 1)
    assert cast(LOW, final=True) in table.tick(1)


def test_our_final_vote_never_moves() -> None:
    table = Table(10, 57, 33)
    table.block(HIGH)
    table.vote(BOB, HIGH, timestamp=1)
    table.block(LOW)
    table.vote(BOB, LOW, timestamp=2)
    table.vote(CAROL, LOW, timestamp=2)
    for _ in range(200):
        assert set(casts(table.tick(NS))) <= {cast(HIGH, final=True)}


def test_our_final_vote_stays_when_another_block_is_confirmed() -> None:
    table = Table(10, 57, 33)
    table.block(HIGH)
    table.vote(BOB, HIGH, timestamp=1)
    table.block(LOW)
    table.vote(BOB, LOW, final=True)
    table.vote(CAROL, HIGH, timestamp=2)
    effects = table.vote(CAROL, LOW, final=True)
    assert effects == (Confirmed(PLACE, LOW, (HIGH,), HIGH),)
    assert table.elections.answer(PLACE) == cast(HIGH, final=True)


def test_a_staged_block_that_wins_is_confirmed_and_the_applied_one_is_the_loser() -> None:
    table = contest(10, 80, 10)
    assert table.vote(BOB, LOW, final=True) == (cast(LOW, final=True), Confirmed(PLACE, LOW, (HIGH,), LOW))


def test_a_block_that_final_votes_confirm_and_that_is_not_here_is_wanted_then_confirmed() -> None:
    table = Table(10, 90)
    table.block(HIGH)
    assert table.vote(BOB, LOW, final=True) == (WantBlock(PLACE, LOW),)
    assert table.block(LOW) == (cast(LOW, final=True), Confirmed(PLACE, LOW, (HIGH,), LOW))


def test_a_confirmed_block_that_may_not_be_voted_for_is_confirmed_without_our_vote() -> None:
    table = Table(10, 90)
    table.block(LOW, is_votable=False)
    assert table.vote(BOB, LOW, final=True) == (Confirmed(PLACE, LOW, (), None),)


def test_a_second_final_vote_is_reported_once() -> None:
    table = contest(10, 30, 60)
    table.vote(BOB, LOW, final=True)
    assert table.vote(BOB, HIGH, final=True) == (Equivocation(BOB, PLACE, LOW, HIGH),)
    assert table.vote(BOB, HIGH, final=True) == ()


def test_votes_by_strangers_are_ignored() -> None:
    table = Table(10, 90)
    table.block(LOW)
    assert table.vote(DAVE, LOW, final=True) == ()
    assert table.elections.ignored[VoteOutcome.NO_WEIGHT] == 1


def test_nudges_say_and_ask_again_ever_less_often() -> None:
    table = Table(10, 90)
    table.block(LOW)
    nudges = [second for second in range(1, 200) if table.tick(NS) == (WantVotes(PLACE), cast(LOW))]
    longest = NUDGE_MAX_NS // NS
    waits = [later - earlier for earlier, later in pairwise(nudges)]
    assert nudges[0] == NUDGE_NS // NS
    assert waits == [2, 4, 8, 16, longest, longest, longest, longest, longest]


def test_nudges_ask_for_the_block_that_votes_name_and_that_is_missing() -> None:
    table = Table(10, 20, 70)
    table.block(LOW)
    table.vote(BOB, OTHER)
    assert WantBlock(PLACE, OTHER) in table.tick(NUDGE_NS)


def test_our_own_vote_moves_in_our_own_count_even_where_the_clock_stands() -> None:
    table = contest(10, 11, 79)
    table.tick(PAUSE_NS)
    assert next(table.elections.views()).candidates == ((HIGH, 0, 0), (LOW, 21, 0))
