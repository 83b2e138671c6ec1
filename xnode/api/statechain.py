"""The state chain: the network's own map, which the DAO's keys change (protocol section 9)."""

from typing import Any, Final

from starlette.responses import Response

from xnode.api.calls import Api, Asked, Call
from xnode.api.parse import CURSOR, LIMIT
from xnode.api.render import page
from xnode.api.schema import HEX32, INTEGER, OBJECT, TEXT, listing, record, word
from xnode.core.faults import CallerFault, NotFound, Unavailable
from xnode.core.keyset import keyset_to_json
from xnode.core.state_blocks import state_block_from_json, state_block_to_json, state_hash
from xnode.core.state_chain import StateOutcome
from xnode.core.state_values import KEY, parse_value
from xnode.core.values import U64_MAX
from xnode.store.state import StoredState

PAGE: Final = (LIMIT, CURSOR)
TIP: Final = record(index=INTEGER, hash=HEX32, timestamp=INTEGER)
STATE_BLOCK: Final = record(index=INTEGER, hash=HEX32, block=OBJECT)
ENTRY: Final = record(key=TEXT, value={})
KEYSET: Final = record(keys=listing(HEX32), threshold=INTEGER)
GOOD: Final = (StateOutcome.PROGRESS, StateOutcome.OLD)


async def get_tip(api: Api, asked: Asked) -> dict[str, object]:  # noqa: ARG001 every handler has one shape
    """The last block; its timestamp is the moment from which it holds."""
    with api.port.snapshot() as view:
        tip = view.state_tip()
    return {"index": tip.number, "hash": tip.block_hash.hex(), "timestamp": tip.timestamp}


async def list_blocks(api: Api, asked: Asked) -> Response:
    """By index, block 0 of the genesis first."""
    limit, text = asked.query["limit"], asked.query["cursor"]
    after = None if text is None else _number(text)
    if text is not None and after is None:
        raise CallerFault("bad_cursor", "cursor must be the X-Next-Cursor of the page before")
    with api.port.snapshot() as view:
        items = view.state_blocks(after, limit)
    return page(items, limit, _block_json, lambda item: str(item.block.number))


async def get_block(api: Api, asked: Asked) -> dict[str, object]:
    """One block by its index."""
    text = asked.request.path_params["index"]
    number = _number(text)
    with api.port.snapshot() as view:
        stored = None if number is None else view.state_block(number)
    if stored is None:
        raise NotFound("state_block_unknown", "state block not found: GET /statechain/tip names the last one here")
    return _block_json(stored)


async def list_values(api: Api, asked: Asked) -> Response:
    """By key."""
    limit, after = asked.query["limit"], asked.query["cursor"]
    with api.port.snapshot() as view:
        items = view.state_values(after, limit)
    return page(items, limit, lambda item: _entry_json(*item), lambda item: item[0])


async def get_value(api: Api, asked: Asked) -> dict[str, object]:
    """One key's value."""
    key = asked.request.path_params["key"]
    with api.port.snapshot() as view:
        text = view.state_value(key) if KEY.fullmatch(key) else None
    if text is None:
        raise NotFound("key_unknown", "key not found: GET /statechain/kv lists those that are set")
    return _entry_json(key, text)


async def get_keyset(api: Api, asked: Asked) -> dict[str, object]:  # noqa: ARG001
    """The keys that sign the next block."""
    with api.port.snapshot() as view:
        return keyset_to_json(view.charters().latest.dao)


async def submit_block(api: Api, asked: Asked) -> dict[str, object]:
    """Offers a signed block to the chain and to the network."""
    block = state_block_from_json(asked.body)
    outcome, detail = await api.bridge.call(api.port.submit_state_block, block)
    if outcome is StateOutcome.GAP_PREVIOUS:
        raise Unavailable(str(outcome), f"a block before this one is not here yet: {detail}", retryable=True)
    if outcome not in GOOD:
        raise CallerFault(str(outcome), f"the state block is refused: {detail}")
    return {"hash": state_hash(api.port.genesis.network_key, block).hex(), "outcome": str(outcome)}


def _number(text: str) -> int | None:
    is_number = text.isascii() and text.isdigit() and len(text) <= len(str(U64_MAX))
    return int(text) if is_number and int(text) <= U64_MAX else None


def _block_json(stored: StoredState) -> dict[str, Any]:
    """Of shape STATE_BLOCK; `block` may be posted as it is."""
    return {
        "index": stored.block.number,
        "hash": stored.block_hash.hex(),
        "block": state_block_to_json(stored.block),
    }


def _entry_json(key: str, text: str) -> dict[str, Any]:
    """Of shape ENTRY."""
    return {"key": key, "value": parse_value(text)}


CALLS: Final = (
    Call("GET", "/statechain/tip", "The last state block", get_tip, TIP),
    Call(
        "GET", "/statechain/blocks", "State blocks by index", list_blocks, listing(STATE_BLOCK), (400,), PAGE, price=5
    ),
    Call("GET", "/statechain/blocks/{index}", "One state block", get_block, STATE_BLOCK, (404,)),
    Call("GET", "/statechain/kv", "The state map by key", list_values, listing(ENTRY), (400,), PAGE, price=5),
    Call("GET", "/statechain/kv/{key}", "One value of the state map", get_value, ENTRY, (404,)),
    Call("GET", "/statechain/keyset", "The keys that sign the next state block, and how many must", get_keyset, KEYSET),
    Call(
        "POST",
        "/statechain/blocks",
        "Submit a state block with its signatures, in the JSON form that GET gives as `block`",
        submit_block,
        record(hash=HEX32, outcome=word(*GOOD)),
        (400, 503),
        body=OBJECT,
        price=20,
    ),
)
