"""What is checked of a block by itself, and the answer in bytes, the same in this process and in a worker's."""

from collections.abc import Iterator, Sequence
from enum import IntEnum
from itertools import starmap
from struct import Struct
from typing import Final

from xnode.core.authority import check_signatures
from xnode.core.blocks import Block, block_hash, decode_block
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


def check_wires(key: NetworkKey, difficulty: int, wires: Sequence[bytes]) -> list[Checked]:
    """All checks of protocol section 4 that need neither ledger nor clock, in their order, of each of some blocks.

    One kind of check for all blocks before the next: measured, between two signatures, which need the processor's
    nearest cache for themselves, the others take nearly twice as long.
    """
    blocks = [_decoded(wire) for wire in wires]
    identities = [ZERO_HASH if block is None else block_hash(key, block) for block in blocks]
    worked = [block is not None and is_valid_work(block.work_root, block.work, difficulty) for block in blocks]
    found = zip(blocks, identities, worked, strict=True)
    return [(_finding(key, block, identity, has_work), identity) for block, identity, has_work in found]


def _decoded(wire: bytes) -> Block | None:
    try:
        return decode_block(wire)
    except Malformed:
        return None


def _finding(key: NetworkKey, block: Block | None, identity: Hash, has_work: bool) -> Finding:
    if block is None:
        return Finding.MALFORMED
    if not has_work:
        return Finding.BAD_WORK
    refusal = check_signatures(block, identity, key)
    return Finding.GOOD if refusal is None else Finding.BAD_SIGNATURE


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
    wires, at = [], HEAD_BYTES + 4 * count
    for length in lengths:
        wires.append(order[at : at + length])
        at += length
    return b"".join(starmap(_ANSWER.pack, check_wires(NetworkKey(key), difficulty, wires)))


def unpack_answer(data: bytes) -> Iterator[Checked]:
    """The findings of an answer, in the order of the blocks."""
    return _ANSWER.iter_unpack(data)
