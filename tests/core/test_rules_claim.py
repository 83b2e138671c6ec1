"""The rules of a claim (protocol section 4, the faucet of section 1)."""

import pytest

from tests.support.ledger import DAY, NOW, RICH, address_of
from tests.support.rules import accepted, account_of, altered, new_ledger, refused
from xnode.core.genesis import Allocation, Faucet
from xnode.core.ledger import Bucket, Outcome
from xnode.core.values import NS, U64_MAX, Asset

ALICE = address_of("alice")


def test_a_claim_mints_test_money() -> None:
    ledger = new_ledger()
    effects = accepted(ledger, ledger.chain("carol").claim(ledger))
    assert (effects.account.xusd, effects.account.last_claim) == (100, NOW)
    assert ledger.totals()[Asset.XUSD, Bucket.CLAIMED] == 100


def test_the_amount_is_the_networks() -> None:
    ledger = new_ledger(faucet=Faucet(True, 7, 60))
    accepted(ledger, ledger.chain("alice").claim(ledger))
    assert account_of(ledger, "alice").xusd == RICH + 7


def test_without_a_faucet_it_is_refused() -> None:
    ledger = new_ledger(faucet=Faucet(False, 100, DAY))
    refused(ledger, ledger.chain("carol").claim(ledger), Outcome.FAUCET_OFF)


def test_one_claim_in_an_interval() -> None:
    ledger = new_ledger()
    carol = ledger.chain("carol")
    accepted(ledger, carol.claim(ledger))
    for timestamp in (NOW, NOW - 1, NOW + 1, NOW + DAY * NS - 1):
        refused(ledger, carol.claim(ledger, timestamp=timestamp), Outcome.FAUCET_WAIT, now=None)
    accepted(ledger, carol.claim(ledger, timestamp=NOW + DAY * NS), now=None)
    refused(ledger, carol.claim(ledger, timestamp=NOW + DAY * NS + 1), Outcome.FAUCET_WAIT, now=None)
    assert account_of(ledger, "carol").xusd == 200


def test_other_blocks_between_do_not_shorten_the_wait() -> None:
    ledger = new_ledger()
    carol = ledger.chain("carol")
    accepted(ledger, carol.claim(ledger))
    accepted(ledger, carol.send(ledger, ALICE, 100))
    refused(ledger, carol.claim(ledger, timestamp=NOW + 1), Outcome.FAUCET_WAIT)


def test_each_account_has_its_own_interval() -> None:
    ledger = new_ledger()
    accepted(ledger, ledger.chain("carol").claim(ledger))
    accepted(ledger, ledger.chain("dave").claim(ledger))


def test_a_claim_at_time_zero_is_refused() -> None:
    """Zero stands for "never claimed": such claims could be repeated without end."""
    ledger = new_ledger()
    refused(ledger, ledger.chain("carol").claim(ledger, timestamp=0), Outcome.BAD_TIMESTAMP, now=None)
    accepted(ledger, ledger.chain("carol").claim(ledger, timestamp=1), now=None)
    refused(ledger, ledger.chain("carol").claim(ledger, timestamp=2), Outcome.FAUCET_WAIT, now=None)


def test_in_xe_it_is_refused() -> None:
    ledger = new_ledger()
    refused(ledger, altered(ledger, "carol", ledger.chain("carol").claim(ledger), asset=Asset.XE), Outcome.BAD_ASSET)


@pytest.mark.parametrize("balance", [0, 99, 101, U64_MAX])
def test_a_balance_that_does_not_follow_is_refused(balance: int) -> None:
    ledger = new_ledger()
    refused(ledger, ledger.chain("carol").claim(ledger, balance=balance), Outcome.BAD_BALANCE)


def test_a_balance_over_u64_is_refused() -> None:
    ledger = new_ledger(allocations=(Allocation(ALICE, Asset.XUSD, U64_MAX),))
    refused(ledger, ledger.chain("alice").claim(ledger, balance=0), Outcome.OVERFLOW)


def test_a_faucet_that_is_off_is_told_before_anything_else_of_the_claim() -> None:
    ledger = new_ledger(faucet=Faucet(False, 100, DAY))
    refused(ledger, ledger.chain("carol").claim(ledger, balance=0, timestamp=0), Outcome.FAUCET_OFF, now=None)
