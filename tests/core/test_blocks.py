"""Blocks on the wire (protocol sections 2 and 4): both ways, and strictly."""

from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.blocks import ALICE, EXAMPLES, SIGNED, WORD, elements, names_of
from tests.support.strategies import blocks, blocks_of
from xnode.core.attestations import ATTESTATIONS_MAX
from xnode.core.blocks import (
    BLOCK_BYTES_MAX,
    BODIES,
    KEYSET_TYPES,
    Block,
    BlockType,
    Lease,
    block_hash,
    decode_block,
    encode_block,
    flat_hash,
    read_flat,
)
from xnode.core.codec import Malformed, decode, encode
from xnode.core.hashing import NetworkKey
from xnode.core.keyset import KEYSET_KEYS_MAX, Keyset, KeySignature
from xnode.core.lease import Resources
from xnode.core.values import U64_MAX, ZERO_HASH, Asset, PublicKey, Signature

SETTLING = {BlockType.LEASE_SETTLE, BlockType.LEASE_FORCE_SETTLE}
KINDS = pytest.mark.parametrize("kind", BlockType)


def refused(values: list[Any]) -> str:
    with pytest.raises(Malformed) as caught:
        decode_block(encode(tuple(values)))
    return str(caught.value)


def test_numbers_of_the_types_are_frozen() -> None:
    names = ["send", "receive", "claim", "lease", "lease_accept", "lease_settle", "lease_cancel", "lease_force_settle"]
    names += ["multisig_open", "multisig_update"]
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
def test_every_negative_number_is_refused(kind: BlockType) -> None:
    values = elements(EXAMPLES[kind])
    for place, value in enumerate(values):
        if type(value) is int:
            refused([*values[:place], -1, *values[place + 1 :]])


@KINDS
def test_a_block_without_arrays_is_read_without_being_made(kind: BlockType) -> None:
    block, key = EXAMPLES[kind], NetworkKey(bytes(32))
    values = read_flat(encode_block(block))
    assert (values is None) == (kind in KEYSET_TYPES | {BlockType.LEASE_ACCEPT} | SETTLING)
    if values is not None:
        assert (list(values), flat_hash(key, values)) == (elements(block), block_hash(key, block))


@KINDS
def test_what_is_read_without_being_made_is_canonical(kind: BlockType) -> None:
    wire = encode_block(EXAMPLES[kind])
    for place, flip in product(range(len(wire)), (1, 0x10, 0x80)):
        changed = wire[:place] + bytes([wire[place] ^ flip]) + wire[place + 1 :]
        values = read_flat(changed)
        assert values is None or (values == decode(changed) and encode_block(decode_block(changed)) == changed)


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


@pytest.mark.parametrize("number", [10, 255, U64_MAX, True, None, b"\0", "send", ()])
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


# multisig


@pytest.mark.parametrize("kind", [kind for kind in BlockType if kind not in KEYSET_TYPES])
def test_an_array_in_the_signatures_place_is_a_multisig_accounts(kind: BlockType) -> None:
    one = EXAMPLES[kind]
    several = one._replace(signature=Signature(bytes(64)), signatures=SIGNED)
    assert decode_block(encode_block(several)) == several
    assert len(elements(one)) == len(elements(several))
    draft = several._replace(signatures=())
    assert decode_block(encode_block(draft)) == draft


@pytest.mark.parametrize("kind", sorted(KEYSET_TYPES))
def test_a_keysets_block_has_no_single_signature(kind: BlockType) -> None:
    assert "signatures must be an array" in refused([*elements(EXAMPLES[kind])[:-2], b"s" * 64, 0])


@KINDS
def test_signatures_have_one_order_and_one_of_each_key(kind: BlockType) -> None:
    *fields, _, work = elements(EXAMPLES[kind])
    for wrong in (SIGNED[::-1], (SIGNED[0], SIGNED[0])):
        assert "ascending" in refused([*fields, wrong, work])
    many = tuple((bytes(31) + bytes([number]), b"s" * 64) for number in range(KEYSET_KEYS_MAX + 1))
    assert "16 signatures at most" in refused([*fields, many, work])


@pytest.mark.parametrize("kind", sorted(KEYSET_TYPES))
@pytest.mark.parametrize(
    "keyset", [((), 1), ((b"k" * 32,), 0), ((b"k" * 32,), 2), ((b"l" * 32, b"k" * 32), 1), ((b"k" * 32,) * 2, 1)]
)
def test_a_keyset_of_another_form_is_refused(kind: BlockType, keyset: Any) -> None:
    *fields, _, signatures, work = elements(EXAMPLES[kind])
    assert "keyset" in refused([*fields, keyset, signatures, work])


@KINDS
def test_the_largest_block_of_each_type_fits(kind: BlockType) -> None:
    """As many keys sign as there may be, and everything else is as long as it can be."""
    keys = tuple(PublicKey(b"k" * 31 + bytes([number])) for number in range(KEYSET_KEYS_MAX))
    longest = {int: U64_MAX, bytes: b"x" * 32, Keyset: Keyset(keys, KEYSET_KEYS_MAX)}
    words = (WORD._replace(timestamp=U64_MAX),) * ATTESTATIONS_MAX
    body = EXAMPLES[kind].body
    values = (words if type(value) is tuple else longest[type(value)] for value in body)
    signatures = tuple(KeySignature(key, Signature(b"s" * 64)) for key in keys)
    block = EXAMPLES[kind]._replace(
        body=type(body)(*values),
        balance=U64_MAX,
        timestamp=U64_MAX,
        work=U64_MAX,
        signature=Signature(bytes(64)),
        signatures=signatures,
    )
    assert decode_block(encode_block(block)) == block
