"""Blocks on the wire (protocol sections 2 and 4): both ways, and strictly."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.blocks import ALICE, EXAMPLES, elements, names_of
from tests.support.strategies import blocks, blocks_of
from xnode.core.attestations import ATTESTATIONS_MAX
from xnode.core.blocks import (
    BLOCK_BYTES_MAX,
    BODIES,
    Block,
    BlockType,
    Lease,
    decode_block,
    encode_block,
)
from xnode.core.codec import Malformed, encode
from xnode.core.lease import Resources
from xnode.core.values import U64_MAX, ZERO_HASH, Asset

KINDS = pytest.mark.parametrize("kind", BlockType)


def refused(values: list[Any]) -> str:
    with pytest.raises(Malformed) as caught:
        decode_block(encode(tuple(values)))
    return str(caught.value)


def test_numbers_of_the_types_are_frozen() -> None:
    names = ["send", "receive", "claim", "lease", "lease_accept", "lease_settle", "lease_cancel", "lease_force_settle"]
    assert [(item.value, item.name.lower()) for item in BlockType] == list(enumerate(names))
    assert set(BODIES) == set(EXAMPLES) == set(BlockType)


@KINDS
@settings(max_examples=15)
@given(data=st.data())
def test_wire_both_ways(kind: BlockType, data: st.DataObject) -> None:
    block = data.draw(blocks_of(kind))
    wire = encode_block(block)
    again = decode_block(wire)
    assert again == block
    assert (type(again.type), type(again.asset), type(again.body)) == (BlockType, Asset, BODIES[kind])
    assert encode_block(again) == wire
    assert len(wire) <= BLOCK_BYTES_MAX


@given(blocks, st.data())
def test_mutated_bytes_are_malformed_or_canonical(block: Block, data: st.DataObject) -> None:
    wire = bytearray(encode_block(block))
    at = data.draw(st.integers(0, len(wire) - 1))
    wire[at] ^= data.draw(st.integers(1, 255))
    try:
        again = decode_block(bytes(wire))
    except Malformed:
        return
    assert encode_block(again) == wire
    assert again != block


def test_lease_shows_its_resources() -> None:
    body = EXAMPLES[BlockType.LEASE].body
    assert isinstance(body, Lease)
    assert body.resources == Resources(2, 3, 4)


def test_work_root_is_the_previous_block_or_for_a_first_one_the_account() -> None:
    block = EXAMPLES[BlockType.SEND]
    assert block.work_root == block.previous
    assert block._replace(previous=ZERO_HASH).work_root == ALICE


@KINDS
def test_every_missing_element_is_refused(kind: BlockType) -> None:
    values = elements(EXAMPLES[kind])
    for index in range(len(values)):
        refused(values[:index] + values[index + 1 :])


@KINDS
def test_an_extra_element_is_refused(kind: BlockType) -> None:
    values = elements(EXAMPLES[kind])
    for index in range(1, len(values) + 1):
        assert "elements" in refused([*values[:index], 0, *values[index:]])


@KINDS
def test_every_element_of_another_type_is_refused(kind: BlockType) -> None:
    values = elements(EXAMPLES[kind])
    for index, value in enumerate(values):
        wrongs = [None, True, b"", "text", ()] if isinstance(value, int) else [0, False, "text", b"", (0,)]
        for wrong in wrongs:
            refused([*values[:index], wrong, *values[index + 1 :]])


@KINDS
def test_every_byte_string_of_wrong_length_is_refused(kind: BlockType) -> None:
    values = elements(EXAMPLES[kind])
    for index, value in enumerate(values):
        if isinstance(value, bytes):
            for wrong in (value[:-1], value + b"x", b""):
                message = refused([*values[:index], wrong, *values[index + 1 :]])
                assert message == f"{names_of(kind)[index]} must be {len(value)} bytes"


@KINDS
def test_only_the_representative_may_be_absent(kind: BlockType) -> None:
    values = elements(EXAMPLES[kind])
    for index, name in enumerate(names_of(kind)):
        with_none = [*values[:index], None, *values[index + 1 :]]
        if name == "representative":
            assert decode_block(encode(tuple(with_none))).representative is None
        else:
            refused(with_none)


@pytest.mark.parametrize("number", [8, 9, 10, 255, U64_MAX, True, None, b"\0", "send", ()])
def test_unknown_type_number_is_refused(number: Any) -> None:
    assert "unknown block type" in refused([number, *elements(EXAMPLES[BlockType.SEND])[1:]])


@pytest.mark.parametrize("asset", [2, 255, True, None])
def test_unknown_asset_is_refused(asset: Any) -> None:
    values = elements(EXAMPLES[BlockType.SEND])
    assert "asset" in refused([*values[:3], asset, *values[4:]])


@pytest.mark.parametrize("size", range(9))
def test_a_short_array_is_refused(size: int) -> None:
    refused(elements(EXAMPLES[BlockType.CLAIM])[:size])


def test_a_block_over_the_size_limit_is_refused() -> None:
    with pytest.raises(Malformed, match="over the limit"):
        decode_block(encode((b"x" * BLOCK_BYTES_MAX,)))


ATTESTED = pytest.mark.parametrize(
    "kind", [BlockType.LEASE_ACCEPT, BlockType.LEASE_SETTLE, BlockType.LEASE_FORCE_SETTLE]
)


def with_attestations(kind: BlockType, value: Any) -> list[Any]:
    values = elements(EXAMPLES[kind])
    values[names_of(kind).index("attestations")] = value
    return values


@ATTESTED
def test_attestations_up_to_the_limit_fit(kind: BlockType) -> None:
    most = tuple((b"t" * 32, U64_MAX, b"s" * 64) for _ in range(ATTESTATIONS_MAX))
    decode_block(encode(tuple(with_attestations(kind, most))))
    decode_block(encode(tuple(with_attestations(kind, ()))))
    assert "20 at most" in refused(with_attestations(kind, (*most, most[0])))


@ATTESTED
@pytest.mark.parametrize(
    "item",
    [
        (),
        (b"t" * 32, 7),
        (b"t" * 32, 7, b"s" * 64, 0),
        (b"t" * 31, 7, b"s" * 64),
        (b"t" * 32, 7, b"s" * 63),
        (b"t" * 32, True, b"s" * 64),
        (b"t" * 32, None, b"s" * 64),
        (7, b"t" * 32, b"s" * 64),
        b"t" * 32,
        None,
    ],
)
def test_malformed_attestation_is_refused(kind: BlockType, item: Any) -> None:
    refused(with_attestations(kind, (item,)))
