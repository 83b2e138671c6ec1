"""Checking proof of work (protocol section 6). Searching for it is the room `xnode.pow`."""

from typing import Final

from blake3 import blake3

from xnode.core.values import U64_MAX

NONCE_BYTES: Final = 8


def work_value(root: bytes, nonce: int) -> int:
    """The u64 that must reach the difficulty: the first 8 bytes of BLAKE3(nonce little-endian || root), big-endian."""
    return int.from_bytes(blake3(nonce.to_bytes(NONCE_BYTES, "little") + root).digest(length=8), "big")


def is_valid_work(root: bytes, nonce: int, difficulty: int) -> bool:
    """Whether `nonce` is work for `root` at `difficulty`."""
    return 0 <= nonce <= U64_MAX and work_value(root, nonce) >= difficulty


def expected_tries(difficulty: int) -> int:
    """How many nonces one must try on average."""
    return -(-(U64_MAX + 1) // (U64_MAX + 1 - difficulty))
