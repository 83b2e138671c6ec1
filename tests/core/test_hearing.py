"""Who is heard again after having been away (protocol section 8: what may have been lost is asked again)."""

from tests.support.vote_network import address_number
from xnode.core.hearing import AWAY_NS, HEARD_MAX, Hearing

BOB, CAROL = address_number(1), address_number(2)
NOW = 100 * AWAY_NS


def test_who_is_heard_the_first_time_is_back() -> None:
    assert Hearing().is_back(BOB, 1, NOW)


def test_who_is_heard_all_the_time_was_never_away() -> None:
    hearing = Hearing()
    hearing.is_back(BOB, 1, NOW)
    assert not any(hearing.is_back(BOB, 1 + number, NOW + number * (AWAY_NS - 1)) for number in range(1, 9))


def test_who_was_not_heard_for_a_while_is_back_once() -> None:
    hearing = Hearing()
    hearing.is_back(BOB, 1, NOW)
    hearing.is_back(CAROL, 1, NOW)
    assert hearing.is_back(BOB, 2, NOW + AWAY_NS)
    assert not hearing.is_back(BOB, 3, NOW + AWAY_NS)
    assert hearing.is_back(CAROL, 2, NOW + AWAY_NS)


def test_what_peers_keep_of_somebody_and_tell_again_does_not_count() -> None:
    hearing = Hearing()
    hearing.is_back(BOB, 5, NOW)
    assert not hearing.is_back(BOB, 5, NOW + AWAY_NS)
    assert not hearing.is_back(BOB, 4, NOW + AWAY_NS)
    assert hearing.is_back(BOB, 6, NOW + AWAY_NS)


def test_only_so_many_are_remembered() -> None:
    hearing = Hearing()
    for number in range(HEARD_MAX + 1):
        hearing.is_back(address_number(number), 1, NOW)
    assert not hearing.is_back(address_number(HEARD_MAX), 2, NOW)
    assert hearing.is_back(address_number(0), 2, NOW)
