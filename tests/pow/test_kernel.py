"""The search against the checking side, and its edges."""

from hypothesis import given
from hypothesis import strategies as st

from xnode.core.values import U64_MAX
from xnode.core.work import is_valid_work
from xnode.pow.kernel import search

ROOT = bytes(range(32))
EASY = 0xFF00000000000000  # one of 256


@given(root=st.binary(min_size=32, max_size=32), start=st.integers(0, U64_MAX))
def test_finds_the_first_valid_nonce(root: bytes, start: int) -> None:
    nonce = search(root, EASY, start, 4096)
    assert nonce is not None
    assert is_valid_work(root, nonce, EASY)
    tried = (nonce - start) % (U64_MAX + 1)
    assert not any(is_valid_work(root, (start + i) & U64_MAX, EASY) for i in range(tried))


def test_gives_up_after_count() -> None:
    assert search(ROOT, U64_MAX, 0, 100) is None


def test_difficulty_zero_takes_the_start() -> None:
    assert search(ROOT, 0, 7, 1) == 7


def test_wraps_at_the_end_of_the_nonces() -> None:
    nonce = search(ROOT, EASY, U64_MAX, 4096)
    assert nonce is not None
    assert nonce < 4096
