"""Consensus: who has weight, what is being voted on, and where an account has signed two blocks for one position."""

from typing import Final

from starlette.responses import Response

from xnode.api.calls import Api, Asked, Call
from xnode.api.parse import CURSOR, LIMIT
from xnode.api.render import ELECTION, REPRESENTATIVE, election_json, page, representative_json
from xnode.api.schema import listing
from xnode.core.elections import ElectionView
from xnode.core.faults import CallerFault
from xnode.core.values import HASH_BYTES, Address, Hash, address_from_hex
from xnode.core.votes import Position

PAGE: Final = (LIMIT, CURSOR)


async def list_representatives(api: Api, asked: Asked) -> Response:
    """The heaviest first."""
    limit, text = asked.query["limit"], asked.query["cursor"]
    after = None if text is None else address_from_hex(text, "cursor")
    reachable = api.port.voters()
    with api.port.snapshot() as view:
        items = view.representatives(after, limit)
        total = view.total_weight()
    return page(
        items,
        limit,
        lambda item: representative_json(item, total, item.address in reachable),
        lambda item: item.address.hex(),
    )


async def list_elections(api: Api, asked: Asked) -> Response:
    """By position."""
    return _elections(asked, api.port.elections())


async def list_conflicts(api: Api, asked: Asked) -> Response:
    """Those elections that have more than one candidate, or whose candidate has a rival on another chain."""
    return _elections(asked, tuple(item for item in api.port.elections() if item.is_contested))


def _elections(asked: Asked, elections: tuple[ElectionView, ...]) -> Response:
    limit, text = asked.query["limit"], asked.query["cursor"]
    after = None if text is None else _position(text)
    items = [item for item in elections if after is None or item.position > after][:limit]
    return page(items, limit, election_json, lambda item: b"".join(item.position).hex())


def _position(text: str) -> Position:
    try:
        data = bytes.fromhex(text)
    except ValueError:
        data = b""
    if len(data) != 2 * HASH_BYTES:
        raise CallerFault("bad_cursor", "cursor must be the X-Next-Cursor of the page before")
    return Position(Address(data[:HASH_BYTES]), Hash(data[HASH_BYTES:]))


CALLS: Final = (
    Call(
        "GET",
        "/representatives",
        "Who votes, with what weight, the heaviest first",
        list_representatives,
        listing(REPRESENTATIVE),
        (400,),
        PAGE,
        price=2,
    ),
    Call("GET", "/elections", "What is being voted on", list_elections, listing(ELECTION), (400,), PAGE, price=2),
    Call(
        "GET",
        "/conflicts",
        "Elections between blocks of one account for one position, or of two accounts for one step of a lease",
        list_conflicts,
        listing(ELECTION),
        (400,),
        PAGE,
        price=2,
    ),
)
