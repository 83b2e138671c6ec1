"""The rules of a lease (protocol sections 4 and 5)."""

from typing import Any

import pytest

from tests.support.ledger import DAY, NOW, RICH, SMALL, MemoryLedger, address_of, public_key_of
from tests.support.rules import NO_POINT, accepted, altered, new_ledger, refused
from xnode.core.blocks import Block
from xnode.core.genesis import Allocation
from xnode.core.lease import LeaseRecord, LeaseState, Resources
from xnode.core.ledger import Bucket, Outcome
from xnode.core.price import RESOURCE_MAX, Rates
from xnode.core.values import U64_MAX, ZERO_HASH, Address, Asset, Hash, PublicKey

ALICE, BOB = address_of("alice"), address_of("bob")


def lease_of(ledger: MemoryLedger, **changes: Any) -> Block:
    """Alice's good lease of SMALL for a day at Bob's (cost 7), or a changed one."""
    return altered(ledger, "alice", ledger.chain("alice").lease(ledger, BOB), **changes)


def test_a_lease_puts_its_cost_into_escrow() -> None:
    ledger = new_ledger()
    effects = accepted(ledger, lease_of(ledger, certificate_hash=Hash(b"c" * 32)))
    assert effects.account.xusd == RICH - 7
    assert ledger.totals()[Asset.XUSD, Bucket.ESCROW] == 7
    assert effects.lease == LeaseRecord(
        lease_hash=effects.block_hash,
        consumer=ALICE,
        provider=BOB,
        resources=SMALL,
        duration=DAY,
        access_pub_key=public_key_of("alice-access"),
        cost=7,
        stake=1,
        multiplier_milli=1000,
        certificate_hash=Hash(b"c" * 32),
        created_at=NOW,
        state=LeaseState.CREATED,
        start_time=0,
        host_key=PublicKey(ZERO_HASH),
        accept_hash=ZERO_HASH,
        end_hash=ZERO_HASH,
    )


def test_nothing_is_pending_for_the_provider() -> None:
    ledger = new_ledger()
    effects = accepted(ledger, lease_of(ledger))
    assert (effects.pending_put, effects.pending_delete) == (None, None)


@pytest.mark.parametrize(("multiplier", "amount"), [(500, 4), (1000, 7), (10_000, 70)])
def test_the_amount_is_the_formulas(multiplier: int, amount: int) -> None:
    ledger = new_ledger()
    accepted(ledger, lease_of(ledger, multiplier_milli=multiplier, amount=amount, balance=RICH - amount))
    for wrong in (0, amount - 1, amount + 1, U64_MAX):
        bad = lease_of(ledger, multiplier_milli=multiplier, amount=wrong)
        refused(ledger, bad, Outcome.BAD_AMOUNT)


def test_the_amount_follows_the_networks_rates() -> None:
    ledger = new_ledger(rates=Rates(1000, 1000, 1000))
    refused(ledger, lease_of(ledger, amount=7), Outcome.BAD_AMOUNT)
    accepted(ledger, lease_of(ledger, amount=(4 + 8 + 100) * 24))


@pytest.mark.parametrize("name", Resources._fields)
def test_one_resource_is_enough(name: str) -> None:
    ledger = new_ledger()
    few = Resources(0, 0, 0)._replace(**{name: 1})
    accepted(ledger, ledger.chain("alice").lease(ledger, BOB, few))


def test_no_resource_is_refused() -> None:
    ledger = new_ledger()
    refused(ledger, lease_of(ledger, vcpus=0, memory_mb=0, disk_gb=0), Outcome.BAD_RESOURCES)


@pytest.mark.parametrize("name", Resources._fields)
def test_a_resource_over_its_limit_is_refused(name: str) -> None:
    ledger = new_ledger()
    most = getattr(RESOURCE_MAX, name)
    accepted(ledger, ledger.chain("alice").lease(ledger, BOB, SMALL._replace(**{name: most})))
    refused(ledger, lease_of(ledger, **{name: most + 1}), Outcome.BAD_RESOURCES)
    refused(ledger, lease_of(ledger, **{name: U64_MAX}), Outcome.BAD_RESOURCES)


@pytest.mark.parametrize("duration", [0, 59, 31_536_001, U64_MAX])
def test_a_duration_out_of_range_is_refused(duration: int) -> None:
    ledger = new_ledger()
    refused(ledger, lease_of(ledger, duration=duration), Outcome.BAD_DURATION)


@pytest.mark.parametrize("duration", [60, 31_536_000])
def test_the_ends_of_the_range_are_accepted(duration: int) -> None:
    ledger = new_ledger()
    accepted(ledger, ledger.chain("alice").lease(ledger, BOB, duration=duration))


@pytest.mark.parametrize("multiplier", [0, 499, 10_001, U64_MAX])
def test_a_multiplier_out_of_range_is_refused(multiplier: int) -> None:
    ledger = new_ledger()
    refused(ledger, lease_of(ledger, multiplier_milli=multiplier), Outcome.BAD_MULTIPLIER)


def test_from_oneself_is_refused() -> None:
    ledger = new_ledger()
    refused(ledger, lease_of(ledger, destination=ALICE), Outcome.BAD_DESTINATION)


@pytest.mark.parametrize("point", [NO_POINT, bytes(32), b"\1" + bytes(31)])
def test_a_provider_that_can_not_sign_is_refused(point: bytes) -> None:
    ledger = new_ledger()
    refused(ledger, lease_of(ledger, destination=Address(point)), Outcome.BAD_DESTINATION)


@pytest.mark.parametrize("point", [NO_POINT, bytes(32), b"\1" + bytes(31)])
def test_an_access_key_that_is_no_point_is_refused(point: bytes) -> None:
    ledger = new_ledger()
    refused(ledger, lease_of(ledger, access_pub_key=PublicKey(point)), Outcome.BAD_KEY)


def test_in_xe_it_is_refused() -> None:
    ledger = new_ledger()
    refused(ledger, lease_of(ledger, asset=Asset.XE), Outcome.BAD_ASSET)


def test_more_than_there_is_is_refused() -> None:
    for amount, outcome in ((7, None), (6, Outcome.INSUFFICIENT)):
        ledger = new_ledger(allocations=(Allocation(ALICE, Asset.XUSD, amount),))
        lease = lease_of(ledger)
        _ = refused(ledger, lease, outcome) if outcome else accepted(ledger, lease)


@pytest.mark.parametrize("balance", [0, RICH, RICH - 6, RICH - 8])
def test_a_balance_that_does_not_follow_is_refused(balance: int) -> None:
    ledger = new_ledger()
    refused(ledger, lease_of(ledger, balance=balance), Outcome.BAD_BALANCE)


def test_a_cost_over_u64_is_refused() -> None:
    ledger = new_ledger(rates=Rates(U64_MAX, U64_MAX, U64_MAX))
    good = new_ledger().chain("alice").lease(new_ledger(), BOB)
    refused(ledger, altered(ledger, "alice", good), Outcome.OVERFLOW)


def test_checks_run_cheap_before_dear() -> None:
    """Mended one by one, each next fault shows; curve points, the dear ones, are last."""
    ledger = new_ledger()
    faults: dict[str, Any] = {
        "asset": Asset.XE,
        "duration": 1,
        "vcpus": 5000,
        "multiplier_milli": 1,
        "amount": 8,
        "balance": RICH,
        "destination": Address(NO_POINT),
        "access_pub_key": PublicKey(NO_POINT),
    }
    outcomes = [
        Outcome.BAD_ASSET,
        Outcome.BAD_DURATION,
        Outcome.BAD_RESOURCES,
        Outcome.BAD_MULTIPLIER,
        Outcome.BAD_AMOUNT,
        Outcome.BAD_BALANCE,
        Outcome.BAD_DESTINATION,
        Outcome.BAD_KEY,
    ]
    for name, outcome in zip(list(faults), outcomes, strict=True):
        refused(ledger, lease_of(ledger, **faults), outcome)
        del faults[name]
    accepted(ledger, lease_of(ledger))


def test_two_equal_leases_are_two_leases() -> None:
    ledger = new_ledger()
    accepted(ledger, lease_of(ledger))
    accepted(ledger, lease_of(ledger))
    assert len(ledger.leases) == 2
