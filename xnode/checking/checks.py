"""What is checked of a block by itself, and the answer in bytes, the same in this process and in a worker's."""

from collections.abc import Iterator, Sequence
from enum import IntEnum
from itertools import starmap
from struct import Struct
from typing import Final, NamedTuple

from xnode.core.authority import check_signatures
from xnode.core.blocks import Block, block_hash, decode_block, flat_hash, read_flat, work_root
from xnode.core.codec import Malformed
from xnode.core.hashing import NetworkKey
from xnode.core.keys import verify
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
    read = [_read(key, wire) for wire in wires]
    worked = [one is not None and is_valid_work(one.root, one.work, difficulty) for one in read]
    return [
        (Finding.MALFORMED, ZERO_HASH) if one is None else (_finding(key, one, has_work), one.identity)
        for one, has_work in zip(read, worked, strict=True)
    ]


class _Read(NamedTuple):
    """What is looked at of a block: its hash, its work, and who must have signed it with what."""

    identity: Hash
    root: bytes
    work: int
    account: bytes
    signature: bytes
    block: Block | None  # only where more than one key and one signature must be looked at


def _read(key: NetworkKey, wire: bytes) -> _Read | None:
    """Nearly every block is flat, and is never made: its fields are enough. None for what is no block."""
    values = read_flat(wire)
    if values is not None:
        _, account, previous, *_, signature, work = values
        return _Read(flat_hash(key, values), work_root(account, previous), work, account, signature, None)
    try:
        block = decode_block(wire)
    except Malformed:
        return None
    return _Read(block_hash(key, block), block.work_root, block.work, block.account, block.signature, block)


def _finding(key: NetworkKey, read: _Read, has_work: bool) -> Finding:
    if not has_work:
        return Finding.BAD_WORK
    if read.block is None:
        is_signed = verify(read.account, read.identity, read.signature)
    else:
        is_signed = check_signatures(read.block, read.identity, key) is None
    return Finding.GOOD if is_signed else Finding.BAD_SIGNATURE


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
