"""Capacity and the choice of an offer (protocol section 11)."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.ledger import NOW, address_of, key_of
from xnode.core.faults import CallerFault
from xnode.core.lease import Resources
from xnode.core.market import (
    NOTHING,
    OFFER_VALID_FOR,
    RECORD_WINDOW,
    Offer,
    Request,
    cheapest,
    fits,
    is_fresh,
    minus,
    policy_named,
)
from xnode.core.values import NS, ZERO_HASH, Address

ALICE, BOB = address_of("alice"), address_of("bob")
KEY = key_of("access").public_key
SOME = Resources(2, 1024, 10)
UNTIL = NOW + OFFER_VALID_FOR
resources = st.builds(Resources, *([st.integers(0, 100)] * 3))


def offer(provider: Address, cost: int) -> Offer:
    return Offer(ZERO_HASH, provider, cost, 1000, ZERO_HASH, "debian-12", UNTIL, NOW)


# freshness


def test_an_offer_lasts_fifteen_seconds() -> None:
    assert OFFER_VALID_FOR == 15 * NS


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_record_is_fresh_within_the_window_either_way(sign: int) -> None:
    record = Request(ZERO_HASH, ALICE, SOME, 60, KEY, "", NOW + sign * RECORD_WINDOW)
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
