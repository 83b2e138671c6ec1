"""What a timekeeper may sign (protocol section 7)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xnode.core.faults import Unavailable
from xnode.core.timekeeping import (
    CLOCK_STEP_MAX,
    REPEAT_AFTER,
    SUSPECT_FOR,
    ClockGuard,
    Reading,
    attested_time,
    is_repeat,
)
from xnode.core.values import NS

NOW = 1_800_000_000 * NS
BEGINNING = NOW - 1000 * NS
START = Reading(NOW, 5 * NS)
GUARD = ClockGuard(START)


def after(elapsed: int, step: int = 0, last: Reading = START) -> Reading:
    return Reading(last.wall + elapsed + step, last.monotonic + elapsed)


def refused(guard: ClockGuard, signed_before: int = 0, created_at: int = BEGINNING) -> str:
    with pytest.raises(Unavailable) as caught:
        attested_time(guard, signed_before, created_at)
    assert (caught.value.code, caught.value.retryable) == ("clock_suspect", True)
    return str(caught.value)


def test_a_steady_clock_is_signed() -> None:
    guard = GUARD.observe(after(60 * NS))
    assert not guard.is_suspect
    assert attested_time(guard, 0, BEGINNING) == NOW + 60 * NS


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_small_step_is_forgiven_and_a_large_one_is_not(sign: int) -> None:
    assert not GUARD.observe(after(NS, sign * CLOCK_STEP_MAX)).is_suspect
    stepped = GUARD.observe(after(NS, sign * (CLOCK_STEP_MAX + 1)))
    assert stepped.is_suspect
    assert "was stepped" in refused(stepped)


def test_a_stepped_clock_is_suspect_for_a_while() -> None:
    guard = GUARD.observe(after(NS, 3600 * NS))
    before_end = guard.observe(after(SUSPECT_FOR - 1, last=guard.last))
    assert before_end.is_suspect
    assert not before_end.observe(after(1, last=before_end.last)).is_suspect


def test_another_step_begins_the_while_anew() -> None:
    guard = GUARD.observe(after(NS, 3600 * NS))
    again = guard.observe(after(SUSPECT_FOR - 1, -3600 * NS, guard.last))
    assert again.observe(after(SUSPECT_FOR - 1, last=again.last)).is_suspect
    assert not again.observe(after(SUSPECT_FOR, last=again.last)).is_suspect


def test_never_before_what_was_signed() -> None:
    assert attested_time(GUARD, NOW, BEGINNING) == NOW
    assert "already signed a later time" in refused(GUARD, NOW + 1)


def test_never_before_the_network_began() -> None:
    assert attested_time(GUARD, 0, NOW) == NOW
    assert "before the network began" in refused(GUARD, 0, NOW + 1)


@given(st.lists(st.tuples(st.integers(0, 100 * NS), st.integers(-5 * NS, 5 * NS)), max_size=20))
def test_what_is_signed_never_goes_backwards(story: list[tuple[int, int]]) -> None:
    guard, signed = GUARD, 0
    for elapsed, step in story:
        guard = guard.observe(after(elapsed, step, guard.last))
        try:
            time = attested_time(guard, signed, BEGINNING)
        except Unavailable:
            continue
        assert time >= signed
        signed = time


def test_one_for_each_lease_in_thirty_seconds() -> None:
    assert REPEAT_AFTER == 30 * NS
    assert is_repeat(NOW, NOW)
    assert is_repeat(NOW, NOW + REPEAT_AFTER - 1)
    assert not is_repeat(NOW, NOW + REPEAT_AFTER)
    assert not is_repeat(0, 1)
