"""As much of protocol buffers as p2pd's control socket needs: varint and bytes fields, length before each message."""

from collections.abc import Mapping
from typing import TypeVar

import trio

MESSAGE_BYTES_MAX = 1 << 20
VARINT, BYTES = 0, 2

Fields = dict[int, list[int | bytes]]
T = TypeVar("T", int, bytes)


def encode_varint(value: int) -> bytes:
    """Seven bits a byte, lowest first."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def decode_varint(data: bytes, at: int) -> tuple[int, int]:
    """The number that starts at `at`, and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def encode_fields(*fields: tuple[int, int | bytes]) -> bytes:
    """A message of (field number, value) in order."""
    out = b""
    for number, value in fields:
        if isinstance(value, int):
            out += encode_varint(number << 3 | VARINT) + encode_varint(value)
        else:
            out += encode_varint(number << 3 | BYTES) + encode_varint(len(value)) + value
    return out


def decode_fields(data: bytes) -> Fields:
    """Field number -> its values; only the two kinds above."""
    fields: Fields = {}
    at = 0
    while at < len(data):
        tag, at = decode_varint(data, at)
        value: int | bytes
        value, at = decode_varint(data, at)
        if tag & 7 == BYTES:
            assert isinstance(value, int)
            at, value = at + value, data[at : at + value]
        else:
            assert tag & 7 == VARINT, "p2pd sends varint and bytes fields only"
        fields.setdefault(tag >> 3, []).append(value)
    return fields


def first(fields: Mapping[int, list[int | bytes]], number: int, default: T) -> T:
    """The first value of a field, of the default's type; the default when it is absent."""
    value = fields.get(number, [default])[0]
    assert isinstance(value, type(default))
    return value


async def write_delimited(stream: trio.abc.SendStream, message: bytes) -> None:
    """Length, then the message."""
    await stream.send_all(encode_varint(len(message)) + message)


async def read_exactly(stream: trio.abc.ReceiveStream, count: int) -> bytes:
    """Just so many bytes; EOFError when the other side is gone."""
    data = b""
    while len(data) < count:
        more = await stream.receive_some(count - len(data))
        if not more:
            raise EOFError("p2pd closed its control connection")
        data += more
    return data


async def read_delimited(stream: trio.abc.ReceiveStream) -> bytes:
    """One message; EOFError when the other side is gone."""
    prefix = await read_exactly(stream, 1)
    while prefix[-1] >= 0x80:
        prefix += await read_exactly(stream, 1)
    count, _ = decode_varint(prefix, 0)
    assert count <= MESSAGE_BYTES_MAX
    return await read_exactly(stream, count)
