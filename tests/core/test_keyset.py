"""Keysets and threshold signatures (protocol sections 3, 4 and 9)."""

import itertools
from typing import Any

import pytest
from hypothesis import given

from tests.support.ledger import key_of, public_key_of
from tests.support.rules import NO_POINT
from tests.support.strategies import key_signatures, keysets
from xnode.core.codec import Malformed, Plain, encode
from xnode.core.faults import CallerFault
from xnode.core.hashing import NetworkKey, Tag, tagged_hash
from xnode.core.keyset import (
    KEYSET_KEYS_MAX,
    Keyset,
    KeySignature,
    all_verify,
    join_signatures,
    keyset_address,
    keyset_flaw,
    keyset_from_json,
    keyset_to_json,
    make_keyset,
    points_flaw,
    quorum_flaw,
    read_keyset,
    read_signatures,
    signatures_flaw,
    signatures_from_json,
    signatures_to_json,
    verify_threshold,
)
from xnode.core.values import PublicKey, Signature

NETWORK = NetworkKey(b"n" * 32)
MESSAGE = b"m" * 32
NAMES = ("ann", "ben", "cay")
TWO_OF_THREE = make_keyset(map(public_key_of, NAMES), 2)


def signed(*names: str, message: bytes = MESSAGE) -> tuple[KeySignature, ...]:
    """Their signatures in the canonical order."""
    return tuple(sorted(KeySignature(public_key_of(name), key_of(name).sign(message)) for name in names))


# the keyset


def test_a_keyset_is_made_of_keys_in_any_order() -> None:
    made = {make_keyset(map(public_key_of, order), 2) for order in itertools.permutations(NAMES)}
    assert made == {TWO_OF_THREE}
    assert list(TWO_OF_THREE.keys) == sorted(TWO_OF_THREE.keys)


@pytest.mark.parametrize("count", [1, 2, KEYSET_KEYS_MAX])
def test_every_threshold_from_one_to_all_is_good(count: int) -> None:
    keys = [public_key_of(f"key-{number}") for number in range(count)]
    for threshold in range(1, count + 1):
        assert not keyset_flaw(make_keyset(keys, threshold))


@pytest.mark.parametrize("threshold", [0, 4])
def test_another_threshold_is_a_flaw(threshold: int) -> None:
    assert "threshold from 1 to 3" in keyset_flaw(TWO_OF_THREE._replace(threshold=threshold))


def test_no_keys_and_too_many_are_a_flaw() -> None:
    many = sorted(public_key_of(f"key-{number}") for number in range(KEYSET_KEYS_MAX + 1))
    for keys in ((), tuple(many)):
        assert f"1 to {KEYSET_KEYS_MAX} keys" in keyset_flaw(Keyset(keys, 1))
    assert not keyset_flaw(Keyset(tuple(many), 1), keys_max=100)


def test_a_key_named_twice_and_keys_out_of_order_are_a_flaw() -> None:
    one, two, _ = TWO_OF_THREE.keys
    for keys in ((one, one), (two, one)):
        assert "ascending" in keyset_flaw(Keyset(keys, 1))


def test_a_key_that_is_no_point_is_a_flaw() -> None:
    assert not points_flaw(TWO_OF_THREE)
    assert NO_POINT.hex() in points_flaw(Keyset((PublicKey(NO_POINT),), 1))


def test_making_a_flawed_keyset_is_refused() -> None:
    for keys, threshold in (([], 1), ([public_key_of("ann")] * 2, 1), ([PublicKey(NO_POINT)], 1)):
        with pytest.raises(CallerFault) as caught:
            make_keyset(keys, threshold)
        assert caught.value.code == "bad_keyset"


# its address


def test_the_address_is_the_tagged_hash_of_keys_and_threshold() -> None:
    address = keyset_address(NETWORK, TWO_OF_THREE)
    assert address == tagged_hash(NETWORK, Tag.KEYSET, encode((TWO_OF_THREE.keys, 2)))
    others = [TWO_OF_THREE._replace(threshold=1), make_keyset(TWO_OF_THREE.keys[:2], 2)]
    assert address not in [keyset_address(NETWORK, other) for other in others]
    assert address != keyset_address(NetworkKey(b"o" * 32), TWO_OF_THREE)


# the threshold


@pytest.mark.parametrize("names", list(itertools.combinations(NAMES, 2)))
def test_any_two_of_three_are_enough(names: tuple[str, str]) -> None:
    assert verify_threshold(TWO_OF_THREE, MESSAGE, signed(*names))


@pytest.mark.parametrize("names", [(), ("ann",), NAMES])
def test_fewer_and_more_than_the_threshold_are_refused(names: tuple[str, ...]) -> None:
    """A surplus signature could be taken away by a relay, so that one block had two encodings."""
    assert not verify_threshold(TWO_OF_THREE, MESSAGE, signed(*names))
    assert f"exactly 2 of the keyset's 3 keys must sign, and {len(names)} did" in quorum_flaw(
        TWO_OF_THREE, signed(*names)
    )


@pytest.mark.parametrize("name", NAMES)
def test_one_is_enough_where_one_is_asked_for(name: str) -> None:
    assert verify_threshold(TWO_OF_THREE, MESSAGE, signed(name), needed=1)
    assert not verify_threshold(TWO_OF_THREE, MESSAGE, signed(*NAMES[:2]), needed=1)


def test_a_stranger_does_not_count() -> None:
    assert not verify_threshold(TWO_OF_THREE, MESSAGE, signed("ann", "eve"))
    assert public_key_of("eve").hex() in quorum_flaw(TWO_OF_THREE, signed("ann", "eve"))


def test_the_same_signature_twice_does_not_count() -> None:
    assert not verify_threshold(TWO_OF_THREE, MESSAGE, signed("ann") * 2)


def test_signatures_out_of_order_are_refused() -> None:
    assert not verify_threshold(TWO_OF_THREE, MESSAGE, signed("ann", "ben")[::-1])


def test_one_bad_signature_spoils_all() -> None:
    one, two = signed("ann", "ben")
    assert not verify_threshold(TWO_OF_THREE, MESSAGE, (one, two._replace(signature=Signature(bytes(64)))))
    assert not verify_threshold(TWO_OF_THREE, MESSAGE, (one._replace(signature=two.signature), two))
    assert not verify_threshold(TWO_OF_THREE, b"o" * 32, (one, two))


def test_all_verify_asks_no_keyset() -> None:
    assert all_verify(MESSAGE, signed("eve"))
    assert not all_verify(b"o" * 32, signed("eve"))


def test_signatures_of_several_people_are_joined_in_order() -> None:
    assert join_signatures(signed("cay"), signed("ann")) == signed("ann", "cay")
    (first,) = signed("ann")
    assert join_signatures([first], [first._replace(signature=Signature(bytes(64)))]) == (first,)
    assert not signatures_flaw(())
    assert "at most" in signatures_flaw([first] * (KEYSET_KEYS_MAX + 1))


# what is written is read


@given(keysets)
def test_a_keyset_is_read_back_from_bytes_and_json(keyset: Keyset) -> None:
    assert read_keyset(keyset, "it") == keyset
    assert keyset_from_json(keyset_to_json(keyset)) == keyset


@given(key_signatures)
def test_signatures_are_read_back_from_bytes_and_json(signatures: tuple[KeySignature, ...]) -> None:
    assert read_signatures(signatures, "it") == signatures
    assert signatures_from_json(signatures_to_json(signatures)) == signatures


KEY_1, KEY_2 = b"\1" * 32, b"\2" * 32


@pytest.mark.parametrize(
    "value",
    [
        None,
        (),
        (1, 1),
        ((), 1),
        ((KEY_1, KEY_1), 1),
        ((KEY_2, KEY_1), 1),
        ((KEY_1[1:],), 1),
        (("k" * 32,), 1),
        ((KEY_1,), 0),
        ((KEY_1,), 2),
        ((KEY_1,), True),
        ((KEY_1,), 1, 1),
    ],
)
def test_a_keyset_of_another_form_is_malformed(value: Plain) -> None:
    with pytest.raises(Malformed):
        read_keyset(value, "it")


@pytest.mark.parametrize(
    "value",
    [
        bytes(64),
        (KEY_1,),
        ((KEY_1, bytes(63)),),
        ((KEY_1[1:], bytes(64)),),
        ((KEY_1, bytes(64), 0),),
        ((KEY_2, bytes(64)), (KEY_1, bytes(64))),
        ((KEY_1, bytes(64)), (KEY_1, bytes(64))),
        tuple((bytes(31) + bytes([number]), bytes(64)) for number in range(KEYSET_KEYS_MAX + 1)),
    ],
)
def test_signatures_of_another_form_are_malformed(value: Plain) -> None:
    with pytest.raises(Malformed):
        read_signatures(value, "it")


GOOD_JSON = {"keys": [KEY_1.hex()], "threshold": 1}


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {},
        GOOD_JSON | {"more": 1},
        GOOD_JSON | {"threshold": True},
        GOOD_JSON | {"threshold": 2},
        GOOD_JSON | {"keys": KEY_1.hex()},
        GOOD_JSON | {"keys": [1]},
        GOOD_JSON | {"keys": [KEY_2.hex(), KEY_1.hex()]},
    ],
)
def test_a_keyset_of_another_json_form_is_refused(document: Any) -> None:
    with pytest.raises(CallerFault) as caught:
        keyset_from_json(document)
    assert caught.value.code in ("bad_keyset", "bad_hex")


@pytest.mark.parametrize(
    "document",
    [
        None,
        {},
        [1],
        [{"public_key": KEY_1.hex()}],
        [{"public_key": KEY_1.hex(), "signature": ""}],
        [{"public_key": KEY_1.hex(), "signature": "00" * 64}] * 2,
    ],
)
def test_signatures_of_another_json_form_are_refused(document: Any) -> None:
    with pytest.raises(CallerFault) as caught:
        signatures_from_json(document)
    assert caught.value.code in ("bad_signatures", "bad_hex")
