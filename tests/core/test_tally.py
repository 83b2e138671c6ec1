"""Weights and the count of votes at one position (protocol section 8): what counts, what not, when it is enough."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.elections import BOB, CAROL, DAVE, HIGH, LOW, OTHER, US, weigh
from tests.support.vote_network import address_number
from xnode.core.tally import Ballot, Tally, VoteOutcome
from xnode.core.values import Address, Hash
from xnode.core.weights import REPRESENTATIVES_MAX, Weights, freeze_weights

HELD = (LOW, HIGH)


def count(tally: Tally, who: Address, block: Hash, final: bool = False, timestamp: int = 1) -> VoteOutcome:
    return tally.count(who, Ballot(block, final, timestamp), HELD)


@pytest.mark.parametrize(
    ("weight", "total", "enough"),
    [(67, 100, True), (66, 100, False), (2, 3, False), (3, 3, True), (670_001, 1_000_000, True), (0, 1, False)],
)
def test_67_percent_are_a_quorum_and_less_is_not(weight: int, total: int, enough: bool) -> None:
    assert Weights(total, {}).is_quorum(weight) is enough


def test_where_nobody_has_weight_there_is_no_quorum() -> None:
    assert not freeze_weights({}).is_quorum(0)


@given(total=st.integers(1, 2**70), data=st.data())
def test_two_quorums_share_at_least_34_percent(total: int, data: st.DataObject) -> None:
    weights = Weights(total, {})
    least = -(-67 * total // 100)
    assert weights.is_quorum(least)
    assert not weights.is_quorum(least - 1)
    one, other = (data.draw(st.integers(least, total)) for _ in range(2))
    assert 100 * (one + other - total) >= 34 * total


def test_weights_are_frozen() -> None:
    delegated = {BOB: 5, CAROL: 0}
    weights = freeze_weights(delegated)
    delegated[BOB] = 7
    assert (weights.of(BOB), weights.of(CAROL), weights.of(DAVE), weights.total) == (5, 0, 0, 5)
    assert CAROL not in weights.by_representative


def test_only_the_heaviest_representatives_are_listed_but_all_weight_is_in_the_total() -> None:
    crowd = {address_number(number): 1 + number for number in range(REPRESENTATIVES_MAX + 5)}
    weights = freeze_weights(crowd)
    assert len(weights.by_representative) == REPRESENTATIVES_MAX
    assert (weights.of(address_number(4)), weights.of(address_number(5))) == (0, 6)
    assert weights.total == sum(crowd.values())


def test_who_has_said_his_vote_since_counts_for_it_and_so_do_final_votes_and_our_own() -> None:
    tally = Tally(weigh(10, 20, 37, 33))
    tally.count(US, Ballot(LOW, False, 1, heard_at=1), HELD)
    tally.count(BOB, Ballot(LOW, True, 1, heard_at=2), HELD)
    tally.count(CAROL, Ballot(LOW, False, 1, heard_at=5), HELD)
    assert tally.is_said_since(LOW, 5, own=US)
    assert not tally.is_said_since(LOW, 5, own=None)
    assert not tally.is_said_since(LOW, 6, own=US)
    assert not tally.is_said_since(HIGH, 0, own=US)


def test_both_final_votes_of_an_equivocator_count_as_said() -> None:
    tally = Tally(weigh(37, 30, 33))
    for block in HELD:
        tally.count(BOB, Ballot(block, True, 1), HELD)
    tally.count(US, Ballot(HIGH, False, 1, heard_at=3), HELD)
    assert tally.is_said_since(HIGH, 3, own=None)
    assert not tally.is_said_since(LOW, 3, own=None)


def test_a_vote_counts_with_its_weight() -> None:
    tally = Tally(weigh(10, 20, 70))
    assert count(tally, CAROL, LOW) is VoteOutcome.COUNTED
    assert (tally.support, tally.finals, tally.quorum(), tally.winner()) == ({LOW: 70}, {}, LOW, None)


def test_a_vote_without_weight_does_not_count() -> None:
    tally = Tally(weigh(0, 20))
    assert count(tally, US, LOW, final=True) is VoteOutcome.NO_WEIGHT
    assert count(tally, DAVE, LOW, final=True) is VoteOutcome.NO_WEIGHT
    assert not tally.support
    assert not tally.ballots


def test_a_later_vote_moves() -> None:
    tally = Tally(weigh(10))
    count(tally, US, LOW, timestamp=5)
    assert count(tally, US, HIGH, timestamp=6) is VoteOutcome.COUNTED
    assert tally.support == {HIGH: 10}


@pytest.mark.parametrize("timestamp", [4, 5])
def test_an_earlier_vote_does_not_move(timestamp: int) -> None:
    tally = Tally(weigh(10))
    count(tally, US, LOW, timestamp=5)
    assert count(tally, US, HIGH, timestamp=timestamp) is VoteOutcome.OLD
    assert tally.support == {LOW: 10}


def test_a_final_vote_takes_the_place_of_any_other_however_late_it_arrives() -> None:
    tally = Tally(weigh(10))
    count(tally, US, LOW, timestamp=5)
    assert count(tally, US, HIGH, final=True, timestamp=1) is VoteOutcome.COUNTED
    assert (tally.support, tally.finals) == ({HIGH: 10}, {HIGH: 10})


def test_a_final_vote_does_not_move() -> None:
    tally = Tally(weigh(10))
    count(tally, US, LOW, final=True)
    assert count(tally, US, HIGH, timestamp=9) is VoteOutcome.OLD
    assert (tally.support, tally.finals) == ({LOW: 10}, {LOW: 10})


def test_a_repeated_final_vote_does_not_count_again() -> None:
    tally = Tally(weigh(60, 40))
    count(tally, US, LOW, final=True)
    assert count(tally, US, LOW, final=True, timestamp=9) is VoteOutcome.OLD
    assert tally.finals == {LOW: 60}


def test_a_second_final_vote_is_told_and_its_voter_leads_nobody() -> None:
    tally = Tally(weigh(30, 20, 10))
    count(tally, US, HIGH, final=True)
    count(tally, BOB, LOW)
    assert tally.leader(HELD) == HIGH
    assert count(tally, US, LOW, final=True) is VoteOutcome.EQUIVOCATION
    assert (tally.leader(HELD), tally.support) == (LOW, {LOW: 20})
    assert count(tally, US, LOW, final=True) is VoteOutcome.OLD


@pytest.mark.parametrize("order", [(LOW, HIGH), (HIGH, LOW)])
def test_what_is_confirmed_does_not_hang_on_the_order_of_a_liars_votes(order: tuple[Hash, Hash]) -> None:
    tally = Tally(weigh(33, 33, 34))
    count(tally, US, LOW)
    count(tally, CAROL, LOW, final=True)
    for block in order:
        count(tally, BOB, block, final=True)
    assert tally.finals == {LOW: 67, HIGH: 33}
    assert (tally.winner(), tally.quorum()) == (LOW, LOW)


def test_a_second_final_vote_for_a_block_that_is_not_held_counts_for_nothing() -> None:
    tally = Tally(weigh(10))
    count(tally, US, LOW, final=True)
    assert count(tally, US, OTHER, final=True) is VoteOutcome.EQUIVOCATION
    assert tally.finals == {LOW: 10}


def test_final_votes_of_67_percent_win_and_less_or_other_votes_do_not() -> None:
    tally = Tally(weigh(66, 1, 33))
    count(tally, US, LOW, final=True)
    count(tally, BOB, LOW)
    assert (tally.quorum(), tally.winner()) == (LOW, None)
    count(tally, BOB, LOW, final=True)
    assert tally.winner() == LOW


def test_the_leader_has_most_support() -> None:
    tally = Tally(weigh(10, 11))
    count(tally, US, LOW)
    count(tally, BOB, HIGH)
    assert tally.leader(HELD) == HIGH


def test_ties_go_to_the_lowest_hash() -> None:
    tally = Tally(weigh(10, 10))
    count(tally, US, LOW)
    count(tally, BOB, HIGH)
    assert tally.leader((HIGH, LOW)) == LOW
    assert tally.leader(()) is None


def test_final_votes_lead_before_other_support_because_they_cannot_follow() -> None:
    tally = Tally(weigh(34, 36, 30))
    count(tally, BOB, LOW)
    count(tally, US, HIGH)
    assert tally.leader(HELD) == LOW
    count(tally, US, HIGH, final=True)
    assert tally.leader(HELD) == HIGH
    count(tally, BOB, LOW, final=True)
    assert tally.leader(HELD) == LOW


def test_the_heaviest_missing_block() -> None:
    tally = Tally(weigh(10, 20))
    assert tally.heaviest_missing(()) is None
    count(tally, US, LOW)
    count(tally, BOB, HIGH)
    assert tally.heaviest_missing(()) == HIGH
    assert tally.heaviest_missing((HIGH,)) == LOW
    assert tally.heaviest_missing(HELD) is None


def test_a_missing_block_that_is_confirmed_comes_before_all_others() -> None:
    tally = Tally(weigh(20, 34, 33, 13))
    count(tally, US, OTHER)
    for who in (BOB, CAROL):
        count(tally, who, HIGH, final=True)
        count(tally, who, LOW, final=True)
    assert (tally.winner(), tally.heaviest_missing(())) == (HIGH, HIGH)


votes = st.tuples(st.integers(0, 3), st.sampled_from([LOW, HIGH, OTHER]), st.booleans(), st.integers(0, 5))


@given(votes=st.lists(votes, max_size=30))
def test_the_counts_always_follow_from_the_votes(votes: list[tuple[int, Hash, bool, int]]) -> None:
    tally = Tally(weigh(3, 5, 7))
    finals: dict[Address, list[Hash]] = {}
    for number, block, final, timestamp in votes:
        who = address_number(number)
        outcome = count(tally, who, block, final, timestamp)
        if final and number < 3 and (block in HELD or not finals.get(who)) and block not in finals.get(who, ()):
            finals.setdefault(who, []).append(block)
        assert (outcome is VoteOutcome.NO_WEIGHT) == (number == 3)
    assert tally.finals == {
        block: weight
        for block in (LOW, HIGH, OTHER)
        if (weight := sum(tally.weights.of(who) for who, blocks in finals.items() if block in blocks))
    }
    assert sum(tally.support.values()) <= tally.weights.total
    assert all(weight > 0 for weight in tally.support.values())


def test_the_heaviest_are_those_of_most_weight_and_then_of_lowest_address() -> None:
    weights = freeze_weights({address_number(3): 5, address_number(1): 5, address_number(2): 9})
    assert weights.heaviest(2) == [address_number(2), min(address_number(1), address_number(3))]
    assert len(weights.heaviest(9)) == 3
