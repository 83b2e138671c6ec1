"""Each rule of a genesis document (protocol section 1) refuses by its name."""

from typing import Any

import pytest

from tests.support.ledger import make_genesis, public_key_of
from xnode.core.attestations import Timekeepers
from xnode.core.faults import OperatorFault
from xnode.core.genesis import (
    ALLOCATIONS_MAX,
    KEYS_MAX,
    Allocation,
    Faucet,
    Timing,
    check_genesis,
)
from xnode.core.keyset import Keyset
from xnode.core.price import Rates
from xnode.core.values import U64_MAX, Asset, PublicKey

POINTS = [public_key_of(f"point-{number}") for number in range(KEYS_MAX + 1)]
NO_POINT = PublicKey(b"\xff" * 32)


def unfit(**changes: Any) -> str:
    with pytest.raises(OperatorFault) as caught:
        check_genesis(make_genesis()._replace(**changes))
    assert caught.value.code == "bad_genesis"
    return str(caught.value).removeprefix("genesis: ")


@pytest.mark.parametrize("name", ["", "Upper", "under_score", "a" * 33, "space d", "dot.", "a\n"])
def test_network_id(name: str) -> None:
    assert unfit(network_id=name) == "network_id must match ^[a-z0-9-]{1,32}$"


@pytest.mark.parametrize("time", [0, -1, U64_MAX + 1])
def test_created_at(time: int) -> None:
    assert unfit(created_at=time) == "created_at must be Unix nanoseconds"


def some(*amounts_: int, asset: Asset = Asset.XUSD) -> tuple[Allocation, ...]:
    return tuple(Allocation(POINTS[number], asset, amount) for number, amount in enumerate(amounts_))


@pytest.mark.parametrize("amount", [0, -1, U64_MAX + 1])
def test_allocation_amounts(amount: int) -> None:
    assert unfit(allocations=some(5, amount)) == "an allocation must be above zero and fit u64"


def test_allocations_have_a_limit() -> None:
    many = tuple(Allocation(PublicKey(number.to_bytes(32)), Asset.XUSD, 1) for number in range(ALLOCATIONS_MAX + 1))
    check_genesis(make_genesis()._replace(allocations=many[1:]))
    assert unfit(allocations=many) == f"at most {ALLOCATIONS_MAX} allocations"


def test_an_allocation_is_named_once() -> None:
    assert unfit(allocations=some(5) * 2) == "an allocation is named twice"
    make_genesis(allocations=some(5) + some(5, asset=Asset.XE))


@pytest.mark.parametrize("allocations", [(), some(5, asset=Asset.XE), some(U64_MAX, 1)])
def test_xusd_must_be_there_and_fit(allocations: tuple[Allocation, ...]) -> None:
    message = "allocate some XUSD: without delegated weight nothing can ever be confirmed"
    assert unfit(allocations=allocations) == message


def test_allocated_xe_must_fit() -> None:
    make_genesis(allocations=some(1) + some(U64_MAX, asset=Asset.XE))
    assert unfit(allocations=some(1) + some(U64_MAX, 1, asset=Asset.XE)) == "the allocated XE must fit u64"


def test_representative_can_sign() -> None:
    assert unfit(representative=NO_POINT) == "representative must be an account that can sign"


@pytest.mark.parametrize("difficulty", [-1, U64_MAX + 1])
def test_difficulty_fits(difficulty: int) -> None:
    assert unfit(work_difficulty=difficulty) == "work_difficulty must fit u64"


@pytest.mark.parametrize("name", Rates._fields)
@pytest.mark.parametrize("rate", [-1, U64_MAX + 1])
def test_rates(name: str, rate: int) -> None:
    assert unfit(rates=make_genesis().rates._replace(**{name: rate})) == "rates must not be negative"


def timing_with(**changes: int) -> Timing:
    return make_genesis().timing._replace(**changes)


def test_lease_durations() -> None:
    message = "timing: lease durations are the wrong way round"
    assert unfit(timing=timing_with(lease_duration_min=61, lease_duration_max=60)) == message
    assert unfit(timing=timing_with(lease_duration_min=0)) == message
    make_genesis(timing=timing_with(lease_duration_min=60, lease_duration_max=60))


@pytest.mark.parametrize("name", ["settle_grace", "force_settle_gap", "attestation_skew", "live_window"])
@pytest.mark.parametrize("value", [0, -5, 2**32 + 1])
def test_timing_values(name: str, value: int) -> None:
    assert unfit(timing=timing_with(**{name: value})) == "timing: every value must be above zero"


def test_force_settle_gap_exceeds_twice_the_skew() -> None:
    make_genesis(timing=timing_with(attestation_skew=600, force_settle_gap=1201))
    message = "timing: force_settle_gap must exceed 2 x attestation_skew"
    assert unfit(timing=timing_with(attestation_skew=600, force_settle_gap=1200)) == message


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("change", [{"amount": 0}, {"amount": -1}, {"amount": U64_MAX + 1}, {"interval": 0}])
def test_faucet(enabled: bool, change: dict[str, int]) -> None:
    faucet = Faucet(enabled, 100, 60)._replace(**change)
    assert unfit(faucet=faucet) == "faucet: amount and interval must be above zero and fit u64 and u32"


@pytest.mark.parametrize(("name", "kind"), [("dao", Keyset), ("timekeepers", Timekeepers)])
def test_keysets(name: str, kind: Any) -> None:
    wrong_count = f"{name}: list 1 to {KEYS_MAX} distinct keys"
    assert unfit(**{name: kind((), 1)}) == wrong_count
    assert unfit(**{name: kind((POINTS[0], POINTS[0]), 2)}) == wrong_count
    assert unfit(**{name: kind(tuple(POINTS), 2)}) == wrong_count
    assert unfit(**{name: kind((POINTS[0], NO_POINT), 2)}) == f"{name}: a key is not a point of the curve"
    for threshold in (0, -1, 3):
        message = f"{name}: the threshold must be from 1 to the number of keys"
        assert unfit(**{name: kind(tuple(POINTS[:2]), threshold)}) == message
    make_genesis(**{name: kind(tuple(POINTS[:KEYS_MAX]), KEYS_MAX)})


def test_one_of_several_dao_keys_is_not_enough() -> None:
    message = "dao: with two keys or more the threshold must be at least 2"
    assert unfit(dao=Keyset(tuple(POINTS[:2]), 1)) == message
    make_genesis(dao=Keyset(tuple(POINTS[:1]), 1), timekeepers=Timekeepers(tuple(POINTS[:2]), 1))
