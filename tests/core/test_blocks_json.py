"""Blocks in JSON (protocol section 2): both ways, and strictly."""

import json
from typing import Any
from unittest.mock import ANY

import pytest
from hypothesis import given

from tests.support.blocks import ALICE, EXAMPLES, SIGNED, names_of
from tests.support.strategies import blocks
from xnode.core.blocks import (
    Block,
    BlockType,
    block_from_json,
    block_to_json,
)
from xnode.core.faults import CallerFault
from xnode.core.values import U64_MAX, Signature

KINDS = pytest.mark.parametrize("kind", BlockType)


def refused_json(document: object) -> str:
    with pytest.raises(CallerFault) as caught:
        block_from_json(document)
    assert caught.value.code == "bad_block"
    return str(caught.value)


@given(blocks)
def test_json_both_ways(block: Block) -> None:
    document = json.loads(json.dumps(block_to_json(block)))
    assert block_from_json(document) == block
    assert block_to_json(block_from_json(document)) == document


@KINDS
def test_json_names_its_fields_in_order(kind: BlockType) -> None:
    document = block_to_json(EXAMPLES[kind])
    assert tuple(document) == names_of(kind)
    assert document["type"] == kind.name.lower()
    assert document["asset"] == "XUSD"
    assert document["account"] == ALICE.hex()


@KINDS
def test_json_with_a_missing_or_an_unknown_field_is_refused(kind: BlockType) -> None:
    document = block_to_json(EXAMPLES[kind])
    for name in document:
        rest = {key: value for key, value in document.items() if key != name}
        assert name in refused_json(rest)
    assert refused_json(document | {"extra": 1}) == f"extra is unknown in a {kind.name.lower()} block"


@KINDS
def test_json_with_a_value_of_another_type_is_refused(kind: BlockType) -> None:
    document = block_to_json(EXAMPLES[kind])
    for name in document:
        for wrong in (1.5, True, {}, ["x"], "zz", [[]]):
            assert name.split("_")[0].rstrip("s") in refused_json(document | {name: wrong})


@KINDS
def test_json_null_is_only_for_the_representative(kind: BlockType) -> None:
    document = block_to_json(EXAMPLES[kind])
    for name in document:
        if name == "representative":
            assert block_from_json(document | {name: None}).representative is None
        else:
            refused_json(document | {name: None})


def test_json_integers_stay_in_u64() -> None:
    document = block_to_json(EXAMPLES[BlockType.SEND])
    assert block_from_json(document | {"balance": U64_MAX}).balance == U64_MAX
    for wrong in (-1, U64_MAX + 1, "5", 5.0):
        assert "balance" in refused_json(document | {"balance": wrong})


@pytest.mark.parametrize(
    "change",
    [
        str.upper,
        lambda text: " " + text[1:],
        lambda text: text[:2] + " " + text[2:],
        lambda text: text[:-2],
        lambda text: text + "00",
        lambda text: "0x" + text[2:],
        lambda text: "é" + text[1:],
    ],
)
@pytest.mark.parametrize("name", ["account", "previous", "representative", "destination", "signature"])
def test_json_hex_is_strict(name: str, change: Any) -> None:
    document = block_to_json(EXAMPLES[BlockType.SEND]) | {name: "ab" * (64 if name == "signature" else 32)}
    block_from_json(document)
    assert name in refused_json(document | {name: change(str(document[name]))})


@pytest.mark.parametrize("name", ["SEND", "Send", "multisig_close", "", 0, None, [], {}])
def test_json_with_an_unknown_type_is_refused(name: Any) -> None:
    assert "type must be one of send, " in refused_json(block_to_json(EXAMPLES[BlockType.SEND]) | {"type": name})


@pytest.mark.parametrize("asset", ["xusd", "", 0, None, "BTC", []])
def test_json_with_an_unknown_asset_is_refused(asset: Any) -> None:
    assert "asset" in refused_json(block_to_json(EXAMPLES[BlockType.SEND]) | {"asset": asset})


@pytest.mark.parametrize("document", [None, [], "block", 5, {}])
def test_json_that_is_no_block_is_refused(document: object) -> None:
    refused_json(document)


@pytest.mark.parametrize("item", [{}, [], None, 5, {"public_key": "00"}, "x"])
def test_json_with_a_malformed_attestation_is_refused(item: Any) -> None:
    document = block_to_json(EXAMPLES[BlockType.LEASE_SETTLE])
    assert "attestation" in refused_json(document | {"attestations": [item]})


def test_json_attestation_fields_are_strict() -> None:
    document: dict[str, Any] = block_to_json(EXAMPLES[BlockType.LEASE_SETTLE])
    good = document["attestations"][0]
    assert good == {"public_key": "74" * 32, "timestamp": 7, "signature": "73" * 64}
    for change in (
        {"public_key": "74" * 31},
        {"timestamp": -1},
        {"signature": "73"},
        {"extra": 1},
        {"timestamp": None},
    ):
        refused_json(document | {"attestations": [good | change]})


def test_json_of_a_multisig_block_has_signatures_in_place_of_the_signature() -> None:
    block = EXAMPLES[BlockType.SEND]._replace(signature=Signature(bytes(64)), signatures=SIGNED)
    document = block_to_json(block)
    assert "signature" not in document
    assert document["signatures"] == [{"public_key": "6a" * 32, "signature": "67" * 64}, ANY]
    assert block_from_json(document) == block
    assert "signature is unknown" in refused_json(document | {"signature": "67" * 64})
    assert block_from_json(document | {"signatures": []}).signatures == ()


def test_json_of_a_keyset() -> None:
    document: dict[str, Any] = block_to_json(EXAMPLES[BlockType.MULTISIG_OPEN])
    assert document["keyset"] == {"keys": ["6a" * 32, "6b" * 32, "6c" * 32], "threshold": 2}
    for change in ({"threshold": 4}, {"threshold": True}, {"keys": []}, {"keys": ["6a" * 32] * 2}, {"extra": 1}):
        refused_json(document | {"keyset": document["keyset"] | change})
    assert "signature" in refused_json({**document, "signature": "67" * 64})
