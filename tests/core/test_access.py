"""Proofs for a machine: what each is for, when it is good, what is remembered. The tunnel's: test_tunnel.py."""

import pytest

from tests.support.ledger import NOW, address_of, key_of
from xnode.core.access import (
    ACCESS_WINDOW,
    UsedActs,
    check_timestamp,
    find_signer,
    machine_message,
)
from xnode.core.faults import Unavailable, Unproved
from xnode.core.hashing import NetworkKey, Tag, tagged_hash
from xnode.core.values import Hash, Signature

NETWORK, OTHER_NETWORK = NetworkKey(b"n" * 32), NetworkKey(b"o" * 32)
LEASE, NODE = Hash(b"l" * 32), address_of("bob")
KEYS = (key_of("access").public_key, key_of("alice").public_key)
MESSAGE = machine_message(NETWORK, LEASE, NODE, NOW, "stop")


def test_the_message_is_what_the_page_says() -> None:
    data = LEASE + NODE + NOW.to_bytes(8, "big") + b"stop"
    assert tagged_hash(NETWORK, Tag.MACHINE, data) == MESSAGE


def test_either_key_of_the_lease_signs() -> None:
    for name, key in zip(("access", "alice"), KEYS, strict=True):
        assert find_signer(KEYS, MESSAGE, key_of(name).sign(MESSAGE)) == key


@pytest.mark.parametrize(
    "message",
    [
        machine_message(OTHER_NETWORK, LEASE, NODE, NOW, "stop"),
        machine_message(NETWORK, Hash(b"x" * 32), NODE, NOW, "stop"),
        machine_message(NETWORK, LEASE, address_of("alice"), NOW, "stop"),
        machine_message(NETWORK, LEASE, NODE, NOW + 1, "stop"),
        machine_message(NETWORK, LEASE, NODE, NOW, "start"),
    ],
    ids=["network", "lease", "node", "time", "what"],
)
def test_a_signature_for_something_else_is_refused(message: bytes) -> None:
    with pytest.raises(Unproved):
        find_signer(KEYS, MESSAGE, key_of("access").sign(message))


def test_a_stranger_and_no_signature_are_refused() -> None:
    for signature in (key_of("bob").sign(MESSAGE), Signature(bytes(64)), Signature(b"")):
        with pytest.raises(Unproved):
            find_signer(KEYS, MESSAGE, signature)


@pytest.mark.parametrize("off", [-ACCESS_WINDOW, 0, ACCESS_WINDOW])
def test_a_timestamp_within_the_window_is_good(off: int) -> None:
    check_timestamp(NOW + off, NOW, NOW - ACCESS_WINDOW)


@pytest.mark.parametrize("off", [-ACCESS_WINDOW - 1, ACCESS_WINDOW + 1, -NOW - 1, 2**64 - NOW])
def test_a_timestamp_out_of_the_window_is_refused(off: int) -> None:
    with pytest.raises(Unproved):
        check_timestamp(NOW + off, NOW)


def test_what_was_signed_before_one_remembers_is_refused() -> None:
    check_timestamp(NOW, NOW, NOW)
    with pytest.raises(Unproved, match="older than this node's start"):
        check_timestamp(NOW - 1, NOW, NOW)


def test_one_lease_can_not_use_up_the_room_of_another() -> None:
    used, other = UsedActs(acts_max=2), Hash(b"o" * 32)
    for number in range(2):
        used.of(LEASE, NOW).add(bytes([number]), NOW, NOW)
    with pytest.raises(Unavailable):
        used.of(LEASE, NOW).add(b"x", NOW, NOW)
    used.of(other, NOW).add(b"x", NOW, NOW)
    with pytest.raises(Unproved):
        used.of(other, NOW).add(b"x", NOW, NOW)
    late = NOW + ACCESS_WINDOW + 1
    used.of(LEASE, late).add(b"x", late, late)


def test_leases_that_acted_are_bounded_and_forgotten_after_the_window() -> None:
    used, late = UsedActs(leases_max=2), NOW + ACCESS_WINDOW + 1
    for number in range(2):
        used.of(Hash(bytes([number]) * 32), NOW).add(b"x", NOW, NOW)
    with pytest.raises(Unavailable):
        used.of(LEASE, NOW)
    used.of(Hash(bytes(32)), NOW)
    used.of(LEASE, late).add(b"x", late, late)
    assert len(used) == 1
