"""The rules of a lease_accept (protocol sections 4 and 7)."""

from typing import Any

import pytest

from tests.support.ledger import DAY, NOW, RICH, MemoryLedger, address_of, attest, public_key_of
from tests.support.rules import NO_POINT, UNKNOWN, accepted, altered, new_ledger, refused
from xnode.core.blocks import Block
from xnode.core.genesis import Allocation
from xnode.core.lease import LeaseState
from xnode.core.ledger import Bucket, Outcome
from xnode.core.values import NS, U64_MAX, Asset, Hash, PublicKey

ALICE, BOB = address_of("alice"), address_of("bob")


def leased(**changes: Any) -> tuple[MemoryLedger, Hash]:
    """A ledger where Alice has leased from Bob for 70 (stake 14)."""
    ledger = new_ledger(**changes)
    lease = ledger.chain("alice").lease(ledger, BOB, multiplier_milli=10_000)
    return ledger, accepted(ledger, lease).block_hash


def accept_of(ledger: MemoryLedger, lease: Hash, **changes: Any) -> Block:
    return altered(ledger, "bob", ledger.chain("bob").accept(ledger, lease), **changes)


def test_an_accept_locks_the_stake_and_starts_the_lease() -> None:
    ledger, lease = leased()
    before = ledger.leases[lease]
    words = attest(lease, NOW - 5, NOW + 5, NOW + 7)
    effects = accepted(ledger, accept_of(ledger, lease, attestations=words, certificate_hash=Hash(b"c" * 32)))
    assert effects.account.xusd == RICH - 14
    totals = ledger.totals()
    assert (totals[Asset.XUSD, Bucket.STAKE], totals[Asset.XUSD, Bucket.ESCROW]) == (14, 70)
    assert effects.lease == before._replace(
        state=LeaseState.ACCEPTED,
        start_time=NOW + 5,
        host_key=public_key_of("host-key"),
        accept_hash=effects.block_hash,
        certificate_hash=Hash(b"c" * 32),
    )
    assert effects.lease.expiry == NOW + 5 + DAY * NS
    assert (effects.pending_put, effects.pending_delete) == (None, None)


def test_the_start_is_the_attested_time_and_not_the_blocks() -> None:
    ledger, lease = leased()
    effects = accepted(ledger, accept_of(ledger, lease, timestamp=NOW + 3000 * NS))
    assert effects.lease is not None
    assert effects.lease.start_time == NOW


def test_an_unknown_lease_is_waited_for() -> None:
    ledger, lease = leased()
    assert refused(ledger, accept_of(ledger, lease, source=UNKNOWN), Outcome.GAP_SOURCE).needs == UNKNOWN


def test_a_block_that_is_no_lease_is_refused() -> None:
    ledger, lease = leased()
    send = accepted(ledger, ledger.chain("alice").send(ledger, BOB, 1)).block_hash
    refused(ledger, accept_of(ledger, lease, source=send), Outcome.NO_SOURCE)


@pytest.mark.parametrize("name", ["alice", "carol"])
def test_only_the_provider_accepts(name: str) -> None:
    ledger, lease = leased()
    refused(ledger, ledger.chain(name).accept(ledger, lease), Outcome.NOT_YOURS)


def test_twice_is_refused() -> None:
    ledger, lease = leased()
    accepted(ledger, accept_of(ledger, lease))
    refused(ledger, accept_of(ledger, lease), Outcome.WRONG_STATE)


def test_a_cancelled_lease_is_refused() -> None:
    ledger, lease = leased()
    accepted(ledger, ledger.chain("alice").cancel(ledger, lease))
    refused(ledger, accept_of(ledger, lease), Outcome.WRONG_STATE)


@pytest.mark.parametrize("settled", [True, False])
def test_an_ended_lease_is_refused(settled: bool) -> None:
    ledger, lease = leased()
    accepted(ledger, accept_of(ledger, lease))
    end = ledger.chain("bob").settle(ledger, lease) if settled else ledger.chain("alice").force_settle(ledger, lease)
    accepted(ledger, end, now=None)
    refused(ledger, accept_of(ledger, lease), Outcome.WRONG_STATE)


@pytest.mark.parametrize("stake", [0, 13, 15, 70, U64_MAX])
def test_a_stake_that_is_not_exact_is_refused(stake: int) -> None:
    ledger, lease = leased()
    refused(ledger, accept_of(ledger, lease, amount=stake), Outcome.BAD_AMOUNT)


def test_a_provider_without_the_stake_is_refused() -> None:
    opened = Allocation(ALICE, Asset.XUSD, RICH)
    for amount, outcome in ((13, Outcome.INSUFFICIENT), (14, None)):
        ledger, lease = leased(allocations=(opened, Allocation(BOB, Asset.XUSD, amount)))
        _ = (
            refused(ledger, accept_of(ledger, lease), outcome)
            if outcome
            else accepted(ledger, accept_of(ledger, lease))
        )


@pytest.mark.parametrize("balance", [0, RICH, RICH - 13, RICH - 15])
def test_a_balance_that_does_not_follow_is_refused(balance: int) -> None:
    ledger, lease = leased()
    refused(ledger, accept_of(ledger, lease, balance=balance), Outcome.BAD_BALANCE)


@pytest.mark.parametrize("point", [NO_POINT, bytes(32), b"\1" + bytes(31)])
def test_a_host_key_that_is_no_point_is_refused(point: bytes) -> None:
    ledger, lease = leased()
    refused(ledger, accept_of(ledger, lease, host_key=PublicKey(point)), Outcome.BAD_KEY)


def test_in_xe_it_is_refused() -> None:
    ledger, lease = leased()
    refused(ledger, accept_of(ledger, lease, asset=Asset.XE), Outcome.BAD_ASSET)


def test_too_few_attestations_are_refused() -> None:
    ledger, lease = leased()
    other = Hash(b"o" * 32)
    (one,) = attest(lease, NOW)
    strangers = attest(lease, NOW, NOW, names=("carol", "dave"))
    for words in ((), (one,), (one, one), attest(other, NOW, NOW), strangers, (one, *strangers)):
        refused(ledger, accept_of(ledger, lease, attestations=words), Outcome.BAD_ATTESTATIONS)


@pytest.mark.parametrize("sign", [-1, 1])
def test_attestations_far_from_now_are_refused_in_live_blocks(sign: int) -> None:
    ledger, lease = leased()
    skew = ledger.genesis.timing.attestation_skew * NS
    beyond = NOW + sign * (skew + 1)
    block = ledger.chain("bob").accept(ledger, lease, beyond)
    refused(ledger, block, Outcome.BAD_ATTESTATIONS)
    accepted(ledger, block, now=None)


def test_checks_run_cheap_before_dear() -> None:
    """Mended one by one, each next fault shows; twenty signatures, the dearest, are last."""
    ledger, lease = leased()
    faults: dict[str, Any] = {
        "asset": Asset.XE,
        "source": UNKNOWN,
        "amount": 1,
        "balance": 0,
        "host_key": PublicKey(NO_POINT),
        "attestations": (),
    }
    outcomes = [
        Outcome.BAD_ASSET,
        Outcome.GAP_SOURCE,
        Outcome.BAD_AMOUNT,
        Outcome.BAD_BALANCE,
        Outcome.BAD_KEY,
        Outcome.BAD_ATTESTATIONS,
    ]
    for name, outcome in zip(list(faults), outcomes, strict=True):
        refused(ledger, accept_of(ledger, lease, **faults), outcome)
        del faults[name]
    accepted(ledger, accept_of(ledger, lease))
