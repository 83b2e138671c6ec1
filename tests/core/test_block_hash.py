"""A block's hash (protocol section 4): over everything but signature and work; golden values of every type."""

from typing import Any

import pytest
from hypothesis import given

from tests.support.blocks import EXAMPLES, NETWORK, WORD, elements
from tests.support.strategies import attestations, blocks, bytes32
from tests.support.vectors import read_vectors
from xnode.core import blocks as subject
from xnode.core.authority import check_signatures
from xnode.core.blocks import (
    COMMON,
    Block,
    BlockType,
    block_from_json,
    block_hash,
    block_to_json,
    decode_block,
    encode_block,
)
from xnode.core.codec import encode
from xnode.core.genesis import parse_genesis
from xnode.core.hashing import NetworkKey, Tag, tagged_hash
from xnode.core.values import ZERO_HASH, Address, Asset, Hash, Signature
from xnode.core.work import work_value

VECTORS = read_vectors("blocks.json")
KINDS = pytest.mark.parametrize("kind", BlockType)
ATTESTED = pytest.mark.parametrize(
    "kind", [BlockType.LEASE_ACCEPT, BlockType.LEASE_SETTLE, BlockType.LEASE_FORCE_SETTLE]
)


@KINDS
def test_hash_is_over_everything_but_signature_and_work(kind: BlockType) -> None:
    block = EXAMPLES[kind]
    expected = tagged_hash(NETWORK, Tag.BLOCK, encode(tuple(elements(block)[:-2])))
    assert block_hash(NETWORK, block) == expected
    assert block_hash(NETWORK, block._replace(signature=Signature(bytes(64)), work=0)) == expected


@KINDS
def test_changing_any_field_changes_the_hash(kind: BlockType) -> None:
    block = EXAMPLES[kind]
    seen = {block_hash(NETWORK, block)}
    variants = [block._replace(**{name: other_value(getattr(block, name))}) for name in COMMON if name != "type"]
    variants.append(block._replace(representative=None))
    variants += [
        block._replace(body=block.body._replace(**{name: other_value(value)}))
        for name, value in zip(block.body._fields, block.body, strict=True)
    ]
    for variant in variants:
        seen.add(block_hash(NETWORK, variant))
    assert len(seen) == len(variants) + 1


@ATTESTED
def test_changing_any_part_of_an_attestation_changes_the_hash(kind: BlockType) -> None:
    block = EXAMPLES[kind]
    sets = [(), (WORD, WORD), *((WORD._replace(**{name: other_value(getattr(WORD, name))}),) for name in WORD._fields)]
    hashes = [block_hash(NETWORK, block._replace(body=block.body._replace(attestations=item))) for item in sets]
    assert len({block_hash(NETWORK, block), *hashes}) == len(sets) + 1


def other_value(value: Any) -> Any:
    if isinstance(value, Asset):
        return Asset.XE if value is Asset.XUSD else Asset.XUSD
    if isinstance(value, int):
        return value + 1
    if isinstance(value, bytes):
        return value[:-1] + bytes([value[-1] ^ 1])
    return value[:-1]


@given(blocks)
def test_the_network_key_changes_the_hash(block: Block) -> None:
    assert block_hash(NETWORK, block) != block_hash(NetworkKey(b"o" * 32), block)


@given(bytes32, bytes32, attestations)
def test_types_with_the_same_fields_hash_differently(source: bytes, account: bytes, words: Any) -> None:
    receive = Block(
        BlockType.RECEIVE, Address(account), ZERO_HASH, Asset.XUSD, 0, None, 0, subject.Receive(Hash(source))
    )
    cancel = receive._replace(type=BlockType.LEASE_CANCEL, body=subject.LeaseCancel(Hash(source)))
    assert block_hash(NETWORK, receive) != block_hash(NETWORK, cancel)


def test_vectors_have_every_type() -> None:
    assert {entry["json"]["type"] for entry in VECTORS["blocks"]} == {kind.name.lower() for kind in BlockType}


def test_vectors_network() -> None:
    genesis = parse_genesis(VECTORS["genesis"])
    assert genesis.genesis_hash.hex() == VECTORS["genesis_hash"]
    assert genesis.network_key.hex() == VECTORS["network_key"]


@pytest.mark.parametrize("entry", VECTORS["blocks"], ids=lambda entry: entry["name"])
def test_vectors(entry: dict[str, Any]) -> None:
    genesis = parse_genesis(VECTORS["genesis"])
    block = block_from_json(entry["json"])
    assert block_to_json(block) == entry["json"]
    assert encode_block(block).hex() == entry["wire"]
    assert decode_block(bytes.fromhex(entry["wire"])) == block
    hashed = bytes.fromhex(entry["hashed"])
    assert hashed == encode(tuple(elements(block)[:-2]))
    assert block_hash(genesis.network_key, block).hex() == entry["hash"]
    assert tagged_hash(genesis.network_key, Tag.BLOCK, hashed).hex() == entry["hash"]
    assert check_signatures(block, Hash(bytes.fromhex(entry["hash"])), genesis.network_key) is None
    assert block.work_root.hex() == entry["work_root"]
    assert f"{work_value(block.work_root, block.work):016x}" == entry["work_value"]
    assert work_value(block.work_root, block.work) >= genesis.work_difficulty
