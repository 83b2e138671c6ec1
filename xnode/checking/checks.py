"""What is checked of a block by itself, and the answer in bytes, the same in this process and in a worker's."""

from collections.abc import Iterator, Sequence
from enum import IntEnum
from struct import Struct
from typing import Final, NamedTuple

from xnode.core.authority import check_signatures
from xnode.core.blocks import block_hash, decode_block
from xnode.core.codec import Malformed
from xnode.core.hashing import NetworkKey
from xnode.core.values import HASH_BYTES, ZERO_HASH, Hash
from xnode.core.work import is_valid_work


class Finding(IntEnum):
    """What a block is by itself."""

    GOOD = 0
    MALFORMED = 1
    BAD_WORK = 2
    BAD_SIGNATURE = 3


class Checked(NamedTuple):
    """One block's finding; the hash is zeros where the block is malformed."""

    finding: Finding
    block_hash: Hash


FINDINGS: Final = {int(finding): finding for finding in Finding}
ANSWER_BYTES: Final = 1 + HASH_BYTES
_HEAD: Final = Struct("<32sQI")  # network key, difficulty, number of blocks
_LENGTH: Final = Struct("<I")
HEAD_BYTES: Final = _HEAD.size


def check_wire(key: NetworkKey, difficulty: int, wire: bytes) -> Checked:
    """All checks of protocol section 4 that need neither ledger nor clock, in their order."""
    try:
        block = decode_block(wire)
    except Malformed:
        return Checked(Finding.MALFORMED, ZERO_HASH)
    identity = block_hash(key, block)
    if not is_valid_work(block.work_root, block.work, difficulty):
        return Checked(Finding.BAD_WORK, identity)
    refusal = check_signatures(block, identity, key)
    return Checked(Finding.GOOD if refusal is None else Finding.BAD_SIGNATURE, identity)


def pack_order(key: NetworkKey, difficulty: int, wires: Sequence[bytes]) -> bytes:
    """What a worker is asked: the length of the rest, then the head, the lengths of the blocks, the blocks."""
    lengths = Struct(f"<{len(wires)}I").pack(*map(len, wires))
    body = b"".join((_HEAD.pack(key, difficulty, len(wires)), lengths, *wires))
    return _LENGTH.pack(len(body)) + body


def unpack_length(data: bytes) -> int:
    """The length that an order begins with."""
    (length,) = _LENGTH.unpack(data)
    return int(length)


def answer(order: bytes) -> bytes:
    """What a worker says to an order without its length: ANSWER_BYTES a block."""
    key, difficulty, count = _HEAD.unpack_from(order)
    lengths = Struct(f"<{count}I").unpack_from(order, HEAD_BYTES)
    at = HEAD_BYTES + 4 * count
    found = bytearray()
    for length in lengths:
        finding, identity = check_wire(NetworkKey(key), difficulty, order[at : at + length])
        found.append(finding)
        found += identity
        at += length
    return bytes(found)


def unpack_answer(data: bytes) -> Iterator[Checked]:
    """The findings of an answer, in the order of the blocks."""
    for at in range(0, len(data), ANSWER_BYTES):
        yield Checked(FINDINGS[data[at]], Hash(data[at + 1 : at + ANSWER_BYTES]))
