"""The search itself: tries nonces one after another (protocol section 6).

The only module that a faster kernel replaces.
"""

from typing import Final

from blake3 import blake3

from xnode.core.values import U64_MAX
from xnode.core.work import NONCE_BYTES

CHUNK_TRIES: Final = 16_384  # about 15 ms: a worker looks for new orders after each chunk


def search(root: bytes, difficulty: int, start: int, count: int) -> int | None:
    """The first nonce of `count` from `start` (wrapping at 2^64) that reaches `difficulty`, or None."""
    threshold = difficulty.to_bytes(8, "big")  # equal lengths: bytes compare as the big-endian numbers do
    for nonce in range(start, start + count):
        wrapped = nonce & U64_MAX
        if blake3(wrapped.to_bytes(NONCE_BYTES, "little") + root).digest(length=8) >= threshold:
            return wrapped
    return None
