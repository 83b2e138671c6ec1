"""The rules of a lease_settle (protocol sections 4, 5 and 7)."""

from typing import Any

import pytest

from tests.support.ledger import DAY, NOW, RICH, MemoryLedger, address_of, attest
from tests.support.rules import UNKNOWN, accepted, altered, new_ledger, refused
from xnode.core.blocks import Block
from xnode.core.genesis import Allocation
from xnode.core.lease import LeaseState
from xnode.core.ledger import Bucket, Outcome
from xnode.core.values import NS, U64_MAX, Asset, Hash

ALICE, BOB = address_of("alice"), address_of("bob")
EXPIRY = NOW + DAY * NS
GRACE = 3600 * NS


def started(**changes: Any) -> tuple[MemoryLedger, Hash]:
    """A ledger where Bob has accepted Alice's lease of 70 (stake 14) at NOW."""
    ledger = new_ledger(**changes)
    lease = accepted(ledger, ledger.chain("alice").lease(ledger, BOB, multiplier_milli=10_000)).block_hash
    accepted(ledger, ledger.chain("bob").accept(ledger, lease))
    return ledger, lease


def settle_of(ledger: MemoryLedger, lease: Hash, at: int = EXPIRY, **changes: Any) -> Block:
    settle = ledger.chain("bob").settle(ledger, lease, at, timestamp=at)
    return altered(ledger, "bob", settle, **changes)


def test_a_settle_burns_mints_and_returns() -> None:
    ledger, lease = started()
    before = ledger.leases[lease]
    effects = accepted(ledger, settle_of(ledger, lease), now=EXPIRY)
    assert (effects.account.xusd, effects.account.xe) == (RICH, 70)
    totals = ledger.totals()
    assert (totals[Asset.XUSD, Bucket.BURNT], totals[Asset.XE, Bucket.MINTED]) == (70, 70)
    assert not {(Asset.XUSD, Bucket.ESCROW), (Asset.XUSD, Bucket.STAKE)} & set(totals)
    assert effects.lease == before._replace(state=LeaseState.SETTLED, end_hash=effects.block_hash)
    assert (effects.pending_put, effects.pending_delete) == (None, None)


@pytest.mark.parametrize("at", [EXPIRY, EXPIRY + 1, EXPIRY + GRACE])
def test_from_expiry_to_the_end_of_the_grace(at: int) -> None:
    ledger, lease = started()
    accepted(ledger, settle_of(ledger, lease, at), now=at)


@pytest.mark.parametrize("at", [0, NOW, EXPIRY - 1, EXPIRY + GRACE + 1])
def test_too_early_or_too_late_is_refused(at: int) -> None:
    ledger, lease = started()
    refused(ledger, settle_of(ledger, lease, at), Outcome.BAD_TIME, now=at)
    refused(ledger, settle_of(ledger, lease, at), Outcome.BAD_TIME, now=None)


def test_the_attested_median_decides() -> None:
    ledger, lease = started()
    for times, outcome in (((-1, 5, 9), None), ((-2, -1, 9), Outcome.BAD_TIME)):
        words = attest(lease, *(EXPIRY + time for time in times))
        block = settle_of(ledger, lease, attestations=words)
        _ = refused(ledger, block, outcome, now=EXPIRY) if outcome else accepted(ledger, block, now=EXPIRY)
        ledger, lease = started()


def test_an_unknown_lease_is_waited_for() -> None:
    ledger, lease = started()
    block = settle_of(ledger, lease, source=UNKNOWN)
    assert refused(ledger, block, Outcome.GAP_SOURCE, now=EXPIRY).needs == UNKNOWN


def test_a_block_that_is_no_lease_is_refused() -> None:
    ledger, lease = started()
    block = settle_of(ledger, lease, source=ledger.leases[lease].accept_hash)
    refused(ledger, block, Outcome.NO_SOURCE, now=EXPIRY)


@pytest.mark.parametrize("name", ["alice", "carol"])
def test_only_the_provider_settles(name: str) -> None:
    ledger, lease = started()
    refused(ledger, ledger.chain(name).settle(ledger, lease), Outcome.NOT_YOURS, now=EXPIRY)


def test_a_lease_that_is_not_accepted_is_refused() -> None:
    ledger = new_ledger()
    lease = accepted(ledger, ledger.chain("alice").lease(ledger, BOB)).block_hash
    refused(ledger, settle_of(ledger, lease), Outcome.WRONG_STATE, now=EXPIRY)
    accepted(ledger, ledger.chain("alice").cancel(ledger, lease))
    refused(ledger, settle_of(ledger, lease), Outcome.WRONG_STATE, now=EXPIRY)


def test_twice_is_refused() -> None:
    ledger, lease = started()
    accepted(ledger, settle_of(ledger, lease), now=EXPIRY)
    refused(ledger, settle_of(ledger, lease), Outcome.WRONG_STATE, now=EXPIRY)


def test_after_a_force_settle_it_is_refused() -> None:
    ledger, lease = started()
    accepted(ledger, ledger.chain("alice").force_settle(ledger, lease), now=None)
    refused(ledger, settle_of(ledger, lease), Outcome.WRONG_STATE, now=None)


@pytest.mark.parametrize("amount", [0, 69, 71, 14, U64_MAX])
def test_a_reward_that_is_not_the_cost_is_refused(amount: int) -> None:
    ledger, lease = started()
    refused(ledger, settle_of(ledger, lease, amount=amount), Outcome.BAD_AMOUNT, now=EXPIRY)


@pytest.mark.parametrize("balance", [0, 69, 71, RICH])
def test_a_balance_that_does_not_follow_is_refused(balance: int) -> None:
    ledger, lease = started()
    refused(ledger, settle_of(ledger, lease, balance=balance), Outcome.BAD_BALANCE, now=EXPIRY)


def test_in_xusd_it_is_refused() -> None:
    ledger, lease = started()
    refused(ledger, settle_of(ledger, lease, asset=Asset.XUSD), Outcome.BAD_ASSET, now=EXPIRY)


def test_too_few_attestations_are_refused() -> None:
    ledger, lease = started()
    for words in ((), attest(lease, EXPIRY), attest(Hash(b"o" * 32), EXPIRY, EXPIRY)):
        refused(ledger, settle_of(ledger, lease, attestations=words), Outcome.BAD_ATTESTATIONS, now=EXPIRY)


def test_attestations_far_from_now_are_refused_in_live_blocks() -> None:
    ledger, lease = started()
    block = settle_of(ledger, lease)
    refused(ledger, block, Outcome.BAD_ATTESTATIONS, now=EXPIRY + 601 * NS)
    accepted(ledger, block, now=EXPIRY + 600 * NS)


def test_xe_over_u64_is_refused() -> None:
    rich = (Allocation(ALICE, Asset.XUSD, RICH), Allocation(BOB, Asset.XUSD, RICH))
    for held, outcome in ((U64_MAX - 70, None), (U64_MAX - 69, Outcome.OVERFLOW)):
        ledger, lease = started(allocations=(*rich, Allocation(BOB, Asset.XE, held)))
        block = settle_of(ledger, lease, balance=min(U64_MAX, held + 70))
        _ = refused(ledger, block, outcome, now=EXPIRY) if outcome else accepted(ledger, block, now=EXPIRY)


def test_a_returned_stake_over_u64_is_refused() -> None:
    """Bob held all of u64 before he locked his stake, and others filled it up again."""
    ledger, lease = started(allocations=(Allocation(ALICE, Asset.XUSD, 70), Allocation(BOB, Asset.XUSD, U64_MAX - 70)))
    accepted(ledger, ledger.chain("carol").claim(ledger))
    source = accepted(ledger, ledger.chain("carol").send(ledger, BOB, 71)).block_hash
    accepted(ledger, ledger.chain("bob").receive(ledger, source))
    refused(ledger, settle_of(ledger, lease), Outcome.OVERFLOW, now=EXPIRY)
    accepted(ledger, ledger.chain("bob").send(ledger, ALICE, 1))
    accepted(ledger, settle_of(ledger, lease), now=EXPIRY)
    assert ledger.accounts[BOB].xusd == U64_MAX


def test_checks_run_cheap_before_dear() -> None:
    ledger, lease = started()
    faults: dict[str, Any] = {
        "asset": Asset.XUSD,
        "source": UNKNOWN,
        "amount": 1,
        "balance": 0,
        "attestations": (),
    }
    outcomes = [
        Outcome.BAD_ASSET,
        Outcome.GAP_SOURCE,
        Outcome.BAD_AMOUNT,
        Outcome.BAD_BALANCE,
        Outcome.BAD_ATTESTATIONS,
    ]
    for name, outcome in zip(list(faults), outcomes, strict=True):
        refused(ledger, settle_of(ledger, lease, **faults), outcome, now=EXPIRY)
        del faults[name]
    accepted(ledger, settle_of(ledger, lease), now=EXPIRY)
