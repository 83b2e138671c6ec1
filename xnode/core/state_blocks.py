"""State blocks: changes of the network's own key-value map, signed by its DAO (protocol section 9).

On the wire a state block is one array: index, previous, ops, timestamp, signatures. The hash covers all but the
signatures; each of these is by one key of the DAO's keyset over the 32 hash bytes. Block 0 is made from the genesis
document, unsigned and the same everywhere.
"""

from enum import StrEnum
from typing import Any, Final, NamedTuple

from xnode.core.charter import genesis_charters
from xnode.core.codec import RECORD_BYTES_MAX, Malformed, Plain, decode, encode
from xnode.core.faults import CallerFault
from xnode.core.genesis import KEYS_MAX, Genesis
from xnode.core.hashing import NetworkKey, Tag, tagged_hash
from xnode.core.keys import SigningKey
from xnode.core.keyset import (
    KeySignature,
    join_signatures,
    read_signatures,
    signatures_from_json,
    signatures_to_json,
)
from xnode.core.records import read_bytes32, read_int
from xnode.core.state_values import charter_values, parse_value, render_value
from xnode.core.values import U64_MAX, ZERO_HASH, Hash, hash_from_hex

STATE_BLOCK_BYTES_MAX: Final = RECORD_BYTES_MAX
OPS_MAX: Final = 256
MEMBERS: Final = ("index", "previous", "ops", "timestamp", "signatures")


class Action(StrEnum):
    """What an op does to its key."""

    SET = "set"
    DELETE = "delete"


class Op(NamedTuple):
    """One change; `value` is canonical JSON text (see `state_values`), None where the key is deleted."""

    action: Action
    key: str
    value: str | None


class StateBlock(NamedTuple):
    """The change `number` (its index in the chain); `timestamp` (ns) is the moment from which it holds."""

    number: int
    previous: Hash
    ops: tuple[Op, ...]
    timestamp: int
    signatures: tuple[KeySignature, ...] = ()


def state_hash(network_key: NetworkKey, block: StateBlock) -> Hash:
    """The block's identity: everything but the signatures."""
    return tagged_hash(network_key, Tag.STATE, encode(_hashed_fields(block)))


def _hashed_fields(block: StateBlock) -> tuple[Plain, ...]:
    ops = tuple((str(action), key, value) for action, key, value in block.ops)
    return (block.number, block.previous, ops, block.timestamp)


def encode_state_block(block: StateBlock) -> bytes:
    """The wire form."""
    return encode((*_hashed_fields(block), tuple(tuple(item) for item in block.signatures)))


def decode_state_block(data: bytes) -> StateBlock:
    """The block in `data`; raises Malformed unless `encode_state_block` would write exactly these bytes."""
    values = decode(data, STATE_BLOCK_BYTES_MAX)
    if len(values) != len(StateBlock._fields):
        raise Malformed(f"a state block has {len(StateBlock._fields)} elements")
    number, previous, ops, timestamp, signatures = values
    return StateBlock(
        read_int(number, "index"),
        Hash(read_bytes32(previous, "previous")),
        _read_ops(ops),
        read_int(timestamp, "timestamp"),
        read_signatures(signatures, "signatures", KEYS_MAX) if signatures != () else (),
    )


def _read_ops(value: Plain) -> tuple[Op, ...]:
    if not isinstance(value, tuple) or len(value) > OPS_MAX:
        raise Malformed(f"ops must be an array of {OPS_MAX} at most")
    return tuple(_read_op(item) for item in value)


def _read_op(item: Plain) -> Op:
    match item:
        case (str(action), str(key), str(value)) if action == Action.SET:
            return Op(Action.SET, key, value)
        case (str(action), str(key), None) if action == Action.DELETE:
            return Op(Action.DELETE, key, None)
    raise Malformed("an op is (set, key, value) or (delete, key, nil)")


def sign_state_block(network_key: NetworkKey, key: SigningKey, block: StateBlock) -> StateBlock:
    """The same block with this key's signature too."""
    mine = KeySignature(key.public_key, key.sign(state_hash(network_key, block)))
    return block._replace(signatures=join_signatures(block.signatures, (mine,)))


def genesis_state_block(genesis: Genesis) -> StateBlock:
    """Block 0: the genesis document's own values, dated when the network began."""
    values = sorted(charter_values(genesis_charters(genesis).latest).items())
    ops = tuple(Op(Action.SET, key, render_value(value)) for key, value in values)
    return StateBlock(0, ZERO_HASH, ops, genesis.created_at)


def state_block_to_json(block: StateBlock) -> dict[str, Any]:
    """The JSON form: values as JSON, hashes, keys and signatures as lower-case hex."""
    return {
        "index": block.number,
        "previous": block.previous.hex(),
        "ops": [_op_json(op) for op in block.ops],
        "timestamp": block.timestamp,
        "signatures": signatures_to_json(block.signatures),
    }


def _op_json(op: Op) -> dict[str, Any]:
    document: dict[str, Any] = {"action": str(op.action), "key": op.key}
    return document if op.value is None else {**document, "value": parse_value(op.value)}


def state_block_from_json(document: object) -> StateBlock:
    """The block in its JSON form; raises CallerFault (bad_state_block, bad_hex, bad_value) that says what to mend."""
    fields = _members(document, MEMBERS, "a state block")
    block = StateBlock(
        _integer(fields["index"], "index"),
        hash_from_hex(fields["previous"], "previous"),
        _ops_from_json(fields["ops"]),
        _integer(fields["timestamp"], "timestamp"),
        signatures_from_json(fields["signatures"], keys_max=KEYS_MAX) if fields["signatures"] != [] else (),
    )
    try:
        return decode_state_block(encode_state_block(block))
    except (Malformed, UnicodeEncodeError) as error:  # too large, or half characters
        raise _bad(str(error)) from error


def _bad(message: str) -> CallerFault:
    return CallerFault("bad_state_block", message)


def _members(document: object, names: tuple[str, ...], what: str) -> dict[str, Any]:
    if not isinstance(document, dict) or set(document) != set(names):
        raise _bad(f"{what} must be an object of {', '.join(names)}")
    return document


def _ops_from_json(value: object) -> tuple[Op, ...]:
    if not isinstance(value, list):
        raise _bad("ops must be a list")
    return tuple(_op_from_json(item) for item in value)


def _integer(value: object, name: str) -> int:
    if type(value) is not int or not 0 <= value <= U64_MAX:
        raise _bad(f"{name} must be an integer from 0 to 2^64 - 1")
    return value


def _op_from_json(item: object) -> Op:
    is_set = isinstance(item, dict) and item.get("action") == Action.SET
    fields = _members(item, ("action", "key", "value") if is_set else ("action", "key"), "an op")
    if fields["action"] not in tuple(Action) or not isinstance(fields["key"], str):
        raise _bad("an op's action is set or delete, its key is text")
    return Op(Action(fields["action"]), fields["key"], render_value(fields["value"]) if is_set else None)
