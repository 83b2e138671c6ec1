"""Canonical msgpack (protocol section 2): what is written is read back, and nothing else is read."""

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.strategies import u64s
from xnode.core.codec import DEPTH_MAX, RECORD_BYTES_MAX, Malformed, Plain, decode, encode
from xnode.core.faults import CallerFault
from xnode.core.values import U64_MAX

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
leaves = st.none() | st.booleans() | u64s | st.binary(max_size=40) | text
values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=5).map(tuple), max_leaves=20)
records = st.lists(values, max_size=6).map(tuple)


def depth_of(value: Plain) -> int:
    return 1 + max(map(depth_of, value), default=0) if isinstance(value, tuple) else 0


def refused(data: bytes) -> str:
    with pytest.raises(Malformed) as caught:
        decode(data)
    assert caught.value.code == "malformed"
    return str(caught.value)


def nested(depth: int) -> bytes:
    return b"\x91" * (depth - 1) + b"\x90"


@given(records.filter(lambda value: depth_of(value) <= DEPTH_MAX))
def test_what_is_encoded_decodes_to_itself(record: tuple[Plain, ...]) -> None:
    assert decode(encode(record)) == record


@given(st.binary(max_size=60))
def test_random_bytes_are_malformed_or_canonical(data: bytes) -> None:
    try:
        record = decode(data)
    except Malformed:
        return
    assert encode(record) == data


@given(records.filter(lambda value: depth_of(value) <= DEPTH_MAX), st.data())
def test_mutated_bytes_are_malformed_or_canonical(record: tuple[Plain, ...], data: st.DataObject) -> None:
    good = encode(record)
    at = data.draw(st.integers(0, len(good) - 1))
    kind = data.draw(st.sampled_from(["replace", "insert", "cut"]))
    byte = data.draw(st.binary(min_size=1, max_size=1))
    bad = good[:at] + (b"" if kind == "cut" else byte) + good[at + (kind != "insert") :]
    try:
        again = decode(bad)
    except Malformed:
        return
    assert encode(again) == bad


def test_types_survive() -> None:
    record = (0, False, None, b"", "", (), 1, True)
    assert [type(item) for item in decode(encode(record))] == [type(item) for item in record]


def test_golden_bytes() -> None:
    record = (0, 127, 128, 255, 256, 65535, 65536, U64_MAX, b"\x01", "é", None, True, ())
    assert encode(record).hex() == "9d007fcc80ccffcd0100cdffffce00010000cfffffffffffffffffc40101a2c3a9c0c390"


@pytest.mark.parametrize(
    "item",
    [
        "cc05",
        "cd0005",
        "cd00ff",
        "ce0000ffff",
        "cf00000000ffffffff",
        "d005",
        "d10100",
        "d200010000",
        "d30000000100000000",
    ],
)
def test_integer_in_a_longer_form_is_refused(item: str) -> None:
    assert refused(bytes.fromhex("91" + item)) == "not in canonical form"


@pytest.mark.parametrize("data", ["91d90161", "91da000161", "91db0000000161", "91c5000101", "91c60000000101"])
def test_length_in_a_longer_form_is_refused(data: str) -> None:
    assert refused(bytes.fromhex(data)) == "not in canonical form"


@pytest.mark.parametrize("data", ["dc000105", "dd0000000105"])
def test_array_length_in_a_longer_form_is_refused(data: str) -> None:
    assert refused(bytes.fromhex(data)) == "not in canonical form"


@pytest.mark.parametrize("number", [-1, -32, -33, -(2**31), -(2**63)])
def test_negative_integer_is_refused(number: int) -> None:
    assert "int" in refused(msgpack.packb([number]))


@pytest.mark.parametrize("single", [True, False])
def test_float_is_refused(single: bool) -> None:
    assert "float" in refused(msgpack.packb([1.0], use_single_float=single))


@pytest.mark.parametrize("content", [{}, {"a": 1}, {b"a": 1}])
def test_map_is_refused(content: object) -> None:
    assert "dict" in refused(msgpack.packb([content]))
    refused(msgpack.packb(content))


def test_map_with_a_key_that_is_an_array_is_refused() -> None:
    refused(bytes.fromhex("91819001"))


@pytest.mark.parametrize("code", [0, 5, 127])
@pytest.mark.parametrize("size", [0, 1, 2, 4, 8, 16, 3])
def test_extension_type_is_refused(code: int, size: int) -> None:
    extension = msgpack.ExtType(code, b"x" * size)
    assert "ExtType" in refused(msgpack.packb([extension]))
    assert refused(msgpack.packb(extension)) == "a record must be a msgpack array"


@pytest.mark.parametrize("data", ["91d6ff00000000", "91d7ff0000000000000000", "91c70cff" + "00" * 12])
def test_timestamp_extension_is_refused(data: str) -> None:
    assert "Timestamp" in refused(bytes.fromhex(data))


@pytest.mark.parametrize("value", [5, b"x", "x", None, True])
def test_top_level_that_is_no_array_is_refused(value: object) -> None:
    assert refused(msgpack.packb(value)) == "a record must be a msgpack array"


def test_trailing_bytes_are_refused() -> None:
    assert "ExtraData" in refused(encode((1,)) + b"\xc0")


@given(records.filter(bool).filter(lambda value: depth_of(value) <= DEPTH_MAX), st.data())
def test_every_truncation_is_refused(record: tuple[Plain, ...], data: st.DataObject) -> None:
    good = encode(record)
    refused(good[: data.draw(st.integers(0, len(good) - 1))])


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x91\xc1"])
def test_no_msgpack_is_refused(data: bytes) -> None:
    refused(data)


@pytest.mark.parametrize("raw", [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"])
def test_text_that_is_not_utf8_is_refused(raw: bytes) -> None:
    assert "UnicodeDecodeError" in refused(b"\x91" + bytes([0xA0 + len(raw)]) + raw)


def test_nesting_ends_at_the_limit() -> None:
    assert depth_of(decode(nested(DEPTH_MAX))) == DEPTH_MAX
    assert refused(nested(DEPTH_MAX + 1)) == "nested too deeply"


@pytest.mark.parametrize("depth", [1000, 100_000])
def test_deep_nesting_does_not_exhaust_the_stack(depth: int) -> None:
    refused(nested(depth))


@pytest.mark.parametrize("head", ["ddffffffff", "dcffff", "91dbffffffff", "91c6ffffffff", "dfffffffff"])
def test_a_length_that_lies_is_refused(head: str) -> None:
    refused(bytes.fromhex(head))


def test_size_limit_holds_before_anything_is_read() -> None:
    good = encode((b"x" * 100,))
    assert decode(good, len(good)) == (b"x" * 100,)
    with pytest.raises(Malformed, match=f"over the limit of {len(good) - 1}"):
        decode(good, len(good) - 1)
    assert "over the limit" in refused(b"\xc1" * (RECORD_BYTES_MAX + 1))


def test_malformed_is_the_callers_fault() -> None:
    assert issubclass(Malformed, CallerFault)
