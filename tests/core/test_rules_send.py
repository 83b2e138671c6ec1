"""The rules of a send (protocol section 4)."""

import pytest

from tests.support.ledger import RICH, address_of
from tests.support.rules import accepted, account_of, new_ledger, refused
from xnode.core.blocks import Send
from xnode.core.genesis import Allocation
from xnode.core.ledger import Outcome, Pending
from xnode.core.values import U64_MAX, Address, Asset

ALICE, BOB = address_of("alice"), address_of("bob")


@pytest.mark.parametrize("amount", [1, 2, RICH])
def test_a_send_makes_a_pending_entry(amount: int) -> None:
    ledger = new_ledger()
    effects = accepted(ledger, ledger.chain("alice").send(ledger, BOB, amount))
    entry = Pending(effects.block_hash, ALICE, BOB, Asset.XUSD, amount)
    assert (effects.pending_put, effects.pending_delete, effects.lease) == (entry, None, None)
    assert effects.account.xusd == RICH - amount
    assert account_of(ledger, "bob").xusd == RICH


def test_xe_is_sent_as_well() -> None:
    ledger = new_ledger(allocations=(Allocation(ALICE, Asset.XUSD, 5), Allocation(ALICE, Asset.XE, 9)))
    effects = accepted(ledger, ledger.chain("alice").send(ledger, BOB, 4, Asset.XE))
    assert (effects.account.xusd, effects.account.xe) == (5, 5)
    assert effects.pending_put is not None
    assert effects.pending_put.asset is Asset.XE


def test_anybody_may_be_sent_to() -> None:
    """A multisig account is the hash of its keyset, so a destination need not be a point."""
    ledger = new_ledger()
    accepted(ledger, ledger.chain("alice").send(ledger, Address(b"\xff" * 32), 1))


def test_zero_is_refused() -> None:
    ledger = new_ledger()
    refused(ledger, ledger.chain("alice").send(ledger, BOB, 0), Outcome.BAD_AMOUNT)


def test_to_oneself_is_refused() -> None:
    ledger = new_ledger()
    refused(ledger, ledger.chain("alice").send(ledger, ALICE, 1), Outcome.BAD_DESTINATION)


@pytest.mark.parametrize("amount", [RICH + 1, U64_MAX])
def test_more_than_there_is_is_refused(amount: int) -> None:
    ledger = new_ledger()
    refused(ledger, ledger.chain("alice").send(ledger, BOB, amount), Outcome.INSUFFICIENT)


def test_the_other_asset_does_not_pay() -> None:
    ledger = new_ledger()
    refused(ledger, ledger.chain("alice").send(ledger, BOB, 1, Asset.XE), Outcome.INSUFFICIENT)


def test_an_empty_account_can_not_send() -> None:
    ledger = new_ledger()
    refused(ledger, ledger.chain("carol").send(ledger, BOB, 1), Outcome.INSUFFICIENT)


@pytest.mark.parametrize("balance", [0, RICH, RICH - 2, RICH + 1, U64_MAX])
def test_a_balance_that_does_not_follow_is_refused(balance: int) -> None:
    ledger = new_ledger()
    refused(ledger, ledger.chain("alice").send(ledger, BOB, 1, balance=balance), Outcome.BAD_BALANCE)


def test_the_amount_is_checked_before_the_destination_and_the_balance() -> None:
    ledger = new_ledger()
    refused(ledger, ledger.chain("alice").send(ledger, ALICE, 0, balance=7), Outcome.BAD_AMOUNT)
    refused(ledger, ledger.chain("alice").send(ledger, ALICE, 1, balance=7), Outcome.BAD_DESTINATION)


def test_the_same_send_twice_is_two_sends() -> None:
    ledger = new_ledger()
    first = accepted(ledger, ledger.chain("alice").send(ledger, BOB, 1))
    second = accepted(ledger, ledger.chain("alice").send(ledger, BOB, 1))
    assert first.block.body == second.block.body == Send(BOB, 1)
    assert len(ledger.pendings) == 2
