"""What is checked of a block by itself, and the answer in bytes, the same in this process and in a worker's."""

from collections.abc import Iterator, Sequence
from enum import IntEnum
from struct import Struct
from typing import Final

from xnode.core.authority import check_signatures
from xnode.core.blocks import block_hash, decode_block
from xnode.core.codec import Malformed
from xnode.core.hashing import NetworkKey
from xnode.core.values import ZERO_HASH, Hash
from xnode.core.work import is_valid_work


class Finding(IntEnum):
    """What a block is by itself."""

    GOOD = 0
    MALFORMED = 1
    BAD_WORK = 2
    BAD_SIGNATURE = 3


Checked = tuple[int, Hash]  # one block's Finding and its hash, which is zeros where the block is malformed
_ANSWER: Final = Struct("<B32s")  # of one block
ANSWER_BYTES: Final = _ANSWER.size
_HEAD: Final = Struct("<32sQI")  # network key, difficulty, number of blocks
_LENGTH: Final = Struct("<I")
HEAD_BYTES: Final = _HEAD.size


def check_wire(key: NetworkKey, difficulty: int, wire: bytes) -> Checked:
    """All checks of protocol section 4 that need neither ledger nor clock, in their order."""
    try:
        block = decode_block(wire)
    except Malformed:
        return Finding.MALFORMED, ZERO_HASH
    identity = block_hash(key, block)
    if not is_valid_work(block.work_root, block.work, difficulty):
        return Finding.BAD_WORK, identity
    refusal = check_signatures(block, identity, key)
    return (Finding.GOOD if refusal is None else Finding.BAD_SIGNATURE), identity


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
    at, network_key = HEAD_BYTES + 4 * count, NetworkKey(key)
    found = bytearray()
    for length in lengths:
        found += _ANSWER.pack(*check_wire(network_key, difficulty, order[at : at + length]))
        at += length
    return bytes(found)


def unpack_answer(data: bytes) -> Iterator[Checked]:
    """The findings of an answer, in the order of the blocks."""
    return _ANSWER.iter_unpack(data)
