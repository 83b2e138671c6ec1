"""Price, stake and reward (protocol section 5): the golden values, and the formula once more in fractions."""

from fractions import Fraction
from math import ceil, floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xnode.core import price
from xnode.core.faults import CallerFault
from xnode.core.genesis import DEFAULT_RATES
from xnode.core.lease import Resources
from xnode.core.price import Rates

HOUR, DAY = 3600, 86_400
BIG = Resources(4, 8192, 100)

resources = st.builds(Resources, st.integers(0, 4096), st.integers(0, 67_108_864), st.integers(0, 1_048_576)).filter(
    any
)
rates = st.builds(Rates, *([st.integers(0, 10_000)] * 3))
durations = st.integers(1, 31_536_000)
multipliers = st.integers(500, 10_000)


def refused(wanted: Resources, multiplier_milli: int = 1000) -> tuple[str, str]:
    with pytest.raises(CallerFault) as caught:
        price.cost(wanted, HOUR, DEFAULT_RATES, multiplier_milli)
    return caught.value.code, str(caught.value)


@pytest.mark.parametrize(
    ("wanted", "duration", "multiplier", "cost", "stake"),
    [
        (Resources(2, 2048, 10), HOUR, 1000, 1, 1),
        (BIG, DAY, 1000, 7, 1),
        (BIG, 30 * DAY, 1000, 188, 37),
        (BIG, DAY, 500, 4, 1),  # the user's own example
        (BIG, DAY, 10_000, 70, 14),
        (Resources(0, 0, 1), 1, 500, 1, 1),  # never for nothing
        (Resources(1, 0, 0), 50 * HOUR, 1000, 1, 1),
        (Resources(1, 0, 0), 50 * HOUR + 1, 1000, 2, 1),  # a started hour counts
        (Resources(0, 1024, 0), 100 * HOUR, 1000, 1, 1),
        (Resources(0, 1025, 0), 100 * HOUR, 1000, 2, 1),  # a started GB counts
        (BIG, 30 * DAY, 1001, 189, 37),
        (price.RESOURCE_MAX, 31_536_000, 10_000, 156_440_990, 31_288_198),
    ],
)
def test_golden_values(wanted: Resources, duration: int, multiplier: int, cost: int, stake: int) -> None:
    assert price.cost(wanted, duration, DEFAULT_RATES, multiplier) == cost
    assert price.stake(cost) == stake
    assert price.reward(cost) == cost


@given(resources, durations, rates, multipliers)
def test_cost_follows_the_formula_in_fractions(wanted: Resources, duration: int, given: Rates, multiplier: int) -> None:
    per_hour = (
        Fraction(wanted.vcpus * given.vcpu)
        + ceil(Fraction(wanted.memory_mb, 1024)) * given.memory_gb
        + wanted.disk_gb * given.disk_gb
    )
    base = max(1, ceil(per_hour * ceil(Fraction(duration, 3600)) / 1000))
    expected = max(1, ceil(base * Fraction(multiplier, 1000)))
    assert price.cost(wanted, duration, given, multiplier) == expected
    assert price.stake(expected) == max(1, floor(Fraction(expected, 5)))


@given(resources, durations, rates, multipliers)
def test_more_is_never_cheaper(wanted: Resources, duration: int, given: Rates, multiplier: int) -> None:
    cost = price.cost(wanted, duration, given, multiplier)
    assert cost >= 1
    assert price.cost(wanted, duration + 3600, given, multiplier) >= cost
    assert price.cost(wanted, duration, given._replace(vcpu=given.vcpu + 1), multiplier) >= cost
    assert price.cost(wanted, duration, given, 10_000) >= cost


def test_the_default_multiplier_is_one() -> None:
    assert price.cost(BIG, DAY, DEFAULT_RATES) == price.cost(BIG, DAY, DEFAULT_RATES, 1000)


@pytest.mark.parametrize(("cost", "stake"), [(1, 1), (4, 1), (5, 1), (9, 1), (10, 2), (14, 2), (15, 3)])
def test_stake_is_a_fifth_rounded_down_and_at_least_one(cost: int, stake: int) -> None:
    assert price.stake(cost) == stake


def test_nothing_can_not_be_leased() -> None:
    assert refused(Resources(0, 0, 0)) == ("bad_resources", "ask for at least one of vcpus, memory_mb and disk_gb")


@pytest.mark.parametrize(("name", "limit"), [("vcpus", 4096), ("memory_mb", 67_108_864), ("disk_gb", 1_048_576)])
def test_limits(name: str, limit: int) -> None:
    at_limit = Resources(0, 0, 0)._replace(**{name: limit})
    assert price.cost(at_limit, HOUR, DEFAULT_RATES) >= 1
    message = f"{name} must be from 0 to {limit}"
    assert refused(at_limit._replace(**{name: limit + 1})) == ("bad_resources", message)
    assert refused(Resources(1, 1, 1)._replace(**{name: -1})) == ("bad_resources", message)


@pytest.mark.parametrize("multiplier", [0, 499, 10_001, -1000])
def test_multiplier_limits(multiplier: int) -> None:
    assert refused(BIG, multiplier) == ("bad_multiplier", "multiplier_milli must be from 500 to 10000")
