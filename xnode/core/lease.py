"""A lease's life: its record, its transition table, and the proof that it has ended (protocol section 4).

Theory of operation. One table says which block moves a lease from which state to which. Everything else asks
the table: the ledger before it accepts a block, the provider before it boots or destroys. The last three states are
final. A machine may be destroyed only by somebody who holds an `EndProof`, and only this module makes one.
"""

from enum import StrEnum
from typing import Final, NamedTuple

from xnode.core.faults import WrongState
from xnode.core.values import NS, Address, Hash, PublicKey


class LeaseState(StrEnum):
    """The states of a lease, as the API shows them."""

    CREATED = "created"
    ACCEPTED = "accepted"
    SETTLED = "settled"
    CANCELLED = "cancelled"
    UNFULFILLED = "unfulfilled"


class LeaseEvent(StrEnum):
    """What moves a lease: one block type each."""

    ACCEPT = "lease_accept"
    SETTLE = "lease_settle"
    CANCEL = "lease_cancel"
    FORCE_SETTLE = "lease_force_settle"


TRANSITIONS: Final = {
    (LeaseState.CREATED, LeaseEvent.ACCEPT): LeaseState.ACCEPTED,
    (LeaseState.CREATED, LeaseEvent.CANCEL): LeaseState.CANCELLED,
    (LeaseState.ACCEPTED, LeaseEvent.SETTLE): LeaseState.SETTLED,
    (LeaseState.ACCEPTED, LeaseEvent.FORCE_SETTLE): LeaseState.UNFULFILLED,
}
FINAL: Final = frozenset({LeaseState.SETTLED, LeaseState.CANCELLED, LeaseState.UNFULFILLED})


class Resources(NamedTuple):
    """What is leased: virtual CPUs, memory in MiB, disk in GiB."""

    vcpus: int
    memory_mb: int
    disk_gb: int


class LeaseRecord(NamedTuple):
    """A lease as the ledger knows it. `start_time` and `created_at` in ns (start 0 until accepted), `duration` in s."""

    lease_hash: Hash
    consumer: Address
    provider: Address
    resources: Resources
    duration: int
    access_pub_key: PublicKey
    cost: int
    stake: int
    multiplier_milli: int
    certificate_hash: Hash
    created_at: int
    state: LeaseState
    start_time: int
    host_key: PublicKey  # zeros until accepted
    accept_hash: Hash  # zeros until accepted
    end_hash: Hash  # the block that ended it; zeros before

    @property
    def expiry(self) -> int:
        """ns; meaningful once accepted (section 4)."""
        return self.start_time + self.duration * NS

    @property
    def is_final(self) -> bool:
        """Whether nothing can move this lease any more."""
        return self.state in FINAL

    @property
    def moved_by(self) -> Hash:
        """The block that brought the lease into its state."""
        if self.is_final:
            return self.end_hash
        return self.lease_hash if self.state is LeaseState.CREATED else self.accept_hash


def next_state(state: LeaseState, event: LeaseEvent) -> LeaseState | None:
    """The state after `event`, or None where the table forbids it."""
    return TRANSITIONS.get((state, event))


class EndProof(NamedTuple):
    """Evidence that a lease is over. Only `prove_ended` and `prove_expired` may make one."""

    lease_hash: Hash
    evidence: Hash  # the block that ended the lease, or its accept block where it merely expired
    reason: str  # settled, cancelled, unfulfilled or expired


def prove_ended(lease: LeaseRecord, is_confirmed: bool) -> EndProof:
    """The proof that the ledger holds the end of this lease for good: `is_confirmed` is said of what ended it.

    Raises WrongState: lease_live, end_unconfirmed (the block may still lose to a rival).
    """
    if not lease.is_final:
        raise WrongState("lease_live", f"lease {lease.lease_hash.hex()} is {lease.state}, so its machine must stay")
    if not is_confirmed:
        message = f"the end of lease {lease.lease_hash.hex()} is not confirmed, so its machine must stay"
        raise WrongState("end_unconfirmed", message)
    return EndProof(lease.lease_hash, lease.end_hash, str(lease.state))


def prove_expired(lease: LeaseRecord, attested_time: int, settle_grace: int) -> EndProof:
    """The proof that settling is no longer possible: attested time (ns) past expiry + grace (s). Raises WrongState."""
    if lease.state is not LeaseState.ACCEPTED or attested_time <= lease.expiry + settle_grace * NS:
        raise WrongState("lease_live", f"lease {lease.lease_hash.hex()} is within its time, so its machine must stay")
    return EndProof(lease.lease_hash, lease.accept_hash, "expired")
