"""State blocks on the wire and as JSON: one form each, and replay gives the same map everywhere."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.ledger import NOW
from tests.support.state import DAO_NAMES, SYNCED, StateMemory, dao_genesis, delete_op, set_op, signed
from xnode.core.codec import Malformed, decode, encode
from xnode.core.faults import CallerFault
from xnode.core.state_blocks import (
    OPS_MAX,
    STATE_BLOCK_BYTES_MAX,
    Action,
    Op,
    StateBlock,
    decode_state_block,
    encode_state_block,
    genesis_state_block,
    state_block_from_json,
    state_block_to_json,
    state_hash,
)
from xnode.core.state_values import VALUE_BYTES_MAX, parse_value, read_value, render_value
from xnode.core.values import Hash

GENESIS = dao_genesis()
KEYS = st.from_regex(r"[a-z0-9_-]{1,8}", fullmatch=True)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(st.characters(codec="utf-8"), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
OPS = st.one_of(
    st.builds(Op, st.just(Action.SET), KEYS, VALUES.map(render_value)),
    st.builds(Op, st.just(Action.DELETE), KEYS, st.none()),
)
BLOCKS = st.builds(
    lambda number, previous, ops, timestamp, count: signed(
        GENESIS, StateBlock(number, Hash(previous), tuple(ops), timestamp), *DAO_NAMES[:count]
    ),
    st.integers(0, 2**64 - 1), st.binary(min_size=32, max_size=32), st.lists(OPS, max_size=4),
    st.integers(0, 2**64 - 1), st.integers(0, 3),
)  # fmt: skip


@given(BLOCKS)
def test_wire_and_json_lead_back(block: StateBlock) -> None:
    assert decode_state_block(encode_state_block(block)) == block
    assert state_block_from_json(state_block_to_json(block)) == block


@given(st.binary(max_size=60) | BLOCKS.map(encode_state_block))
def test_what_is_decoded_is_encoded_the_same(data: bytes) -> None:
    try:
        block = decode_state_block(data)
    except Malformed:
        return
    assert encode_state_block(block) == data


@given(VALUES)
def test_a_value_has_one_text(value: Any) -> None:
    text = render_value(value)
    assert render_value(read_value(text)) == text
    assert parse_value(f" {text} ") == value


@given(st.lists(st.lists(OPS, min_size=1, max_size=4), max_size=6))
def test_every_replay_gives_the_same_map(changes: list[list[Op]]) -> None:
    one = StateMemory(GENESIS)
    for ops in changes:
        by_key = {op.key: op for op in ops if op.action is Action.SET or op.key in one.map}
        if by_key:
            one.accepted(one.next(*by_key.values()))
    other = StateMemory(GENESIS)
    for block in one.blocks[1:]:
        other.accepted(decode_state_block(encode_state_block(block)), SYNCED)
    assert (other.map, other.held, other.state_tip()) == (one.map, one.held, one.state_tip())


def test_the_hash_covers_all_but_the_signatures() -> None:
    block = signed(GENESIS, StateBlock(1, Hash(b"p" * 32), (set_op("a", 1),), NOW), *DAO_NAMES[:2])
    changed = [
        block._replace(number=2),
        block._replace(previous=Hash(b"q" * 32)),
        block._replace(ops=(set_op("a", 2),)),
        block._replace(ops=(set_op("b", 1),)),
        block._replace(ops=(delete_op("a"),)),
        block._replace(timestamp=NOW + 1),
    ]
    hashes = {state_hash(GENESIS.network_key, item) for item in (block, *changed)}
    assert len(hashes) == len(changed) + 1
    assert state_hash(GENESIS.network_key, block._replace(signatures=())) in hashes


@pytest.mark.parametrize(
    "fields",
    [
        (1, b"p" * 32, (), NOW),
        (1, b"p" * 32, (), NOW, (), None),
        (-0, b"p" * 31, (), NOW, ()),
        ("1", b"p" * 32, (), NOW, ()),
        (1, b"p" * 32, None, NOW, ()),
        (1, b"p" * 32, (("set", "a", None),), NOW, ()),
        (1, b"p" * 32, (("delete", "a", "1"),), NOW, ()),
        (1, b"p" * 32, (("put", "a", "1"),), NOW, ()),
        (1, b"p" * 32, (("set", b"a", "1"),), NOW, ()),
        (1, b"p" * 32, (("delete", "a", None),) * (OPS_MAX + 1), NOW, ()),
        (1, b"p" * 32, (), NOW, ((b"k" * 32, b"s" * 63),)),
        (1, b"p" * 32, (), NOW, ((b"k" * 32, b"s" * 64),) * 2),
    ],
)
def test_malformed_wires(fields: tuple[Any, ...]) -> None:
    with pytest.raises(Malformed):
        decode_state_block(encode(fields))


def test_the_most_that_a_block_can_hold() -> None:
    value = '"' + "a" * (VALUE_BYTES_MAX - 2) + '"'
    block = StateBlock(1, Hash(b"p" * 32), tuple(Op(Action.SET, str(n), value) for n in range(3)), NOW)
    assert decode_state_block(encode_state_block(block)) == block
    block = block._replace(ops=(*block.ops, Op(Action.SET, "3", value)))
    assert len(encode_state_block(block)) > STATE_BLOCK_BYTES_MAX
    with pytest.raises(Malformed, match="over the limit"):
        decode_state_block(encode_state_block(block))


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"index": -1}, "bad_state_block"), ({"index": True}, "bad_state_block"), ({"ops": {}}, "bad_state_block"),
        ({"ops": [{"action": "set", "key": "a"}]}, "bad_state_block"), ({"more": 1}, "bad_state_block"),
        ({"ops": [{"action": "delete", "key": "a", "value": 1}]}, "bad_state_block"),
        ({"ops": [{"action": "set", "key": "a", "value": 1.5}]}, "bad_value"),
        ({"ops": [{"action": "set", "key": "\ud800", "value": 1}]}, "bad_state_block"),
        ({"ops": [7]}, "bad_state_block"), ({"previous": "ab"}, "bad_hex"), ({"signatures": 1}, "bad_signatures"),
        ({"ops": [{"action": "set", "key": "a", "value": "a" * 70_000}]}, "bad_value"),
    ],
)  # fmt: skip
def test_bad_json(change: dict[str, Any], code: str) -> None:
    with pytest.raises(CallerFault) as caught:
        state_block_from_json(state_block_to_json(genesis_state_block(GENESIS)) | change)
    assert caught.value.code == code


def test_a_wire_is_one_canonical_record() -> None:
    wire = encode_state_block(genesis_state_block(GENESIS))
    assert encode(decode(wire)) == wire
