"""Votes that wait for their block, and bundles kept to be handed on: bounded, the right ones leave."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.elections import BOB, CAROL, HIGH, LOW, OTHER, PLACE, US
from tests.support.vote_network import address_number, hash_number, position_number
from xnode.core.heard_votes import BUNDLES_ANSWERED_MAX, BUNDLES_EACH_MAX, POSITIONS_HEARD_MAX, HeardVotes
from xnode.core.tally import Ballot
from xnode.core.values import Address, Hash
from xnode.core.votes import Position, Vote, VoteBundle
from xnode.core.waiting import VOTES_WAITING_EACH_MAX, VOTES_WAITING_MAX, WANT_NS, WANTS_PER_TICK_MAX, WaitingVotes


def stays(_who: Address, _position: Position) -> bool:
    return False


def ballot(block: Hash, final: bool = False, timestamp: int = 1) -> Ballot:
    return Ballot(block, final, timestamp)


@pytest.mark.parametrize(
    ("first", "second", "kept"),
    [
        (ballot(LOW), ballot(HIGH, timestamp=2), HIGH),
        (ballot(LOW, timestamp=2), ballot(HIGH), LOW),
        (ballot(LOW, timestamp=2), ballot(HIGH, final=True), HIGH),
        (ballot(LOW, final=True), ballot(HIGH, timestamp=2), LOW),
        (ballot(LOW, final=True), ballot(HIGH, final=True, timestamp=2), LOW),
    ],
)
def test_one_vote_each_waits_at_a_position(first: Ballot, second: Ballot, kept: Hash) -> None:
    waiting = WaitingVotes()
    waiting.put(US, 1, PLACE, first, 0)
    waiting.put(US, 1, PLACE, second, 0)
    assert len(waiting) == 1
    assert [vote.block_hash for _, vote in waiting.take(PLACE)] == [kept]
    assert waiting.take(PLACE) == ()


def test_the_block_with_most_weight_is_asked_for_ever_less_often() -> None:
    waiting = WaitingVotes()
    waiting.put(US, 1, PLACE, ballot(LOW), 0)
    waiting.put(BOB, 3, PLACE, ballot(HIGH), 0)
    waiting.put(CAROL, 2, PLACE, ballot(OTHER), 0)
    asked = [time for time in range(0, 30 * WANT_NS, WANT_NS) if waiting.tick(time) == [(PLACE, HIGH)]]
    assert asked == [1 * WANT_NS, 2 * WANT_NS, 4 * WANT_NS, 8 * WANT_NS, 16 * WANT_NS]


def test_who_has_too_many_loses_its_own_oldest() -> None:
    waiting = WaitingVotes()
    waiting.put(BOB, 1, position_number(0), ballot(LOW), 0)
    for number in range(VOTES_WAITING_EACH_MAX + 1):
        waiting.put(US, 1, position_number(number), ballot(LOW), 0)
    assert [who for who, _ in waiting.take(position_number(0))] == [BOB]
    assert [who for who, _ in waiting.take(position_number(1))] == [US]
    assert waiting.dropped == 1


@pytest.mark.slow
def test_where_all_are_too_many_the_oldest_position_leaves() -> None:
    waiting = WaitingVotes()
    for number in range(VOTES_WAITING_MAX + 1):
        voter = address_number(number // VOTES_WAITING_EACH_MAX)
        waiting.put(voter, 1, position_number(number), ballot(LOW), 0)
    assert len(waiting) == VOTES_WAITING_MAX
    assert waiting.take(position_number(0)) == ()
    assert waiting.take(position_number(1)) != ()
    assert len(waiting.tick(WANT_NS)) == WANTS_PER_TICK_MAX


steps = st.tuples(st.integers(0, 3), st.integers(0, 5), st.booleans(), st.booleans())


@given(steps=st.lists(steps, max_size=60))
def test_the_count_is_that_of_the_votes(steps: list[tuple[int, int, bool, bool]]) -> None:
    waiting = WaitingVotes()
    model: dict[Position, set[int]] = {}
    for time, (voter, place, final, taken) in enumerate(steps):
        position = position_number(place)
        if taken:
            assert len(waiting.take(position)) == len(model.pop(position, set()))
        else:
            waiting.put(address_number(voter), 1, position, ballot(LOW, final, time), time)
            model.setdefault(position, set()).add(voter)
        assert len(waiting) == sum(map(len, model.values()))


def bundle(voter: int, *votes: Vote, timestamp: int = 1) -> VoteBundle:
    return VoteBundle(address_number(voter), timestamp, votes)


def final(place: int, block: Hash = LOW) -> Vote:
    return Vote(position_number(place), block, is_final=True)


def passing(place: int, block: Hash = LOW) -> Vote:
    return Vote(position_number(place), block, is_final=False)


def test_bundles_are_handed_on_once_each() -> None:
    heard = HeardVotes()
    heard.put(bundle(1, final(1), passing(2)), b"one")
    heard.put(bundle(2, final(2)), b"two")
    assert heard.at([position_number(1)], stays) == (b"one",)
    assert heard.at([position_number(1), position_number(2)], stays) == (b"one", b"two")
    assert heard.at([position_number(3)], stays) == ()


def test_of_final_votes_the_first_for_each_block_is_kept() -> None:
    heard = HeardVotes()
    heard.put(bundle(1, final(1)), b"one")
    heard.put(bundle(1, final(1), timestamp=2), b"again")
    heard.put(bundle(1, final(1, HIGH)), b"a lie")
    assert heard.at([position_number(1)], stays) == (b"one", b"a lie")


def test_of_other_votes_the_latest_is_kept() -> None:
    heard = HeardVotes()
    heard.put(bundle(1, passing(1), timestamp=2), b"one")
    heard.put(bundle(1, passing(1, HIGH), timestamp=3), b"later")
    heard.put(bundle(1, passing(1), timestamp=1), b"earlier")
    assert heard.at([position_number(1)], stays) == (b"later",)


@pytest.mark.slow
def test_only_so_many_bundles_are_heard_and_handed_on() -> None:
    heard = HeardVotes()
    for number in range(POSITIONS_HEARD_MAX + 1):
        heard.put(bundle(1, final(number)), number.to_bytes(4, "big"))
    assert len(heard) == POSITIONS_HEARD_MAX
    assert heard.at([position_number(0)], stays) == ()
    assert len(heard.at(map(position_number, range(1000)), stays)) == BUNDLES_ANSWERED_MAX
    for number in range(BUNDLES_EACH_MAX + 10):
        heard.put(bundle(1, final(1, hash_number(number))), b"lie %d" % number)
    assert len(heard.at([position_number(1)], stays)) == BUNDLES_EACH_MAX
