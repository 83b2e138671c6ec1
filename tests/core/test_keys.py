"""ed25519: the one verifier's answers, frozen (the speed report measured that verifiers differ at these edges)."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.vectors import read_vectors
from xnode.core.faults import OperatorFault
from xnode.core.keys import SigningKey, is_valid_point, verify

WYCHEPROOF = read_vectors("wycheproof-ed25519.json")
CCTV: list[dict[str, Any]] = read_vectors("cctv-ed25519.json")
CCTV_ANSWERS = read_vectors("cctv-answers.json")

KEY = SigningKey(b"k" * 32)
GROUP_ORDER = 2**252 + 27742317777372353535851937790883648493
IDENTITY = bytes([1]) + bytes(31)
SMALL_ORDER = [  # the eight points of small order and their non-canonical encodings (libsodium's own list)
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000080",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
]


def cases() -> list[tuple[str, dict[str, Any]]]:
    return [(group["publicKey"]["pk"], test) for group in WYCHEPROOF["testGroups"] for test in group["tests"]]


def is_accepted(case: dict[str, Any]) -> bool:
    return verify(bytes.fromhex(case["key"]), case["msg"].encode(), bytes.fromhex(case["sig"]))


def test_all_wycheproof_cases_are_here() -> None:
    assert len(cases()) == WYCHEPROOF["numberOfTests"] == 151
    assert {test["result"] for _, test in cases()} == {"valid", "invalid"}


@pytest.mark.parametrize(("key", "test"), [pytest.param(*case, id=f"tc{case[1]['tcId']}") for case in cases()])
def test_wycheproof(key: str, test: dict[str, Any]) -> None:
    accepted = verify(bytes.fromhex(key), bytes.fromhex(test["msg"]), bytes.fromhex(test["sig"]))
    assert accepted is (test["result"] == "valid"), test["comment"]


def test_cctv_answers_are_frozen() -> None:
    assert [case["number"] for case in CCTV] == list(range(CCTV_ANSWERS["cases"]))
    assert [case["number"] for case in CCTV if is_accepted(case)] == CCTV_ANSWERS["accepted"]


def test_cctv_answers_follow_one_rule() -> None:
    """Refused: a non-canonical encoding, a key or R of small order, a residue that only a cofactored check forgives."""
    excluded = {"non_canonical_A", "non_canonical_R", "low_order_A", "low_order_R", "low_order_residue"}
    follows = [case["number"] for case in CCTV if not excluded & set(case["flags"] or [])]
    assert set(follows) == set(CCTV_ANSWERS["accepted"])


def test_cctv_valid_points_are_frozen() -> None:
    points = sorted({case["key"] for case in CCTV})
    assert len(points) == CCTV_ANSWERS["keys"]
    assert [point for point in points if is_valid_point(bytes.fromhex(point))] == CCTV_ANSWERS["valid_points"]


@given(st.binary(max_size=200))
def test_a_signature_verifies_for_its_key_and_message_only(message: bytes) -> None:
    signature = KEY.sign(message)
    assert verify(KEY.public_key, message, signature)
    assert not verify(KEY.public_key, message + b"x", signature)
    assert not verify(SigningKey(b"o" * 32).public_key, message, signature)


@given(st.integers(0, 511))
def test_each_flipped_bit_spoils_a_signature(bit: int) -> None:
    spoilt = bytearray(KEY.sign(b"message"))
    spoilt[bit // 8] ^= 1 << bit % 8
    assert not verify(KEY.public_key, b"message", bytes(spoilt))


def test_s_above_the_group_order_is_refused() -> None:
    good = KEY.sign(b"message")
    s = int.from_bytes(good[32:], "little") + GROUP_ORDER
    assert not verify(KEY.public_key, b"message", good[:32] + s.to_bytes(32, "little"))


def test_small_order_key_with_the_trivial_signature_is_refused() -> None:
    """OpenSSL and zebra accept this one."""
    assert not verify(IDENTITY, b"message", IDENTITY + bytes(32))


@pytest.mark.parametrize(
    ("key", "signature"),
    [
        (b"", b"s" * 64),
        (b"k" * 31, b"s" * 64),
        (b"k" * 33, b"s" * 64),
        (KEY.public_key, b""),
        (KEY.public_key, KEY.sign(b"")[:63]),
        (KEY.public_key, KEY.sign(b"") + b"\0"),
    ],
)
def test_wrong_lengths_are_simply_false(key: bytes, signature: bytes) -> None:
    assert not verify(key, b"", signature)


@pytest.mark.parametrize("point", SMALL_ORDER)
def test_points_of_small_order_are_not_valid(point: str) -> None:
    assert not is_valid_point(bytes.fromhex(point))


@pytest.mark.parametrize("point", [b"", b"k" * 31, b"\2" + bytes(31), b"\xff" * 32])
def test_what_is_no_point_is_not_valid(point: bytes) -> None:
    assert not is_valid_point(point)


@given(st.binary(min_size=32, max_size=32))
def test_every_made_key_is_a_valid_point(seed: bytes) -> None:
    assert is_valid_point(SigningKey(seed).public_key)


def test_signing_matches_rfc_8032() -> None:
    key = SigningKey(bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"))
    assert key.public_key.hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    assert key.sign(b"").hex() == (
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
        "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
    )


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_seed_of_wrong_length_is_the_operators_fault(size: int) -> None:
    with pytest.raises(OperatorFault) as caught:
        SigningKey(bytes(size))
    assert caught.value.code == "bad_seed"


def test_a_key_never_shows_its_seed() -> None:
    seed = bytes(range(32))
    shown = repr(SigningKey(seed)) + str(SigningKey(seed))
    assert seed.hex() not in shown
    assert SigningKey(seed).public_key.hex() in shown
