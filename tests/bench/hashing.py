"""A block's hash against the check of its signature: hashing must stay a small share of what a block costs."""

from typing import Final

from tests.bench.rounds import rate_ratio
from xnode.core.hashing import NetworkKey, Tag, tagged_hash
from xnode.core.keys import SigningKey, verify

CALLS: Final = 200
BLOCK_BYTES: Final = 233


def main(_: list[str]) -> None:
    """Prints how many hashes of a block's size take as long as one verification."""
    key = SigningKey(bytes(32))
    network, block = NetworkKey(bytes(32)), bytes(BLOCK_BYTES)
    digest = tagged_hash(network, Tag.BLOCK, block)
    signature = key.sign(digest)
    ratio = rate_ratio(
        lambda: [tagged_hash(network, Tag.BLOCK, block) for _ in range(CALLS)],
        lambda: [verify(key.public_key, digest, signature) for _ in range(CALLS)],
    )
    print(f"hashes of {BLOCK_BYTES} bytes a verification: {ratio}")
