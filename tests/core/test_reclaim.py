"""When a consumer takes its money back from a provider that never settled: the table of core.reclaim, row by row."""

import pytest

from tests.support.ledger import NOW, MemoryLedger, address_of, make_genesis
from xnode.core.lease import LeaseRecord, LeaseState
from xnode.core.reclaim import RETRY_FIRST, RETRY_MAX, Claim, Tries, after_failure, claimable_from, next_claim
from xnode.core.values import NS

TIMING = make_genesis().timing


def accepted_lease() -> LeaseRecord:
    ledger = MemoryLedger(make_genesis())
    lease = ledger.play(ledger.chain("alice").lease(ledger, address_of("bob")))
    ledger.play(ledger.chain("bob").accept(ledger, lease))
    return ledger.leases[lease]


LEASE = accepted_lease()
FIRST = claimable_from(LEASE, TIMING)


def claim(lease: LeaseRecord = LEASE, now: int = FIRST, tries: Tries = Tries(), *, is_confirmed: bool = True) -> Claim:  # noqa: B008
    return next_claim(lease, TIMING, now, tries, is_confirmed=is_confirmed)


def test_the_first_time_is_expiry_and_grace_and_gap() -> None:
    assert LEASE.expiry + (3600 + 1500) * NS == FIRST


@pytest.mark.parametrize(("now", "expected"), [(NOW, Claim.WAIT), (FIRST - 1, Claim.WAIT), (FIRST, Claim.CLAIM)])
def test_an_accepted_lease_waits_for_its_time(now: int, expected: Claim) -> None:
    assert claim(now=now) is expected


def test_an_acceptance_that_is_not_confirmed_is_waited_for() -> None:
    assert claim(is_confirmed=False) is Claim.WAIT


def test_after_a_failure_it_waits() -> None:
    tries = after_failure(Tries(), FIRST)
    assert claim(now=tries.next_at - 1, tries=tries) is Claim.WAIT
    assert claim(now=tries.next_at, tries=tries) is Claim.CLAIM


def test_a_clock_that_was_set_back_holds_up_no_try() -> None:
    """A failure of an hour ahead must not mean an hour's wait."""
    tries = after_failure(Tries(), FIRST + 3600 * NS)
    assert claim(now=FIRST + 3600 * NS, tries=tries) is Claim.WAIT
    assert claim(now=FIRST, tries=tries) is Claim.CLAIM
    assert claim(now=FIRST - 1, tries=tries) is Claim.WAIT


def test_failures_are_ever_rarer_and_never_end() -> None:
    tries, pauses = Tries(), []
    for _ in range(100):
        tries = after_failure(tries, FIRST)
        pauses.append(tries.next_at - FIRST)
    assert pauses[:3] == [RETRY_FIRST, 2 * RETRY_FIRST, 4 * RETRY_FIRST]
    assert pauses == sorted(pauses)
    assert pauses[-1] == RETRY_MAX


def test_the_consumer_is_told_once_nothing_can_take_it_back() -> None:
    ended = LEASE._replace(state=LeaseState.UNFULFILLED)
    assert claim(ended, is_confirmed=False) is Claim.WAIT
    assert claim(ended) is Claim.TELL


@pytest.mark.parametrize("state", [LeaseState.CREATED, LeaseState.SETTLED, LeaseState.CANCELLED])
@pytest.mark.parametrize("is_confirmed", [True, False])
def test_what_ended_otherwise_is_dropped(state: LeaseState, is_confirmed: bool) -> None:
    assert claim(LEASE._replace(state=state), is_confirmed=is_confirmed) is Claim.DROP
