"""The provider's decision table (protocol section 12): every row, and what no row may ever do."""

import itertools
from typing import Any

import pytest

from tests.support.ledger import NOW, address_of, public_key_of
from xnode.core.lease import LeaseRecord, LeaseState, Resources
from xnode.core.machine import Machine, MachineSpec, MachineStatus, machine_name
from xnode.core.provision import ACCEPT_WITHIN, Action, Situation, is_written_off, next_action
from xnode.core.strikes import BOOTS_MAX, NONE, RESTARTS_MAX, Strikes
from xnode.core.values import NS, ZERO_HASH, Hash

LEASE = LeaseRecord(
    lease_hash=Hash(b"l" * 32),
    consumer=address_of("alice"),
    provider=address_of("bob"),
    resources=Resources(1, 512, 5),
    duration=3600,
    access_pub_key=public_key_of("alice-access"),
    cost=10,
    stake=2,
    multiplier_milli=1000,
    certificate_hash=ZERO_HASH,
    created_at=NOW,
    state=LeaseState.CREATED,
    start_time=NOW,
    host_key=public_key_of("host-key"),
    accept_hash=ZERO_HASH,
    end_hash=ZERO_HASH,
)
SPEC = MachineSpec(LEASE.lease_hash, 1, 512, 5, LEASE.access_pub_key, "")
GRACE = 3600
EXPIRY = LEASE.expiry
LAST = EXPIRY + GRACE * NS
STATUSES: tuple[MachineStatus | None, ...] = (None, *MachineStatus)
UP = (MachineStatus.RUNNING, MachineStatus.PAUSED)
DOWN = (MachineStatus.STOPPED, MachineStatus.FAILED)
STRIKES = (NONE, Strikes(1), Strikes(BOOTS_MAX), Strikes(broken=BOOTS_MAX), Strikes(restarts=RESTARTS_MAX))


def machine(status: MachineStatus | None) -> Machine | None:
    if status is None:
        return None
    name = machine_name(LEASE.lease_hash)
    return Machine(SPEC, name, status, LEASE.host_key, 2222, "process", "", "none", NOW, NOW, "")


def action(state: LeaseState | None, status: MachineStatus | None, now: int = NOW, **changes: Any) -> Action:
    lease = LEASE._replace(state=state) if state else None
    usual = Situation(lease, machine(status), now, GRACE, True, True, NONE, is_withdrawn=False, is_orphaned=False)
    return next_action(usual._replace(**changes))


@pytest.mark.parametrize("status", [None, MachineStatus.PROVISIONING, *DOWN])
def test_a_created_lease_is_booted(status: MachineStatus | None) -> None:
    assert action(LeaseState.CREATED, status) is Action.BOOT


def test_a_created_lease_without_room_is_declined() -> None:
    assert action(LeaseState.CREATED, None, has_room=False) is Action.DECLINE
    assert action(LeaseState.CREATED, MachineStatus.PROVISIONING, has_room=False) is Action.BOOT


def test_a_machine_that_answers_is_accepted() -> None:
    assert action(LeaseState.CREATED, MachineStatus.RUNNING) is Action.ACCEPT
    assert action(LeaseState.CREATED, MachineStatus.RUNNING, has_room=False, strikes=Strikes(failed=1)) is Action.ACCEPT


@pytest.mark.parametrize("status", [None, *DOWN])
def test_a_failed_boot_is_not_repeated_before_acceptance(status: MachineStatus | None) -> None:
    assert action(LeaseState.CREATED, status, strikes=Strikes(failed=1)) is Action.NOTHING


@pytest.mark.parametrize("status", STATUSES)
def test_nothing_is_done_for_an_unconfirmed_lease(status: MachineStatus | None) -> None:
    assert action(LeaseState.CREATED, status, is_confirmed=False) is Action.NOTHING


@pytest.mark.parametrize("status", STATUSES)
def test_a_withdrawn_or_too_old_lease_is_not_accepted_and_its_machine_stopped(status: MachineStatus | None) -> None:
    expected = Action.NOTHING if status is None or status in DOWN else Action.STOP
    assert action(LeaseState.CREATED, status, is_withdrawn=True) is expected
    assert action(LeaseState.CREATED, status, NOW + ACCEPT_WITHIN + 1) is expected
    assert action(LeaseState.CREATED, status, NOW + ACCEPT_WITHIN) in (Action.BOOT, Action.ACCEPT)


@pytest.mark.parametrize("status", UP)
def test_a_running_lease_is_left_alone(status: MachineStatus) -> None:
    assert action(LeaseState.ACCEPTED, status) is Action.NOTHING
    assert action(LeaseState.ACCEPTED, status, EXPIRY - 1) is Action.NOTHING


@pytest.mark.parametrize("status", DOWN)
def test_a_machine_that_fell_is_booted_again_a_few_times(status: MachineStatus) -> None:
    assert action(LeaseState.ACCEPTED, status, strikes=Strikes(failed=BOOTS_MAX - 1)) is Action.BOOT
    assert action(LeaseState.ACCEPTED, status, strikes=Strikes(failed=BOOTS_MAX)) is Action.NOTHING


@pytest.mark.parametrize("status", MachineStatus)
def test_a_machine_that_its_consumer_switched_off_is_off_and_stays_off(status: MachineStatus) -> None:
    expected = Action.NOTHING if status in DOWN else Action.POWER_OFF
    for strikes in STRIKES:
        assert action(LeaseState.ACCEPTED, status, is_off=True, strikes=strikes) is expected
        assert action(LeaseState.ACCEPTED, status, EXPIRY - 1, is_off=True, strikes=strikes) is expected


def test_a_machine_that_was_switched_on_again_is_booted() -> None:
    assert action(LeaseState.ACCEPTED, MachineStatus.STOPPED, is_off=False) is Action.BOOT


@pytest.mark.parametrize("status", MachineStatus)
def test_a_lease_ends_alike_whether_its_machine_is_on_or_off(status: MachineStatus) -> None:
    for now in (EXPIRY, LAST - 1, LAST):
        assert action(LeaseState.ACCEPTED, status, now, is_off=True) is action(LeaseState.ACCEPTED, status, now)
    assert action(LeaseState.SETTLED, status, is_off=True) is Action.DESTROY
    assert action(LeaseState.ACCEPTED, None, is_off=True) is Action.NOTHING


@pytest.mark.parametrize("status", MachineStatus)
def test_an_accepted_lease_is_settled_from_its_expiry_and_expires_after_the_grace(status: MachineStatus) -> None:
    assert action(LeaseState.ACCEPTED, status, EXPIRY - 1) is not Action.SETTLE
    assert action(LeaseState.ACCEPTED, status, EXPIRY) is Action.SETTLE
    assert action(LeaseState.ACCEPTED, status, LAST - 1) is Action.SETTLE
    assert action(LeaseState.ACCEPTED, status, LAST) is Action.EXPIRE


@pytest.mark.parametrize("status", DOWN)
def test_a_lease_whose_machine_could_not_be_booted_again_is_not_settled(status: MachineStatus) -> None:
    assert action(LeaseState.ACCEPTED, status, EXPIRY, strikes=Strikes(failed=BOOTS_MAX - 1)) is Action.SETTLE
    assert action(LeaseState.ACCEPTED, status, EXPIRY, strikes=Strikes(failed=BOOTS_MAX)) is Action.NOTHING
    assert action(LeaseState.ACCEPTED, status, LAST, strikes=Strikes(failed=BOOTS_MAX)) is Action.EXPIRE


@pytest.mark.parametrize("now", [NOW, EXPIRY, LAST])
def test_a_lease_whose_machine_is_lost_is_not_settled(now: int) -> None:
    assert action(LeaseState.ACCEPTED, None, now) is Action.NOTHING


@pytest.mark.parametrize("state", [LeaseState.SETTLED, LeaseState.CANCELLED, LeaseState.UNFULFILLED])
def test_the_machine_of_an_ended_lease_is_destroyed(state: LeaseState) -> None:
    assert action(state, None) is Action.NOTHING
    for status in MachineStatus:
        assert action(state, status, has_room=False, strikes=Strikes(9, 9, 9)) is Action.DESTROY
        assert action(state, status, is_confirmed=False) is Action.NOTHING, "the end may still lose to a rival"


def test_a_lease_whose_consumer_broke_its_guest_is_settled() -> None:
    for status in DOWN:
        assert action(LeaseState.ACCEPTED, status, strikes=Strikes(broken=BOOTS_MAX)) is Action.NOTHING
        assert action(LeaseState.ACCEPTED, status, EXPIRY, strikes=Strikes(broken=BOOTS_MAX)) is Action.SETTLE


def test_a_machine_that_falls_again_and_again_stays_down_and_is_settled() -> None:
    for status in DOWN:
        assert action(LeaseState.ACCEPTED, status, strikes=Strikes(restarts=RESTARTS_MAX - 1)) is Action.BOOT
        assert action(LeaseState.ACCEPTED, status, strikes=Strikes(restarts=RESTARTS_MAX)) is Action.NOTHING
        assert action(LeaseState.ACCEPTED, status, EXPIRY, strikes=Strikes(restarts=RESTARTS_MAX)) is Action.SETTLE


@pytest.mark.parametrize("status", MachineStatus)
def test_a_machine_without_a_lease_is_removed_after_the_grace(status: MachineStatus) -> None:
    assert action(None, status, is_orphaned=True) is Action.REMOVE
    assert action(None, None, is_orphaned=True) is Action.NOTHING


@pytest.mark.parametrize("status", STATUSES)
def test_a_machine_without_a_lease_is_stopped_and_kept(status: MachineStatus | None) -> None:
    expected = Action.NOTHING if status is None or status in DOWN else Action.STOP
    assert action(None, status) is expected


def every_situation() -> list[tuple[Situation, Action]]:
    states = [LEASE._replace(state=state) for state in LeaseState]
    times = (NOW, NOW + ACCEPT_WITHIN + 1, EXPIRY, LAST, LAST * 2)
    flags = (True, False)
    product = itertools.product((None, *states), STATUSES, times, flags, flags, STRIKES, flags, flags, flags)
    situations = [
        Situation(lease, machine(status), now, GRACE, confirmed, room, strikes, withdrawn, orphaned, is_off)
        for lease, status, now, confirmed, room, strikes, withdrawn, orphaned, is_off in product
    ]
    return [(situation, next_action(situation)) for situation in situations]


def test_a_machine_is_destroyed_only_after_its_lease_has_ended() -> None:
    for situation, chosen in every_situation():
        lease = situation.lease
        if chosen is Action.DESTROY:
            assert lease is not None
            assert lease.is_final
            assert situation.is_confirmed
        if chosen is Action.EXPIRE:
            assert lease is not None
            assert lease.state is LeaseState.ACCEPTED
            assert situation.now >= LAST
        if chosen is Action.POWER_OFF:
            assert situation.is_off
        if chosen is Action.REMOVE:
            assert lease is None
            assert situation.is_orphaned


def test_nothing_is_signed_that_the_ledger_would_refuse() -> None:
    for situation, chosen in every_situation():
        if chosen is Action.ACCEPT:
            assert not situation.is_withdrawn
        if chosen in (Action.ACCEPT, Action.SETTLE, Action.BOOT, Action.DECLINE):
            assert situation.lease is not None
            wanted = {Action.SETTLE: {LeaseState.ACCEPTED}, Action.BOOT: {LeaseState.CREATED, LeaseState.ACCEPTED}}
            assert situation.lease.state in wanted.get(chosen, {LeaseState.CREATED})


def test_every_action_is_reached() -> None:
    assert {chosen for _, chosen in every_situation()} == set(Action)


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("state", LeaseState)
def test_only_what_can_be_neither_served_nor_settled_is_written_off(
    state: LeaseState, status: MachineStatus | None
) -> None:
    found = [is_written_off(LEASE._replace(state=state), machine(status), now, GRACE) for now in (LAST - 1, LAST)]
    assert found == [False, state is LeaseState.ACCEPTED and status is None]
    assert state is not LeaseState.ACCEPTED or action(state, None, LAST) is Action.NOTHING
