"""The collection of elections (protocol section 8): votes that come early, what stays for ever, limits under floods."""

from collections import Counter

import pytest

from tests.support.elections import BOB, CAROL, DAVE, HIGH, LOW, OTHER, PLACE, US, Table
from tests.support.vote_network import address_number, hash_number, position_number
from xnode.core import elections as limits
from xnode.core.election import FORKS_MAX, HURRY_EVERY_NS, NUDGE_NS
from xnode.core.elections import (
    CONFIRMED_KEPT_MAX,
    ELECTION_LIFETIME_NS,
    ELECTIONS_MAX,
    ELECTIONS_PER_ACCOUNT_MAX,
    REWEIGH_NS,
    SILENT_NS,
    TICK_ELECTIONS_MAX,
)
from xnode.core.faults import OperatorFault
from xnode.core.lease import LeaseState
from xnode.core.steps import Step
from xnode.core.tally import VoteOutcome
from xnode.core.values import NS, Address, Hash
from xnode.core.vote_effects import (
    CastVote,
    Confirmed,
    Dropped,
    Equivocation,
    Expired,
    NoRoom,
    NotOpened,
    WantBlock,
    WantVotes,
)
from xnode.core.votes import Position
from xnode.core.waiting import VOTES_WAITING_EACH_MAX, VOTES_WAITING_MAX, WAITING_LIFETIME_NS, WANT_NS


def final(block: Hash, position: Position = PLACE) -> CastVote:
    return CastVote(position, block, is_final=True)


def place_in(account: int, number: int) -> Position:
    return Position(address_number(account), hash_number(number))


# ---- a decision that the ledger can't carry out


def test_a_winner_that_the_ledger_refuses_may_come_back() -> None:
    table = Table(10, 90)
    table.block(HIGH)
    table.block(LOW)
    decided = Confirmed(PLACE, LOW, (HIGH,), LOW)
    assert decided in table.vote(BOB, LOW, final=True)
    assert table.block(LOW) == (), "what is decided is over"
    table.elections.on_refused(decided, None)
    assert table.vote(BOB, LOW, final=True) == (), "it waits for its block"
    assert table.block(LOW) == (final(LOW), Confirmed(PLACE, LOW, (), LOW))


def test_what_a_refused_winner_beat_stays_lost_and_our_final_vote_binds() -> None:
    table = Table(10, 90)
    step = Step(hash_number(7), LeaseState.CREATED)
    table.block(HIGH)
    table.block(LOW, step=step)
    decided = Confirmed(PLACE, LOW, (HIGH,), LOW)
    assert decided in table.vote(BOB, LOW, final=True)
    table.elections.on_refused(decided, step)
    assert table.block(HIGH) == (NotOpened(PLACE, HIGH, NoRoom.CONFIRMED),)
    rival = Position(CAROL, PLACE.previous)
    table.block(OTHER, rival, step=step)
    assert CastVote(rival, OTHER, True, step) not in table.vote(BOB, OTHER, position=rival), "the step is bound"


# ---- votes before their block


def test_votes_that_came_before_their_block_count_once_it_is_here() -> None:
    table = Table(10, 90)
    assert table.vote(BOB, LOW, final=True) == ()
    assert table.elections.waiting == 1
    assert table.block(LOW) == (CastVote(PLACE, LOW, False), final(LOW), Confirmed(PLACE, LOW, (), LOW))
    assert table.elections.waiting == 0


def test_votes_without_weight_do_not_wait() -> None:
    table = Table(10, 90)
    assert table.vote(CAROL, LOW, final=True) == ()
    assert table.elections.waiting == 0
    assert table.elections.ignored[VoteOutcome.NO_WEIGHT] == 1


def test_a_block_that_votes_wait_for_is_wanted_after_a_while() -> None:
    table = Table(10, 90)
    table.vote(BOB, LOW)
    assert table.tick(WANT_NS - 1) == ()
    assert table.tick(1) == (WantBlock(PLACE, LOW),)
    assert table.tick(1) == ()


def test_votes_do_not_wait_for_ever() -> None:
    table = Table(10, 90)
    table.vote(BOB, LOW)
    assert table.tick(WAITING_LIFETIME_NS) == ()
    assert table.elections.waiting == 0


# ---- final votes are for ever


def test_a_restored_final_vote_is_given_again_whatever_is_applied_now() -> None:
    table = Table(10, 90)
    table.elections.restore_final(PLACE, LOW)
    assert table.block(HIGH) == (final(LOW),)
    assert table.elections.answer(PLACE) == final(LOW)
    assert table.vote(BOB, HIGH, final=True) == (Confirmed(PLACE, HIGH, (), LOW),)


def test_two_different_final_votes_on_disk_are_refused() -> None:
    table = Table(10, 90)
    table.elections.restore_final(PLACE, LOW)
    table.elections.restore_final(PLACE, LOW)
    with pytest.raises(OperatorFault) as caught:
        table.elections.restore_final(PLACE, HIGH)
    assert caught.value.code == "conflicting_final_votes"


def test_our_final_vote_outlives_its_election() -> None:
    table = Table(10, 57, 33)
    table.block(LOW)
    table.vote(BOB, LOW)
    assert Expired(PLACE, (LOW,)) in table.tick(ELECTION_LIFETIME_NS)
    assert table.block(HIGH) == (final(LOW),)


def test_a_final_vote_of_ours_that_peers_know_and_we_forgot_binds_us() -> None:
    table = Table(10, 90)
    table.block(HIGH)
    assert final(LOW) in table.vote(US, LOW, final=True)
    assert table.vote(BOB, HIGH, final=True) == (Confirmed(PLACE, HIGH, (), LOW),)


def test_a_forgotten_final_vote_binds_us_before_its_election_opens() -> None:
    table = Table(10, 90)
    assert table.vote(US, LOW, final=True) == (final(LOW),)
    assert table.block(HIGH) == (final(LOW),)


def test_other_votes_of_our_own_that_come_back_change_nothing() -> None:
    table = Table(10, 90)
    table.block(LOW)
    assert table.vote(US, HIGH, timestamp=99) == ()
    assert table.elections.answer(PLACE) == CastVote(PLACE, LOW, False)


def test_a_twin_that_votes_with_our_key_is_reported() -> None:
    table = Table(100, 90)
    table.block(LOW)
    table.vote(BOB, LOW)
    assert table.vote(US, HIGH, final=True) == (Equivocation(US, PLACE, LOW, HIGH),)
    table.vote(BOB, LOW, final=True)
    assert table.vote(US, LOW, final=True) == ()
    assert table.vote(US, HIGH, final=True) == (Equivocation(US, PLACE, LOW, HIGH),)


def test_with_too_many_final_votes_open_no_new_one_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FINALS_MAX", 1)
    table = Table(100)
    table.elections.restore_final(position_number(1), LOW)
    assert table.block(LOW) == (CastVote(PLACE, LOW, False),)
    assert final(LOW, position_number(1)) in table.block(HIGH, position_number(1))
    assert final(LOW) not in table.tick(NS)


# ---- confirmed stays confirmed


def test_what_is_confirmed_stays_confirmed() -> None:
    table = Table(10, 90)
    table.block(LOW)
    table.vote(BOB, LOW, final=True)
    assert table.block(LOW) == ()
    assert table.block(HIGH) == (NotOpened(PLACE, HIGH, NoRoom.CONFIRMED),)
    assert table.vote(BOB, HIGH, final=True) == ()
    assert table.tick(NS) == ()
    assert table.elections.answer(PLACE) == final(LOW)


def test_only_so_many_confirmed_positions_are_remembered() -> None:
    table = Table(10)
    for number in range(CONFIRMED_KEPT_MAX + 1):
        table.block(LOW, position_number(number))
    assert len(table.elections) == 0
    assert table.elections.answer(position_number(0)) is None
    assert table.elections.answer(position_number(1)) == final(LOW, position_number(1))


def test_there_is_no_answer_where_we_have_no_vote() -> None:
    table = Table(0, 100)
    assert table.elections.answer(PLACE) is None
    table.block(LOW)
    assert table.elections.answer(PLACE) is None
    table.vote(BOB, LOW, final=True)
    assert table.elections.answer(PLACE) is None


# ---- weights


def test_weights_are_frozen_when_the_election_opens() -> None:
    table = Table(10, 90)
    table.block(LOW)
    table.weights = Table(10, 0, 90).weights
    assert table.vote(CAROL, LOW, final=True) == ()
    assert Confirmed(PLACE, LOW, (), LOW) in table.vote(BOB, LOW, final=True)


def test_an_election_that_expires_opens_again_with_new_weights() -> None:
    table = Table(10, 90)
    table.block(LOW)
    assert not [one for one in table.tick(ELECTION_LIFETIME_NS - 1) if isinstance(one, Expired)]
    assert table.tick(1) == (Expired(PLACE, (LOW,)),)
    table.weights = Table(10, 0, 90).weights
    table.block(LOW)
    assert Confirmed(PLACE, LOW, (), LOW) in table.vote(CAROL, LOW, final=True)


def test_frozen_weights_that_can_decide_nothing_any_more_are_frozen_anew() -> None:
    """Carol's 40 % have moved to Bob: of what was frozen only 60 % are left."""
    table = Table(10, 50, 40)
    table.block(LOW)
    table.weights = Table(10, 90).weights
    table.vote(BOB, LOW)
    table.tick(REWEIGH_NS - 1)
    assert [view.total_weight for view in table.elections.views()] == [100]
    assert final(LOW) in table.tick(1)
    assert table.elections.reweighed == 1
    assert Confirmed(PLACE, LOW, (), LOW) in table.vote(BOB, LOW, final=True)


def test_frozen_weights_that_could_still_decide_stay_frozen() -> None:
    table = Table(10, 50, 40)
    table.block(LOW)
    table.weights = Table(10, 60, 30).weights
    table.vote(BOB, LOW)
    for _ in range(20):
        assert final(LOW) not in table.tick(NS)
    assert table.elections.reweighed == 0
    assert final(LOW) in table.vote(CAROL, LOW)


def test_a_final_vote_stays_cast_when_weights_are_frozen_anew() -> None:
    table = Table(40, 30, 30)
    table.block(LOW)
    table.vote(BOB, LOW)
    assert table.elections.answer(PLACE) == final(LOW)
    table.block(HIGH)
    table.weights = Table(10, 90).weights
    for _ in range(60):
        assert CastVote(PLACE, HIGH, is_final=True) not in table.tick(NS)
    assert table.elections.reweighed == 1
    assert table.elections.answer(PLACE) == final(LOW)
    assert table.vote(BOB, HIGH, final=True)[-1] == Confirmed(PLACE, HIGH, (LOW,), LOW)


def test_no_time_lowers_the_bar() -> None:
    table = Table(10, 50, 40)
    table.block(LOW)
    table.vote(BOB, LOW, final=True)
    for _ in range(100):
        assert not [one for one in table.tick(NS) if isinstance(one, Confirmed)]


def test_who_votes_in_no_old_election_is_silent() -> None:
    table = Table(10, 50, 40)
    table.block(LOW)
    table.block(LOW, position_number(1), is_votable=False)
    table.vote(BOB, LOW)
    assert table.elections.silence(SILENT_NS - 1) == (0, frozenset())
    assert table.elections.silence(SILENT_NS) == (1, frozenset({CAROL}))


# ---- who was away and is heard again


def undecided(who: Address, *units: int) -> Table:
    """An election that has long been undecided for want of CAROL's vote, or of her final one; `who` was the last that
    was heard of, 40 s ago."""
    table = Table(*(units or (10, 40, 50)))
    table.block(LOW)
    table.vote(BOB, LOW)
    for _ in range(40):
        table.tick(NS)
    assert WantVotes(PLACE) not in table.tick(NS)
    table.vote(who, HIGH, position=position_number(1), timestamp=2)
    return table


def test_an_election_that_lacks_a_vote_asks_soon_once_its_voter_is_back() -> None:
    assert WantVotes(PLACE) in undecided(CAROL).tick(NUDGE_NS)


def test_an_election_that_lacks_a_final_vote_asks_soon_once_its_voter_is_back() -> None:
    table = Table(10, 40, 50)
    table.block(LOW)
    table.vote(CAROL, LOW)
    table.vote(BOB, LOW)
    for _ in range(40):
        table.tick(NS)
    assert WantVotes(PLACE) not in table.tick(NS)
    table.vote(CAROL, HIGH, position=position_number(1), timestamp=2)
    assert WantVotes(PLACE) in table.tick(NUDGE_NS)


def test_an_election_that_has_the_vote_of_who_is_back_does_not_ask_more_often() -> None:
    assert WantVotes(PLACE) not in undecided(BOB).tick(NUDGE_NS)


def test_who_is_back_again_and_again_hurries_an_election_once_in_a_while() -> None:
    """A representative that is away for 10 s and back, for ever, makes no node say all of its votes more often."""
    table = undecided(CAROL)
    asked = 0
    for second in range(1, 61):
        asked += WantVotes(PLACE) in table.tick(NS)
        if second % 10 == 0:
            table.vote(CAROL, HIGH, position=position_number(1), timestamp=2 + second)
    assert asked <= 60 / (HURRY_EVERY_NS / NS) * 4


@pytest.mark.parametrize(("units", "is_hurried"), [(10, True), (9, False)])
def test_who_has_less_than_a_hundredth_of_all_weight_hurries_nobody(units: int, is_hurried: bool) -> None:
    table = undecided(CAROL, 400, 590 - units, units, 10)
    assert (WantVotes(PLACE) in table.tick(NUDGE_NS)) == is_hurried


def test_who_weighs_nothing_here_hurries_nobody() -> None:
    assert WantVotes(PLACE) not in undecided(DAVE).tick(NUDGE_NS)


# ---- limits


def test_eleven_forks_at_one_position_are_too_many() -> None:
    table = Table(10, 90)
    for number in range(FORKS_MAX):
        assert NotOpened not in map(type, table.block(hash_number(number)))
    assert table.block(hash_number(99)) == (NotOpened(PLACE, hash_number(99), NoRoom.FORKS_FULL),)


def test_a_block_with_votes_takes_the_place_of_the_least_supported_fork() -> None:
    table = Table(10, 20, 70)
    for number in range(FORKS_MAX):
        table.block(hash_number(number))
    table.vote(BOB, hash_number(9))
    table.vote(CAROL, hash_number(99), final=True)
    assert table.block(hash_number(99)) == (
        Dropped(PLACE, hash_number(8)),
        final(hash_number(99)),
        Confirmed(PLACE, hash_number(99), tuple(map(hash_number, [0, 1, 2, 3, 4, 5, 6, 7, 9])), hash_number(99)),
    )


def test_neither_the_applied_block_nor_the_one_we_vote_for_is_dropped() -> None:
    table = Table(10, 20, 70)
    table.block(hash_number(50), is_votable=False)
    table.block(hash_number(60))
    for number in range(1, FORKS_MAX - 1):
        table.block(hash_number(number), is_votable=False)
    for number in range(100, 130):
        table.vote(CAROL, hash_number(number), timestamp=number)
        table.block(hash_number(number), is_votable=False)
    kept = [block for block, _, _ in next(table.elections.views()).candidates]
    assert len(kept) == FORKS_MAX
    assert kept[:2] == [hash_number(50), hash_number(60)]


def test_one_account_opens_only_so_many_elections() -> None:
    table = Table(10, 90)
    for number in range(ELECTIONS_PER_ACCOUNT_MAX):
        assert table.block(LOW, place_in(1, number)) != ()
    over = place_in(1, ELECTIONS_PER_ACCOUNT_MAX)
    assert table.block(LOW, over) == (NotOpened(over, LOW, NoRoom.ACCOUNT_FULL),)
    assert CastVote in map(type, table.block(LOW, place_in(2, 0)))


def test_a_block_that_may_be_voted_for_takes_the_place_of_one_that_waits_for_it() -> None:
    """Else a chain whose places all went to its later blocks would stand still: those wait for the one without."""
    table = Table(10, 90)
    table.block(LOW, place_in(1, 0))
    for number in range(2, ELECTIONS_PER_ACCOUNT_MAX + 1):
        table.block(LOW, place_in(1, number), is_votable=False)
    first, last = place_in(1, 1), place_in(1, ELECTIONS_PER_ACCOUNT_MAX)
    assert table.block(LOW, first) == (Expired(last, (LOW,)), CastVote(first, LOW, False))
    assert table.block(LOW, last) == (
        Expired(place_in(1, ELECTIONS_PER_ACCOUNT_MAX - 1), (LOW,)),
        CastVote(last, LOW, False),
    )


def test_a_block_that_may_not_be_voted_for_takes_nobodys_place() -> None:
    table = Table(10, 90)
    for number in range(ELECTIONS_PER_ACCOUNT_MAX):
        table.block(LOW, place_in(1, number), is_votable=False)
    over = place_in(1, ELECTIONS_PER_ACCOUNT_MAX)
    assert table.block(LOW, over, is_votable=False) == (NotOpened(over, LOW, NoRoom.ACCOUNT_FULL),)


def test_an_account_has_room_again_when_one_of_its_elections_ends() -> None:
    table = Table(10, 90)
    for number in range(ELECTIONS_PER_ACCOUNT_MAX):
        table.block(LOW, place_in(1, number))
    table.vote(BOB, LOW, final=True, position=place_in(1, 3))
    assert CastVote in map(type, table.block(LOW, place_in(1, 99)))


@pytest.fixture
def full() -> Table:
    table = Table(10, 90)
    for number in range(ELECTIONS_MAX):
        table.block(LOW, position_number(number))
    assert len(table.elections) == ELECTIONS_MAX
    return table


@pytest.mark.slow
def test_only_so_many_elections_are_open(full: Table) -> None:
    over = position_number(ELECTIONS_MAX)
    assert full.block(LOW, over) == (NotOpened(over, LOW, NoRoom.ELECTIONS_FULL),)
    assert len(full.elections) == ELECTIONS_MAX


@pytest.mark.slow
def test_a_contest_makes_room_for_others(full: Table) -> None:
    full.block(HIGH, position_number(7))
    over = position_number(ELECTIONS_MAX)
    assert full.block(LOW, over) == (Expired(position_number(7), (LOW, HIGH)), CastVote(over, LOW, False))
    assert len(full.elections) == ELECTIONS_MAX


@pytest.mark.slow
def test_a_tick_works_on_so_many_elections_and_on_the_others_in_the_next(full: Table) -> None:
    asked: Counter[Position] = Counter()
    for _ in range(ELECTIONS_MAX // TICK_ELECTIONS_MAX):
        told = [effect.position for effect in full.tick(NS if not asked else 1) if isinstance(effect, WantVotes)]
        assert len(told) == TICK_ELECTIONS_MAX
        asked.update(told)
    assert set(asked.values()) == {1}
    assert len(asked) == ELECTIONS_MAX


@pytest.mark.slow
def test_a_flood_of_forks_costs_its_own_account_only() -> None:
    table = Table(10, 90)
    for position in (place_in(666, number) for number in range(2 * ELECTIONS_PER_ACCOUNT_MAX)):
        for number in range(3 * FORKS_MAX):
            table.block(hash_number(number), position)
    views = list(table.elections.views())
    assert len(views) == ELECTIONS_PER_ACCOUNT_MAX
    assert {len(view.candidates) for view in views} == {FORKS_MAX}
    table.block(LOW)
    assert Confirmed(PLACE, LOW, (), LOW) in table.vote(BOB, LOW, final=True)


@pytest.mark.slow
def test_a_flood_of_votes_for_nothing_is_bounded_and_costs_its_voter_first() -> None:
    table = Table(*[1] * 40)
    table.vote(BOB, LOW, position=position_number(1))
    for number in range(VOTES_WAITING_EACH_MAX + 50):
        table.vote(CAROL, LOW, position=position_number(number))
    assert table.elections.waiting == VOTES_WAITING_EACH_MAX + 1
    for voter in range(3, 40):
        for number in range(600):
            table.vote(address_number(voter), LOW, position=position_number(number + 10_000 * voter))
    assert table.elections.waiting <= VOTES_WAITING_MAX
    assert len(table.tick(NS)) <= 64
