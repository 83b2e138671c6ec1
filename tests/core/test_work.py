"""Proof of work (protocol section 6)."""

import pytest
from blake3 import blake3
from hypothesis import given

from tests.support.strategies import bytes32, u64s
from xnode.core.genesis import DEFAULT_DIFFICULTY
from xnode.core.values import U64_MAX
from xnode.core.work import expected_tries, is_valid_work, work_value


@given(bytes32, u64s)
def test_value_is_the_hash_of_nonce_little_endian_then_root(root: bytes, nonce: int) -> None:
    digest = blake3(nonce.to_bytes(8, "little") + root).digest()
    assert work_value(root, nonce) == int.from_bytes(digest[:8], "big")


@pytest.mark.parametrize(
    ("root", "nonce", "value"),
    [
        (bytes(32), 0, 0x352BD266DAE53C6E),
        (bytes(32), 1, 0x87C456E154778118),
        (bytes(range(32)), 0x0102030405060708, 0x14241E7100558C54),
        (b"\xff" * 32, U64_MAX, 0xCC2071F193379E79),
    ],
)
def test_golden_values(root: bytes, nonce: int, value: int) -> None:
    assert work_value(root, nonce) == value


@given(bytes32, u64s)
def test_valid_from_the_difficulty_on(root: bytes, nonce: int) -> None:
    value = work_value(root, nonce)
    assert is_valid_work(root, nonce, value)
    assert is_valid_work(root, nonce, 0)
    assert not is_valid_work(root, nonce, value + 1)


@pytest.mark.parametrize("nonce", [-1, U64_MAX + 1])
def test_a_nonce_outside_u64_is_no_work(nonce: int) -> None:
    assert not is_valid_work(bytes(32), nonce, 0)


@pytest.mark.parametrize(
    ("difficulty", "tries"),
    [(0, 1), (2**63, 2), (0xFF00_0000_0000_0000, 256), (DEFAULT_DIFFICULTY, 2**23), (U64_MAX, 2**64)],
)
def test_expected_tries(difficulty: int, tries: int) -> None:
    assert expected_tries(difficulty) == tries
