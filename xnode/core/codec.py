"""Strict canonical msgpack (protocol section 2): one array per record, shortest integers, no maps, no floats.

`decode` accepts exactly the bytes that `encode` makes: it decodes leniently, checks the types, encodes again and
compares, so that a longer-than-needed form can never pass.
"""

from typing import Any, Final

import msgpack

from xnode.core.faults import CallerFault
from xnode.core.values import U64_MAX

DEPTH_MAX: Final = 8
RECORD_BYTES_MAX: Final = 256 * 1024  # one gossiped record (section 10)

# One packer for all: its call holds the interpreter lock from begin to end, and making one costs more than packing.
_PACK: Final = msgpack.Packer(use_bin_type=True).pack

Plain = None | bool | int | bytes | str | tuple["Plain", ...]


class Malformed(CallerFault):
    """Bytes that are not one canonical record."""

    def __init__(self, message: str) -> None:
        super().__init__("malformed", message)


def encode(value: tuple[Plain, ...]) -> bytes:
    """Canonical bytes of one record; the caller gives only ints in u64, bytes, str, bool, None and tuples."""
    packed: bytes = _PACK(value)
    return packed


def decode(data: bytes, bytes_max: int = RECORD_BYTES_MAX) -> tuple[Plain, ...]:
    """The record in `data`; raises Malformed for anything that `encode` would not have written."""
    if len(data) > bytes_max:
        raise Malformed(f"a record of {len(data)} bytes is over the limit of {bytes_max}")
    value = decode_own(data)
    _check(value, DEPTH_MAX)
    if encode(value) != data:
        raise Malformed("not in canonical form")
    return value


def decode_own(data: bytes) -> tuple[Any, ...]:
    """The record in bytes that this node has encoded itself: several times cheaper, for it checks no canonical form.

    Raises Malformed where they are no record at all.
    """
    try:
        value: object = msgpack.unpackb(data, use_list=False)
    except (ValueError, msgpack.UnpackException, RecursionError) as error:
        raise Malformed(f"not one msgpack record: {type(error).__name__}") from error
    if type(value) is not tuple:
        raise Malformed("a record must be a msgpack array")
    return value


def _check(value: object, depth: int) -> None:
    if type(value) is tuple:  # not isinstance: msgpack's ExtType is a tuple too
        if depth == 0:
            raise Malformed("nested too deeply")
        for item in value:
            kind = type(item)  # the two most frequent ones are looked at here
            if kind is not bytes and not (kind is int and 0 <= item <= U64_MAX):
                _check(item, depth - 1)
    elif type(value) is int:
        if not 0 <= value <= U64_MAX:
            raise Malformed("a value of type int is not allowed outside u64")
    elif isinstance(value, bool) or value is None or isinstance(value, bytes | str):
        return
    elif not isinstance(value, int) or not 0 <= value <= U64_MAX:
        raise Malformed(f"a value of type {type(value).__name__} is not allowed")
