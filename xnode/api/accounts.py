"""Accounts, their chains, what is pending for them, and all frontiers."""

from typing import Final

from starlette.responses import Response

from xnode.api.calls import Api, Asked, Call
from xnode.api.parse import CURSOR, LIMIT, optional, path_address
from xnode.api.render import (
    ACCOUNT,
    BLOCK,
    FRONTIER,
    PENDING,
    account_json,
    balances_json,
    block_json,
    frontier_json,
    page,
    pending_json,
)
from xnode.api.schema import AMOUNTS, INTEGER, listing, record
from xnode.core.faults import CallerFault, NotFound
from xnode.core.lease import LeaseState
from xnode.core.ledger import AccountRecord
from xnode.core.values import HASH_BYTES, Address, Hash, address_from_hex
from xnode.store.snapshot import Snapshot

ORDER: Final = optional("order", "text", "newest or oldest first", "newest", choices=("newest", "oldest"))
BALANCE: Final = record(balances=AMOUNTS, spendable=AMOUNTS, staked=INTEGER)
STAKES_PAGE: Final = 1000


def _known(view: Snapshot, address: Address) -> AccountRecord:
    account = view.account(address)
    if account is None:
        raise NotFound("account_unknown", f"account not found: this node's ledger has no account {address.hex()}")
    return account


def _staked(view: Snapshot, provider: Address) -> int:
    """XUSD that this provider has locked in accepted leases."""
    total, after = 0, None
    while leases := view.leases(state=LeaseState.ACCEPTED, provider=provider, after=after, limit=STAKES_PAGE):
        total += sum(lease.stake for lease in leases)
        after = leases[-1].lease_hash
    return total


def _balance(view: Snapshot, account: AccountRecord) -> dict[str, object]:
    """`spendable` is the confirmed part: what nothing can take back any more."""
    spendable = {asset.name: amount for asset, amount in view.spendable(account.address).items()}
    return {"balances": balances_json(account), "spendable": spendable, "staked": _staked(view, account.address)}


async def list_accounts(api: Api, asked: Asked) -> Response:
    """By address."""
    limit = asked.query["limit"]
    with api.port.snapshot() as view:
        items = view.accounts(_address_cursor(asked), limit)
        return page(items, limit, account_json, lambda item: item.address.hex())


def _address_cursor(asked: Asked) -> Address | None:
    text = asked.query["cursor"]
    return None if text is None else address_from_hex(text, "cursor")


async def get_account(api: Api, asked: Asked) -> dict[str, object]:
    """One account."""
    with api.port.snapshot() as view:
        account = _known(view, path_address(asked.request))
        return account_json(account) | _balance(view, account)


async def get_balance(api: Api, asked: Asked) -> dict[str, object]:
    """What one account holds, may spend and has staked."""
    with api.port.snapshot() as view:
        return _balance(view, _known(view, path_address(asked.request)))


async def get_chain(api: Api, asked: Asked) -> Response:
    """The blocks of one account."""
    limit, cursor = asked.query["limit"], asked.query["cursor"]
    if cursor is not None and not (cursor.isdecimal() and len(cursor) <= 18):
        raise CallerFault("bad_cursor", "cursor must be the X-Next-Cursor of the page before")
    after = None if cursor is None else int(cursor)
    with api.port.snapshot() as view:
        address = _known(view, path_address(asked.request)).address
        blocks = view.chain(address, after, limit, asked.query["order"] == "newest")
        return page(blocks, limit, lambda item: block_json(view, item), lambda item: str(item.height))


async def list_pendings(api: Api, asked: Asked) -> Response:
    """What is sent and not yet received, of all accounts."""
    return _pendings(api, asked, None)


async def list_pendings_of(api: Api, asked: Asked) -> Response:
    """What is sent to one account and not yet received."""
    return _pendings(api, asked, path_address(asked.request))


def _pendings(api: Api, asked: Asked, destination: Address | None) -> Response:
    limit, cursor = asked.query["limit"], asked.query["cursor"]
    after = None if cursor is None else _pending_cursor(cursor)
    if after is not None and destination not in (None, after[0]):
        raise CallerFault("bad_cursor", "cursor must be of this account's own list")
    with api.port.snapshot() as view:
        items = view.pendings(destination, after, limit)
    return page(items, limit, pending_json, lambda item: (item.destination + item.source).hex())


def _pending_cursor(text: str) -> tuple[Address, Hash]:
    try:
        data = bytes.fromhex(text)
    except ValueError:
        data = b""
    if len(data) != 2 * HASH_BYTES:
        raise CallerFault("bad_cursor", "cursor must be the X-Next-Cursor of the page before")
    return Address(data[:HASH_BYTES]), Hash(data[HASH_BYTES:])


async def list_frontiers(api: Api, asked: Asked) -> Response:
    """The end of every chain, by account."""
    limit = asked.query["limit"]
    with api.port.snapshot() as view:
        items = view.frontiers(_address_cursor(asked), limit)
    return page(items, limit, frontier_json, lambda item: item.address.hex())


PAGE: Final = (LIMIT, CURSOR)
DETAIL: Final = record(**(ACCOUNT["properties"] | BALANCE["properties"]))

CALLS: Final = (
    Call("GET", "/accounts", "All accounts", list_accounts, listing(ACCOUNT), (400,), PAGE, price=2),
    Call("GET", "/accounts/{address}", "One account", get_account, DETAIL, (404,)),
    Call("GET", "/accounts/{address}/balance", "What an account holds", get_balance, BALANCE, (404,)),
    Call(
        "GET",
        "/accounts/{address}/chain",
        "The blocks of an account",
        get_chain,
        listing(BLOCK),
        (400, 404),
        (*PAGE, ORDER),
        price=2,
    ),
    Call("GET", "/pending", "All that is not yet received", list_pendings, listing(PENDING), (400,), PAGE, price=2),
    Call(
        "GET",
        "/pending/{address}",
        "What an account has not yet received",
        list_pendings_of,
        listing(PENDING),
        (400, 404),
        PAGE,
        price=2,
    ),
    Call("GET", "/frontiers", "The ends of all chains", list_frontiers, listing(FRONTIER), (400,), PAGE, price=2),
)
