"""The rules of a lease_cancel (protocol section 4)."""

from typing import Any

import pytest

from tests.support.ledger import RICH, MemoryLedger, address_of
from tests.support.rules import UNKNOWN, accepted, altered, new_ledger, refused
from xnode.core.blocks import Block
from xnode.core.genesis import Allocation
from xnode.core.lease import LeaseState
from xnode.core.ledger import Bucket, Outcome
from xnode.core.values import U64_MAX, Asset, Hash

ALICE, BOB = address_of("alice"), address_of("bob")


def leased(**changes: Any) -> tuple[MemoryLedger, Hash]:
    """A ledger where Alice has leased from Bob for 7."""
    ledger = new_ledger(**changes)
    return ledger, accepted(ledger, ledger.chain("alice").lease(ledger, BOB)).block_hash


def cancel_of(ledger: MemoryLedger, lease: Hash, **changes: Any) -> Block:
    return altered(ledger, "alice", ledger.chain("alice").cancel(ledger, lease), **changes)


def test_a_cancel_returns_the_escrow() -> None:
    ledger, lease = leased()
    before = ledger.leases[lease]
    effects = accepted(ledger, cancel_of(ledger, lease))
    assert effects.account.xusd == RICH
    assert (Asset.XUSD, Bucket.ESCROW) not in ledger.totals()
    assert effects.lease == before._replace(state=LeaseState.CANCELLED, end_hash=effects.block_hash)
    assert (effects.pending_put, effects.pending_delete) == (None, None)


def test_an_unknown_lease_is_waited_for() -> None:
    ledger, lease = leased()
    assert refused(ledger, cancel_of(ledger, lease, source=UNKNOWN), Outcome.GAP_SOURCE).needs == UNKNOWN


def test_a_block_that_is_no_lease_is_refused() -> None:
    ledger, lease = leased()
    send = accepted(ledger, ledger.chain("alice").send(ledger, BOB, 7)).block_hash
    refused(ledger, cancel_of(ledger, lease, source=send), Outcome.NO_SOURCE)


@pytest.mark.parametrize("name", ["bob", "carol"])
def test_only_the_consumer_cancels(name: str) -> None:
    ledger, lease = leased()
    refused(ledger, ledger.chain(name).cancel(ledger, lease), Outcome.NOT_YOURS)


def test_twice_is_refused() -> None:
    ledger, lease = leased()
    accepted(ledger, cancel_of(ledger, lease))
    refused(ledger, cancel_of(ledger, lease), Outcome.WRONG_STATE)


def test_an_accepted_lease_is_refused_for_good() -> None:
    ledger, lease = leased()
    accepted(ledger, ledger.chain("bob").accept(ledger, lease))
    refused(ledger, cancel_of(ledger, lease), Outcome.WRONG_STATE)
    accepted(ledger, ledger.chain("bob").settle(ledger, lease), now=None)
    refused(ledger, cancel_of(ledger, lease), Outcome.WRONG_STATE)


def test_an_unfulfilled_lease_is_refused() -> None:
    ledger, lease = leased()
    accepted(ledger, ledger.chain("bob").accept(ledger, lease))
    accepted(ledger, ledger.chain("alice").force_settle(ledger, lease), now=None)
    refused(ledger, cancel_of(ledger, lease), Outcome.WRONG_STATE)


@pytest.mark.parametrize("balance", [0, RICH - 7, RICH - 1, RICH + 1])
def test_a_balance_that_does_not_follow_is_refused(balance: int) -> None:
    ledger, lease = leased()
    refused(ledger, cancel_of(ledger, lease, balance=balance), Outcome.BAD_BALANCE)


def test_in_xe_it_is_refused() -> None:
    ledger, lease = leased()
    refused(ledger, cancel_of(ledger, lease, asset=Asset.XE), Outcome.BAD_ASSET)


def test_a_balance_over_u64_is_refused() -> None:
    ledger, lease = leased(allocations=(Allocation(ALICE, Asset.XUSD, U64_MAX),))
    accepted(ledger, ledger.chain("carol").claim(ledger))
    source = accepted(ledger, ledger.chain("carol").send(ledger, ALICE, 1)).block_hash
    accepted(ledger, ledger.chain("alice").receive(ledger, source))
    refused(ledger, cancel_of(ledger, lease, balance=0), Outcome.OVERFLOW)


def test_checks_run_in_their_order() -> None:
    """Mended one by one, each next fault shows."""
    ledger, lease = leased()
    faults: dict[str, Any] = {"asset": Asset.XE, "source": UNKNOWN, "balance": 0}
    for outcome, name in zip((Outcome.BAD_ASSET, Outcome.GAP_SOURCE, Outcome.BAD_BALANCE), list(faults), strict=True):
        refused(ledger, cancel_of(ledger, lease, **faults), outcome)
        del faults[name]
    accepted(ledger, cancel_of(ledger, lease))
