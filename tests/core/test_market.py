"""Capacity, reservations and the choice of an offer (protocol section 11)."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.ledger import NOW, address_of
from xnode.core.faults import CallerFault
from xnode.core.lease import Resources
from xnode.core.market import (
    NOTHING,
    OFFER_VALID_FOR,
    RECORD_WINDOW,
    RESERVATIONS_MAX,
    Offer,
    Request,
    Reservation,
    Reservations,
    cheapest,
    fits,
    is_fresh,
    minus,
    policy_named,
)
from xnode.core.values import NS, ZERO_HASH, Address, Hash

ALICE, BOB = address_of("alice"), address_of("bob")
SOME = Resources(2, 1024, 10)
UNTIL = NOW + OFFER_VALID_FOR
resources = st.builds(Resources, *([st.integers(0, 100)] * 3))


def request_id(number: int) -> Hash:
    return Hash(number.to_bytes(32))


def held_for(consumer: Address = ALICE, wanted: Resources = SOME, until: int = UNTIL) -> Reservation:
    return Reservation(consumer, wanted, "debian-12", until)


def offer(provider: Address, cost: int) -> Offer:
    return Offer(ZERO_HASH, provider, cost, 1000, ZERO_HASH, UNTIL, NOW)


# freshness


def test_an_offer_lasts_fifteen_seconds() -> None:
    assert OFFER_VALID_FOR == 15 * NS


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_record_is_fresh_within_the_window_either_way(sign: int) -> None:
    record = Request(ZERO_HASH, ALICE, SOME, 60, "", NOW + sign * RECORD_WINDOW)
    assert is_fresh(record, NOW)
    assert not is_fresh(record._replace(timestamp=record.timestamp + sign), NOW)


# capacity


def test_fits_in_every_dimension() -> None:
    assert fits(SOME, SOME)
    assert fits(NOTHING, NOTHING)
    for name in Resources._fields:
        assert not fits(SOME._replace(**{name: getattr(SOME, name) + 1}), SOME)


@given(resources, st.lists(resources, max_size=5))
def test_what_is_left_never_falls_below_zero(capacity: Resources, taken: list[Resources]) -> None:
    left = minus(capacity, taken)
    for index, have in enumerate(capacity):
        assert left[index] == max(0, have - sum(item[index] for item in taken))


def test_nothing_taken_leaves_all() -> None:
    assert minus(SOME, ()) == SOME
    assert minus(SOME, iter([SOME])) == NOTHING


# reservations


def test_a_reservation_is_held_until_its_offer_ends() -> None:
    reservations = Reservations()
    assert reservations.reserve(request_id(1), held_for(), NOW)
    assert reservations.held(UNTIL - 1) == (SOME,)
    assert reservations.held(UNTIL) == ()


def test_a_request_is_reserved_once() -> None:
    reservations = Reservations()
    assert reservations.reserve(request_id(1), held_for(), NOW)
    assert not reservations.reserve(request_id(1), held_for(), NOW)
    assert reservations.reserve(request_id(1), held_for(BOB), NOW)  # an id that somebody copied takes nothing away
    assert reservations.held(NOW) == (SOME, SOME)
    assert reservations.reserve(request_id(1), held_for(until=UNTIL * 2), UNTIL)


def test_a_lease_redeems_its_reservation_once() -> None:
    reservations = Reservations()
    reservations.reserve(request_id(1), held_for(), NOW)
    assert reservations.redeem(ALICE, SOME, NOW) == held_for()
    assert reservations.held(NOW) == ()
    assert reservations.redeem(ALICE, SOME, NOW) is None


@pytest.mark.parametrize(
    ("consumer", "wanted", "now"), [(BOB, SOME, NOW), (ALICE, SOME._replace(vcpus=1), NOW), (ALICE, SOME, UNTIL)]
)
def test_a_lease_that_was_not_reserved_redeems_nothing(consumer: Address, wanted: Resources, now: int) -> None:
    reservations = Reservations()
    reservations.reserve(request_id(1), held_for(), NOW)
    assert reservations.redeem(consumer, wanted, now) is None


def test_two_equal_reservations_are_redeemed_one_by_one() -> None:
    reservations = Reservations()
    for number in (1, 2):
        reservations.reserve(request_id(number), held_for(), NOW)
    assert reservations.redeem(ALICE, SOME, NOW)
    assert reservations.held(NOW) == (SOME,)


def test_reservations_have_a_limit_until_some_end() -> None:
    reservations = Reservations()
    for number in range(RESERVATIONS_MAX):
        reservations.reserve(request_id(number), held_for(until=UNTIL - (number == 0)), NOW)
    assert not reservations.reserve(request_id(RESERVATIONS_MAX), held_for(), NOW)
    assert reservations.reserve(request_id(RESERVATIONS_MAX), held_for(), UNTIL - 1)


# policies


def test_cheapest_is_by_cost_and_then_by_address() -> None:
    low, high = sorted([ALICE, BOB])
    best = (offer(low, 5), offer(high, 5), offer(low, 9))
    for order in itertools.permutations(best):
        assert cheapest(order) == best
    assert cheapest(()) == ()


def test_policies_by_name() -> None:
    assert policy_named("cheapest") is cheapest
    for name in ("", "Cheapest", "fast", "__class__"):
        with pytest.raises(CallerFault, match="policy must be one of: cheapest") as caught:
            policy_named(name)
        assert caught.value.code == "unknown_policy"
