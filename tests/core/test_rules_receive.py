"""The rules of a receive (protocol section 4)."""

import pytest

from tests.support.ledger import RICH, MemoryLedger, address_of
from tests.support.rules import UNKNOWN, accepted, account_of, altered, new_ledger, refused
from xnode.core.genesis import Allocation
from xnode.core.ledger import Outcome
from xnode.core.values import U64_MAX, Asset, Hash

ALICE, BOB, CAROL = address_of("alice"), address_of("bob"), address_of("carol")


def with_pending(amount: int = 5) -> tuple[MemoryLedger, Hash]:
    ledger = new_ledger()
    return ledger, accepted(ledger, ledger.chain("alice").send(ledger, CAROL, amount)).block_hash


@pytest.mark.parametrize("amount", [1, RICH])
def test_a_receive_takes_the_pending_entry(amount: int) -> None:
    ledger, source = with_pending(amount)
    entry = ledger.pendings[CAROL, source]
    effects = accepted(ledger, ledger.chain("carol").receive(ledger, source))
    assert (effects.pending_put, effects.pending_delete, effects.lease) == (None, entry, None)
    assert effects.account.xusd == amount
    assert not ledger.pendings


def test_xe_is_received_beside_xusd() -> None:
    ledger = new_ledger(allocations=(Allocation(ALICE, Asset.XUSD, 5), Allocation(ALICE, Asset.XE, 9)))
    source = accepted(ledger, ledger.chain("alice").send(ledger, CAROL, 4, Asset.XE)).block_hash
    accepted(ledger, ledger.chain("carol").claim(ledger))
    accepted(ledger, ledger.chain("carol").receive(ledger, source))
    assert (account_of(ledger, "carol").xusd, account_of(ledger, "carol").xe) == (100, 4)


def test_entries_are_taken_in_any_order() -> None:
    ledger, first = with_pending(5)
    second = accepted(ledger, ledger.chain("bob").send(ledger, CAROL, 7)).block_hash
    accepted(ledger, ledger.chain("carol").receive(ledger, second))
    accepted(ledger, ledger.chain("carol").receive(ledger, first))
    assert account_of(ledger, "carol").xusd == 12


def test_an_unknown_source_is_waited_for() -> None:
    ledger = new_ledger()
    assert refused(ledger, ledger.chain("carol").receive(ledger, UNKNOWN), Outcome.GAP_SOURCE).needs == UNKNOWN


def test_a_receive_before_its_send_is_good_after_it() -> None:
    ledger, source = with_pending(1)
    early = new_ledger()
    receive = early.chain("carol").receive(early, source)
    refused(early, receive, Outcome.GAP_SOURCE)
    accepted(early, ledger.blocks[source])
    accepted(early, receive)


def test_twice_is_refused() -> None:
    ledger, source = with_pending()
    accepted(ledger, ledger.chain("carol").receive(ledger, source))
    refused(ledger, ledger.chain("carol").receive(ledger, source), Outcome.NO_SOURCE)


def test_what_was_sent_to_another_is_refused() -> None:
    ledger, source = with_pending()
    refused(ledger, ledger.chain("bob").receive(ledger, source), Outcome.NO_SOURCE)


def test_a_block_that_is_no_send_is_refused() -> None:
    ledger = new_ledger()
    claim = accepted(ledger, ledger.chain("carol").claim(ledger)).block_hash
    lease = accepted(ledger, ledger.chain("alice").lease(ledger, CAROL)).block_hash
    for source in (claim, lease):
        refused(ledger, ledger.chain("carol").receive(ledger, source), Outcome.NO_SOURCE)


def test_the_other_asset_is_refused() -> None:
    ledger, source = with_pending()
    receive = ledger.chain("carol").receive(ledger, source)
    refused(ledger, altered(ledger, "carol", receive, asset=Asset.XE), Outcome.BAD_ASSET)


@pytest.mark.parametrize("balance", [0, 4, 6, U64_MAX])
def test_a_balance_that_does_not_follow_is_refused(balance: int) -> None:
    ledger, source = with_pending(5)
    refused(ledger, ledger.chain("carol").receive(ledger, source, balance=balance), Outcome.BAD_BALANCE)


def test_a_balance_over_u64_is_refused() -> None:
    ledger = new_ledger(allocations=(Allocation(ALICE, Asset.XUSD, U64_MAX),))
    accepted(ledger, ledger.chain("carol").claim(ledger))
    source = accepted(ledger, ledger.chain("carol").send(ledger, ALICE, 1)).block_hash
    refused(ledger, ledger.chain("alice").receive(ledger, source, balance=0), Outcome.OVERFLOW)
    accepted(ledger, ledger.chain("alice").send(ledger, BOB, 1))
    accepted(ledger, ledger.chain("alice").receive(ledger, source))
    assert account_of(ledger, "alice").xusd == U64_MAX


def test_checks_run_in_their_order() -> None:
    """The source before its asset, that before the balance."""
    ledger, source = with_pending()
    good = ledger.chain("carol").receive(ledger, source)
    wrong = {"source": UNKNOWN, "asset": Asset.XE, "balance": 0}
    for outcome, name in zip((Outcome.GAP_SOURCE, Outcome.BAD_ASSET, Outcome.BAD_BALANCE), list(wrong), strict=True):
        refused(ledger, altered(ledger, "carol", good, **wrong), outcome)
        del wrong[name]
    accepted(ledger, good)
