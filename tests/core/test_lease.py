"""A lease's life (protocol section 4): the table is complete, final states are final, proofs only at the end."""

import itertools

import pytest

from xnode.core.blocks import BlockType
from xnode.core.faults import WrongState
from xnode.core.lease import (
    FINAL,
    TRANSITIONS,
    EndProof,
    LeaseEvent,
    LeaseRecord,
    LeaseState,
    Resources,
    next_state,
    prove_ended,
    prove_expired,
)
from xnode.core.values import NS, ZERO_HASH, Address, Hash, PublicKey

START = 1_800_000_000 * NS
GRACE = 3600
LEASE = LeaseRecord(
    lease_hash=Hash(b"l" * 32),
    consumer=Address(b"c" * 32),
    provider=Address(b"p" * 32),
    resources=Resources(1, 2, 3),
    duration=60,
    access_pub_key=PublicKey(b"k" * 32),
    cost=10,
    stake=2,
    multiplier_milli=1000,
    certificate_hash=ZERO_HASH,
    created_at=START - NS,
    state=LeaseState.ACCEPTED,
    start_time=START,
    host_key=PublicKey(b"h" * 32),
    accept_hash=Hash(b"a" * 32),
    end_hash=Hash(b"e" * 32),
)
AFTER = {
    (LeaseState.CREATED, LeaseEvent.ACCEPT): LeaseState.ACCEPTED,
    (LeaseState.CREATED, LeaseEvent.SETTLE): None,
    (LeaseState.CREATED, LeaseEvent.CANCEL): LeaseState.CANCELLED,
    (LeaseState.CREATED, LeaseEvent.FORCE_SETTLE): None,
    (LeaseState.ACCEPTED, LeaseEvent.ACCEPT): None,
    (LeaseState.ACCEPTED, LeaseEvent.SETTLE): LeaseState.SETTLED,
    (LeaseState.ACCEPTED, LeaseEvent.CANCEL): None,
    (LeaseState.ACCEPTED, LeaseEvent.FORCE_SETTLE): LeaseState.UNFULFILLED,
    (LeaseState.SETTLED, LeaseEvent.ACCEPT): None,
    (LeaseState.SETTLED, LeaseEvent.SETTLE): None,
    (LeaseState.SETTLED, LeaseEvent.CANCEL): None,
    (LeaseState.SETTLED, LeaseEvent.FORCE_SETTLE): None,
    (LeaseState.CANCELLED, LeaseEvent.ACCEPT): None,
    (LeaseState.CANCELLED, LeaseEvent.SETTLE): None,
    (LeaseState.CANCELLED, LeaseEvent.CANCEL): None,
    (LeaseState.CANCELLED, LeaseEvent.FORCE_SETTLE): None,
    (LeaseState.UNFULFILLED, LeaseEvent.ACCEPT): None,
    (LeaseState.UNFULFILLED, LeaseEvent.SETTLE): None,
    (LeaseState.UNFULFILLED, LeaseEvent.CANCEL): None,
    (LeaseState.UNFULFILLED, LeaseEvent.FORCE_SETTLE): None,
}


def test_every_pair_is_tested() -> None:
    assert set(AFTER) == set(itertools.product(LeaseState, LeaseEvent))


@pytest.mark.parametrize(("state", "event"), AFTER)
def test_transition(state: LeaseState, event: LeaseEvent) -> None:
    assert next_state(state, event) is AFTER[state, event]


def test_final_states_are_those_that_nothing_leaves() -> None:
    leavable = {state for state, _ in TRANSITIONS}
    assert set(LeaseState) - leavable == FINAL == {LeaseState.SETTLED, LeaseState.CANCELLED, LeaseState.UNFULFILLED}


def test_every_state_is_reached_from_created() -> None:
    assert {LeaseState.CREATED, *TRANSITIONS.values()} == set(LeaseState)


def test_events_are_named_after_block_types() -> None:
    assert {event.value for event in LeaseEvent} <= {kind.name.lower() for kind in BlockType}


def test_expiry_is_start_plus_duration() -> None:
    assert LEASE.expiry == START + 60 * NS


@pytest.mark.parametrize("state", LeaseState)
def test_an_end_is_proved_in_final_states_only(state: LeaseState) -> None:
    lease = LEASE._replace(state=state)
    assert lease.is_final is (state in FINAL)
    if state in FINAL:
        assert prove_ended(lease, is_confirmed=True) == EndProof(lease.lease_hash, lease.end_hash, state.value)
        with pytest.raises(WrongState) as caught:
            prove_ended(lease, is_confirmed=False)
        assert caught.value.code == "end_unconfirmed"
    else:
        with pytest.raises(WrongState, match=f"is {state}, so its machine must stay") as caught:
            prove_ended(lease, is_confirmed=True)
        assert caught.value.code == "lease_live"


def test_expiry_is_proved_after_the_grace_only() -> None:
    last = LEASE.expiry + GRACE * NS  # settling is still possible then
    assert prove_expired(LEASE, last + 1, GRACE) == EndProof(LEASE.lease_hash, LEASE.accept_hash, "expired")
    for time in (0, START, LEASE.expiry, last):
        with pytest.raises(WrongState) as caught:
            prove_expired(LEASE, time, GRACE)
        assert caught.value.code == "lease_live"


@pytest.mark.parametrize("state", [state for state in LeaseState if state is not LeaseState.ACCEPTED])
def test_expiry_is_proved_for_accepted_leases_only(state: LeaseState) -> None:
    with pytest.raises(WrongState):
        prove_expired(LEASE._replace(state=state), LEASE.expiry * 2, GRACE)
