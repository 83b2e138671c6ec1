"""Signed time (protocol section 7)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.ledger import NOW, TIMEKEEPER_NAMES, attest, key_of, public_key_of
from xnode.core.attestations import (
    ATTESTATIONS_MAX,
    Attestation,
    Timekeepers,
    attestation_message,
    canonical_time,
    is_valid,
    lower_median,
    valid_ones,
)
from xnode.core.values import NS, U64_MAX, Hash, Signature

LEASE = Hash(b"l" * 32)
SKEW = 600
MANY = tuple(f"timekeeper-{number}" for number in range(1, 22))


def listed(*names: str, threshold: int = 2) -> Timekeepers:
    return Timekeepers(tuple(public_key_of(name) for name in names), threshold)


THREE = listed(*TIMEKEEPER_NAMES)


def time_of(*attestations: Attestation, timekeepers: Timekeepers = THREE, now: int | None = NOW) -> int | None:
    return canonical_time(attestations, LEASE, timekeepers, now, SKEW)


def spoilt(attestation: Attestation) -> Attestation:
    return attestation._replace(signature=Signature(bytes(64)))


def test_message_is_lease_hash_then_time_big_endian() -> None:
    assert attestation_message(LEASE, 0x0102030405060708) == LEASE + bytes(range(1, 9))
    assert len(attestation_message(LEASE, U64_MAX)) == 40


def test_an_attestation_is_for_one_lease_time_and_key() -> None:
    (good,) = attest(LEASE, NOW)
    keys = [public_key_of(name) for name in TIMEKEEPER_NAMES]
    assert is_valid(good, LEASE, keys)
    assert not is_valid(good, Hash(b"o" * 32), keys)
    assert not is_valid(good._replace(timestamp=NOW + 1), LEASE, keys)
    assert not is_valid(good._replace(public_key=keys[1]), LEASE, keys)
    assert not is_valid(good, LEASE, keys[1:])


@pytest.mark.parametrize(
    ("times", "median"), [([5], 5), ([5, 9], 5), ([9, 5], 5), ([9, 1, 5], 5), ([4, 3, 2, 1], 2), ([7, 7, 7, 1], 7)]
)
def test_lower_median(times: list[int], median: int) -> None:
    assert lower_median(times) == median


@given(st.lists(st.integers(0, U64_MAX), min_size=1, max_size=20))
def test_lower_median_has_as_many_below_as_above(times: list[int]) -> None:
    median = lower_median(times)
    assert median in times
    assert sum(time < median for time in times) <= (len(times) - 1) // 2
    assert sum(time > median for time in times) <= len(times) // 2


def test_canonical_time_is_the_lower_median_in_any_order() -> None:
    words = attest(LEASE, NOW - 5, NOW, NOW + 7)
    assert time_of(*words) == time_of(*reversed(words)) == NOW
    assert time_of(*words[1:]) == NOW
    assert time_of(words[0], words[2]) == NOW - 5


def test_too_few_are_no_time() -> None:
    words = attest(LEASE, NOW, NOW, NOW)
    assert time_of() is None
    assert time_of(words[0]) is None
    assert time_of(*words[:2]) == NOW
    assert time_of(*words, timekeepers=listed(*TIMEKEEPER_NAMES, threshold=4)) is None


def test_none_is_no_time_even_at_threshold_zero() -> None:
    assert time_of(timekeepers=listed(*TIMEKEEPER_NAMES, threshold=0)) is None


def test_a_key_counts_once() -> None:
    (first,) = attest(LEASE, NOW)
    (again,) = attest(LEASE, NOW + 1)
    assert time_of(first, again) is None
    assert valid_ones((first, again), LEASE, THREE.keys) == (first,)


def test_a_bad_one_does_not_shadow_a_good_one_of_its_key() -> None:
    (good,) = attest(LEASE, NOW)
    assert valid_ones((spoilt(good), good), LEASE, THREE.keys) == (good,)


def test_unlisted_and_badly_signed_ones_do_not_count() -> None:
    good = attest(LEASE, NOW, NOW)
    stranger = attest(LEASE, NOW + 500 * NS, names=("stranger",))
    assert time_of(good[0], *stranger) is None
    assert time_of(good[0], spoilt(good[1])) is None
    assert time_of(*good, *stranger, *(spoilt(word) for word in attest(LEASE, NOW - 9 * NS))) == NOW


def test_twenty_at_most() -> None:
    timekeepers = listed(*MANY)
    words = attest(LEASE, *([NOW] * len(MANY)), names=MANY)
    assert len(words) == ATTESTATIONS_MAX + 1
    assert time_of(*words[:ATTESTATIONS_MAX], timekeepers=timekeepers) == NOW
    assert time_of(*words, timekeepers=timekeepers) is None


@pytest.mark.parametrize("sign", [-1, 1])
def test_skew_is_checked_for_live_blocks_only(sign: int) -> None:
    edge, beyond = NOW + sign * SKEW * NS, NOW + sign * (SKEW * NS + 1)
    assert time_of(*attest(LEASE, edge, edge)) == edge
    assert time_of(*attest(LEASE, beyond, beyond)) is None
    assert time_of(*attest(LEASE, beyond, beyond), now=None) == beyond


def test_one_skewed_attestation_refuses_the_whole_set() -> None:
    """Left out instead, the median would depend on each node's clock."""
    words = attest(LEASE, NOW, NOW, NOW + (SKEW + 1) * NS)
    assert time_of(*words) is None
    assert time_of(*words[:2]) == NOW


@given(st.integers(0, U64_MAX))
def test_any_time_of_u64_can_be_attested(time: int) -> None:
    word = Attestation(
        public_key_of("timekeeper-1"), time, key_of("timekeeper-1").sign(attestation_message(LEASE, time))
    )
    assert time_of(word, timekeepers=listed("timekeeper-1", threshold=1), now=None) == time
