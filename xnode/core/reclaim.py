"""What a consumer does about a lease that its provider does not settle: (lease, time) -> one action (section 4).

Theory of operation. A provider that neither settles nor comes back keeps the consumer's money in escrow: nothing on the
ledger ends a lease by itself. From expiry, settle grace and gap on the consumer may end it with lease_force_settle,
whose attestations prove that time. Level-triggered: each accepted lease of one's own is put to `next_claim` every few
seconds, so a restart in the middle of anything leads to the same next step. A try that fails is repeated ever more
rarely, and never given up: the money is still there.

    lease        time                                    action
    accepted     before expiry + grace + gap             WAIT
    accepted     later, acceptance not confirmed         WAIT; it may still be taken back
    accepted     later, a try has failed just now        WAIT
    accepted     later                                   CLAIM
    unfulfilled  end not confirmed                       WAIT; a settlement may still win
    unfulfilled  end confirmed                           TELL
    another      any                                     DROP; it has ended otherwise
"""

from enum import StrEnum
from typing import Final, NamedTuple

from xnode.core.genesis import Timing
from xnode.core.lease import LeaseRecord, LeaseState
from xnode.core.values import NS

RETRY_FIRST: Final = 30 * NS  # a timekeeper signs once in 30 s for one requester
RETRY_MAX: Final = 3600 * NS


class Claim(StrEnum):
    """One step for one lease."""

    WAIT = "wait"
    CLAIM = "claim"
    TELL = "tell"
    DROP = "drop"


class Tries(NamedTuple):
    """The failures so far, when the last one was, and the time before which there is no other try (ns)."""

    failures: int = 0
    failed_at: int = 0
    next_at: int = 0

    def may_try(self, now: int) -> bool:
        """Also where the clock has been set back to before the last failure: the wait was of a clock that was wrong."""
        return now >= self.next_at or now < self.failed_at


def claimable_from(lease: LeaseRecord, timing: Timing) -> int:
    """ns of attested time from which the consumer of an accepted lease may end it."""
    return lease.expiry + (timing.settle_grace + timing.force_settle_gap) * NS


def next_claim(lease: LeaseRecord, timing: Timing, now: int, tries: Tries, *, is_confirmed: bool) -> Claim:
    """The next step; `is_confirmed` is said of the block that brought the lease into its state."""
    if lease.state is LeaseState.ACCEPTED:
        is_due = now >= claimable_from(lease, timing) and tries.may_try(now)
        return Claim.CLAIM if is_due and is_confirmed else Claim.WAIT
    if lease.state is LeaseState.UNFULFILLED:
        return Claim.TELL if is_confirmed else Claim.WAIT
    return Claim.DROP


def after_failure(tries: Tries, now: int) -> Tries:
    """The next try is twice as far away as the last one was, and never further than RETRY_MAX."""
    pause = min(RETRY_FIRST << min(tries.failures, 32), RETRY_MAX)
    return Tries(tries.failures + 1, now, now + pause)
