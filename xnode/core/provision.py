"""What a provider does next about one lease: (lease, machine, time) -> one action (protocol section 12).

Theory of operation. The provider is level-triggered: every few seconds, and whenever the ledger changes, each lease of
its own and each machine on its host are put to `next_action`. The answer depends on nothing but what is true now, so a
restart in the middle of anything leads to the same next step. In order: a machine is booted for a confirmed lease, the
lease is accepted once the machine answers, settled at its expiry, and the machine destroyed when the ledger has the
end.

An acceptance and a cancellation stand on two chains, so nothing in the ledger orders them: were both published, the
network's votes would decide, and somebody's work be lost. So a consumer asks its provider to withdraw before it
cancels, and where it gets no answer it waits until the provider has to have given up (CANCEL_AFTER). And an end counts
only once it is confirmed: one that is not may still lose to a rival, and its machine would have been destroyed for
nothing.

    lease        machine             action
    created      none                BOOT, if there is room, else DECLINE; too old: nothing
    created      provisioning        BOOT (goes on where it stood)
    created      running             ACCEPT
    created      up, but withdrawn or too old: STOP; its consumer is about to cancel, and then it is destroyed
    created      failed, stopped     BOOT unless a boot has failed before: the consumer is told and goes elsewhere
    accepted     running, in time    nothing
    accepted     up or booting, but switched off by its consumer (power.py): POWER_OFF
    accepted     stopped, failed     switched off: nothing, whatever made it fall; else BOOT while in time, as often as
                                     strikes.py allows
    accepted     none                nothing: a lease whose machine is lost is not settled; past the settle grace it
                                     holds no capacity any more, though its consumer may never end it
    accepted     any, expired        SETTLE, unless the host could not boot it: nobody shall pay for that; past the
                                     settle grace EXPIRE, which destroys on attested time
    final        any                 DESTROY, once the end is confirmed
    unknown      any, in the grace   STOP it; report it
    unknown      any, grace over     REMOVE it (orphan.py says when that is)
"""

from enum import StrEnum
from typing import Final, NamedTuple

from xnode.core.lease import LeaseRecord, LeaseState
from xnode.core.machine import Machine, MachineStatus
from xnode.core.strikes import Strikes
from xnode.core.values import NS

ACCEPT_WITHIN: Final = 600 * NS  # a created lease older than this is neither booted nor accepted any more
CANCEL_AFTER: Final = ACCEPT_WITHIN + 120 * NS  # from then on its consumer may cancel without asking: clocks differ
DOWN: Final = frozenset({MachineStatus.STOPPED, MachineStatus.FAILED})


class Action(StrEnum):
    """One step for one lease."""

    NOTHING = "nothing"
    BOOT = "boot"
    DECLINE = "decline"
    ACCEPT = "accept"
    SETTLE = "settle"
    EXPIRE = "expire"
    DESTROY = "destroy"
    STOP = "stop"
    REMOVE = "remove"
    POWER_OFF = "power_off"


class Situation(NamedTuple):
    """All that the next step depends on; `now` in ns, `settle_grace` in s. `is_confirmed` is said of the block that
    brought the lease into its state."""

    lease: LeaseRecord | None
    machine: Machine | None
    now: int
    settle_grace: int
    is_confirmed: bool
    has_room: bool
    strikes: Strikes
    is_withdrawn: bool
    is_orphaned: bool  # its lease has been unknown for longer than the grace
    is_off: bool = False  # its consumer has switched it off


def next_action(situation: Situation) -> Action:
    """The one thing to do now."""
    lease, machine = situation.lease, situation.machine
    if lease is None:
        if situation.is_orphaned and machine is not None:
            return Action.REMOVE
        return Action.STOP if machine is not None and machine.status not in DOWN else Action.NOTHING
    if lease.is_final:
        return Action.DESTROY if machine is not None and situation.is_confirmed else Action.NOTHING
    if lease.state is LeaseState.CREATED:
        return _before_acceptance(lease, situation)
    return _while_accepted(lease, situation)


def is_too_old(lease: LeaseRecord, now: int) -> bool:
    """Whether a created lease must not be accepted any more: its consumer may cancel it soon."""
    return now - lease.created_at > ACCEPT_WITHIN


def is_written_off(lease: LeaseRecord, machine: Machine | None, now: int, settle_grace: int) -> bool:
    """Whether an accepted lease can neither be served nor settled any more: nothing of it is here. `now` in ns."""
    is_late = now >= lease.expiry + settle_grace * NS
    return lease.state is LeaseState.ACCEPTED and machine is None and is_late


def _before_acceptance(lease: LeaseRecord, situation: Situation) -> Action:
    machine = situation.machine
    if not situation.is_confirmed:
        return Action.NOTHING
    if situation.is_withdrawn or is_too_old(lease, situation.now):
        return Action.STOP if machine is not None and machine.status not in DOWN else Action.NOTHING
    if machine is not None and machine.status is MachineStatus.RUNNING:
        return Action.ACCEPT
    if situation.strikes.boots > 0:
        return Action.NOTHING
    if machine is None and not situation.has_room:
        return Action.DECLINE
    return Action.BOOT


def _while_accepted(lease: LeaseRecord, situation: Situation) -> Action:
    machine = situation.machine
    if machine is None:
        return Action.NOTHING
    if situation.now >= lease.expiry + situation.settle_grace * NS:
        return Action.EXPIRE
    if situation.now >= lease.expiry:
        return Action.NOTHING if situation.strikes.is_unpaid else Action.SETTLE
    if situation.is_off:
        return Action.NOTHING if machine.status in DOWN else Action.POWER_OFF
    if machine.status in (MachineStatus.RUNNING, MachineStatus.PAUSED):
        return Action.NOTHING
    return Action.BOOT if situation.strikes.may_restart else Action.NOTHING
