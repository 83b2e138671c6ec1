"""The state chain on disk: its rows, and the charters that follow from it (protocol section 9)."""

from collections.abc import Mapping
from typing import NamedTuple

from xnode.core.charter import Charters, Era, genesis_charters
from xnode.core.codec import Malformed, encode
from xnode.core.genesis import Genesis
from xnode.core.state_blocks import (
    Action,
    StateBlock,
    decode_state_block,
    encode_state_block,
    genesis_state_block,
    state_hash,
)
from xnode.core.state_chain import StateEffects, StateTip
from xnode.core.state_values import SYSTEM_PREFIX, parse_value, with_value
from xnode.core.values import Hash
from xnode.store.leveldb import View, corrupt
from xnode.store.schema import ERA, NUMBER_BYTES, STATE_BLOCK, STATE_TIP_KEY, STATE_VALUE, number, unpack


class StoredState(NamedTuple):
    """An applied state block."""

    block: StateBlock
    block_hash: Hash


def pack_state(stored: StoredState) -> bytes:
    """Hash and wire form."""
    return encode((stored.block_hash, encode_state_block(stored.block)))


def unpack_state(value: bytes) -> StoredState:
    """The block; raises OperatorFault(store_corrupt)."""
    block_hash, wire = unpack(value)
    try:
        return StoredState(decode_state_block(wire), Hash(block_hash))
    except Malformed as error:
        raise corrupt(f"state block {block_hash.hex()}: {error}") from error


def unpack_tip(value: bytes) -> StateTip:
    """The tip."""
    return StateTip(*unpack(value))


def era_key(timestamp: int, block_number: int) -> bytes:
    """Eras stand in the order of time, of equal times in that of the chain."""
    return ERA + number(timestamp) + number(block_number)


def era_number(key: bytes) -> int:
    """The number of the state block that began this era."""
    return int.from_bytes(key[1 + NUMBER_BYTES : 1 + 2 * NUMBER_BYTES], "big")


def state_rows(block: StateBlock, block_hash: Hash, *, is_era: bool) -> dict[bytes, bytes | None]:
    """All that a state block changes; `is_era` says whether it changed the charter."""
    rows: dict[bytes, bytes | None] = {
        STATE_BLOCK + number(block.number): pack_state(StoredState(block, block_hash)),
        STATE_TIP_KEY: encode((block.number, block_hash, block.timestamp)),
    }
    for action, key, value in block.ops:
        rows[STATE_VALUE + key.encode()] = value.encode() if action is Action.SET and value is not None else None
    if is_era:
        rows[era_key(block.timestamp, block.number)] = b""
    return rows


def opening_state(genesis: Genesis) -> Mapping[bytes, bytes | None]:
    """The rows of block 0."""
    block = genesis_state_block(genesis)
    return state_rows(block, state_hash(genesis.network_key, block), is_era=True)


def changed_rows(effects: StateEffects, before: Charters) -> Mapping[bytes, bytes | None]:
    """The rows of a good block after `before`."""
    is_era = effects.era.charter != before.latest
    return state_rows(effects.block, effects.block_hash, is_era=is_era)


def load_charters(view: View, genesis: Genesis) -> Charters:
    """What held when, from the blocks that changed it; raises OperatorFault(store_corrupt)."""
    charters = genesis_charters(genesis)
    for key, _ in view.scan(ERA):
        at = era_number(key)
        if at > 0:
            value = view.get(STATE_BLOCK + number(at))
            if value is None:
                raise corrupt(f"no state block {at}, where an index says one")
            block = unpack_state(value).block
            charter = charters.latest
            for _, name, text in block.ops:
                if name.startswith(SYSTEM_PREFIX) and text is not None:
                    charter = with_value(charter, name, parse_value(text))
            charters = charters.extended(Era(block.number, block.timestamp, charter))
    return charters
