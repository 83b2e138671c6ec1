"""The rules of a lease_force_settle (protocol sections 4 and 7)."""

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
FIRST = NOW + (DAY + 3600 + 1500) * NS  # expiry, grace and gap


def started(**changes: Any) -> tuple[MemoryLedger, Hash]:
    """A ledger where Bob has accepted Alice's lease of 70 (stake 14) at NOW."""
    ledger = new_ledger(**changes)
    lease = accepted(ledger, ledger.chain("alice").lease(ledger, BOB, multiplier_milli=10_000)).block_hash
    accepted(ledger, ledger.chain("bob").accept(ledger, lease))
    return ledger, lease


def force_of(ledger: MemoryLedger, lease: Hash, at: int = FIRST, **changes: Any) -> Block:
    force = ledger.chain("alice").force_settle(ledger, lease, at, timestamp=at)
    return altered(ledger, "alice", force, **changes)


def test_a_force_settle_returns_the_escrow_and_forfeits_the_stake() -> None:
    ledger, lease = started()
    before = ledger.leases[lease]
    effects = accepted(ledger, force_of(ledger, lease), now=FIRST)
    assert effects.account.xusd == RICH
    assert ledger.accounts[BOB].xusd == RICH - 14
    totals = ledger.totals()
    assert totals[Asset.XUSD, Bucket.FORFEITED] == 14
    assert not {(Asset.XUSD, Bucket.ESCROW), (Asset.XUSD, Bucket.STAKE), (Asset.XE, Bucket.MINTED)} & set(totals)
    assert effects.lease == before._replace(state=LeaseState.UNFULFILLED, end_hash=effects.block_hash)
    assert (effects.pending_put, effects.pending_delete) == (None, None)


@pytest.mark.parametrize("at", [FIRST, FIRST + 1, FIRST * 2])
def test_after_expiry_grace_and_gap(at: int) -> None:
    ledger, lease = started()
    accepted(ledger, force_of(ledger, lease, at), now=at)


@pytest.mark.parametrize("at", [0, NOW, NOW + DAY * NS, NOW + (DAY + 3600) * NS, FIRST - 1])
def test_too_early_is_refused(at: int) -> None:
    ledger, lease = started()
    refused(ledger, force_of(ledger, lease, at), Outcome.BAD_TIME, now=at)
    refused(ledger, force_of(ledger, lease, at), Outcome.BAD_TIME, now=None)


def test_no_honest_clocks_allow_both_ends_at_once() -> None:
    """The gap exceeds twice the skew: what is attested for a settle is never attested for a force-settle."""
    ledger, lease = started()
    skew = ledger.genesis.timing.attestation_skew * NS
    last_settle = NOW + (DAY + 3600) * NS
    accepted(
        ledger, ledger.chain("bob").settle(ledger, lease, last_settle, timestamp=last_settle), now=last_settle + skew
    )
    ledger, lease = started()
    refused(ledger, force_of(ledger, lease, last_settle + 2 * skew), Outcome.BAD_TIME, now=last_settle + skew)


def test_an_unknown_lease_is_waited_for() -> None:
    ledger, lease = started()
    block = force_of(ledger, lease, source=UNKNOWN)
    assert refused(ledger, block, Outcome.GAP_SOURCE, now=FIRST).needs == UNKNOWN


def test_a_block_that_is_no_lease_is_refused() -> None:
    ledger, lease = started()
    block = force_of(ledger, lease, source=ledger.leases[lease].accept_hash)
    refused(ledger, block, Outcome.NO_SOURCE, now=FIRST)


@pytest.mark.parametrize("name", ["bob", "carol"])
def test_only_the_consumer_force_settles(name: str) -> None:
    ledger, lease = started()
    refused(ledger, ledger.chain(name).force_settle(ledger, lease), Outcome.NOT_YOURS, now=FIRST)


def test_a_lease_that_is_not_accepted_is_refused() -> None:
    ledger = new_ledger()
    lease = accepted(ledger, ledger.chain("alice").lease(ledger, BOB)).block_hash
    refused(ledger, force_of(ledger, lease), Outcome.WRONG_STATE, now=FIRST)
    accepted(ledger, ledger.chain("alice").cancel(ledger, lease))
    refused(ledger, force_of(ledger, lease), Outcome.WRONG_STATE, now=FIRST)


def test_a_settled_lease_is_refused() -> None:
    ledger, lease = started()
    accepted(ledger, ledger.chain("bob").settle(ledger, lease), now=None)
    refused(ledger, force_of(ledger, lease), Outcome.WRONG_STATE, now=FIRST)


def test_twice_is_refused() -> None:
    ledger, lease = started()
    accepted(ledger, force_of(ledger, lease), now=FIRST)
    refused(ledger, force_of(ledger, lease), Outcome.WRONG_STATE, now=FIRST)


@pytest.mark.parametrize("balance", [0, RICH - 70, RICH - 1, RICH + 14])
def test_a_balance_that_does_not_follow_is_refused(balance: int) -> None:
    ledger, lease = started()
    refused(ledger, force_of(ledger, lease, balance=balance), Outcome.BAD_BALANCE, now=FIRST)


def test_in_xe_it_is_refused() -> None:
    ledger, lease = started()
    refused(ledger, force_of(ledger, lease, asset=Asset.XE), Outcome.BAD_ASSET, now=FIRST)


def test_too_few_attestations_are_refused() -> None:
    ledger, lease = started()
    for words in ((), attest(lease, FIRST), attest(Hash(b"o" * 32), FIRST, FIRST)):
        refused(ledger, force_of(ledger, lease, attestations=words), Outcome.BAD_ATTESTATIONS, now=FIRST)


def test_attestations_far_from_now_are_refused_in_live_blocks() -> None:
    ledger, lease = started()
    refused(ledger, force_of(ledger, lease), Outcome.BAD_ATTESTATIONS, now=FIRST - 601 * NS)
    accepted(ledger, force_of(ledger, lease), now=FIRST - 600 * NS)


def test_a_balance_over_u64_is_refused() -> None:
    ledger, lease = started(allocations=(Allocation(ALICE, Asset.XUSD, U64_MAX - 100), Allocation(BOB, Asset.XUSD, 99)))
    accepted(ledger, ledger.chain("alice").claim(ledger))
    source = accepted(ledger, ledger.chain("bob").send(ledger, ALICE, 1)).block_hash
    accepted(ledger, ledger.chain("alice").receive(ledger, source))
    refused(ledger, force_of(ledger, lease, balance=0), Outcome.OVERFLOW, now=FIRST)


def test_checks_run_cheap_before_dear() -> None:
    ledger, lease = started()
    faults: dict[str, Any] = {"asset": Asset.XE, "source": UNKNOWN, "balance": 0, "attestations": ()}
    outcomes = [Outcome.BAD_ASSET, Outcome.GAP_SOURCE, Outcome.BAD_BALANCE, Outcome.BAD_ATTESTATIONS]
    for name, outcome in zip(list(faults), outcomes, strict=True):
        refused(ledger, force_of(ledger, lease, **faults), outcome, now=FIRST)
        del faults[name]
    accepted(ledger, force_of(ledger, lease), now=FIRST)


def test_before_the_accept_has_come_it_is_refused_and_good_afterwards() -> None:
    """The accept is on another chain, so a node may see them in this order; sync offers the refused one again."""
    ledger, lease = started()
    late = new_ledger()
    accepted(late, ledger.blocks[lease])
    block = force_of(ledger, lease)
    refused(late, block, Outcome.WRONG_STATE, now=FIRST)
    accepted(late, ledger.blocks[ledger.leases[lease].accept_hash], now=None)
    accepted(late, block, now=FIRST)
