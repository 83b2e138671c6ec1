"""Leases: list, one, request, quote, cancel, and the events of one."""

import json
from collections.abc import AsyncIterator
from typing import Final

from starlette.responses import Response, StreamingResponse

from xnode.api.calls import Api, Asked, Call
from xnode.api.events import follow, rejection
from xnode.api.parse import CURSOR, LIMIT, Field, optional, path_hash
from xnode.api.render import LEASE, lease_json, page
from xnode.api.schema import HEX32, INTEGER, TEXT, listing, record
from xnode.api.settings import LIST_DEFAULT
from xnode.core import price
from xnode.core.faults import CallerFault, NotAllowed, NotFound
from xnode.core.keys import is_valid_point
from xnode.core.lease import LeaseRecord, LeaseState, Resources
from xnode.core.market import LeaseForm
from xnode.core.values import Hash, hash_from_hex

TIMEOUT_DEFAULT: Final = 120.0
TIMEOUT_MAX: Final = 600
MARGIN_SECONDS: Final = 30.0  # what the node may need beyond the caller's own timeout

FILTERS: Final = (
    optional("state", "text", "only leases in this state", choices=tuple(LeaseState)),
    optional("consumer", "address", "only leases of this consumer"),
    optional("provider", "address", "only leases at this provider"),
    LIMIT._replace(default=None, about="how many at most; without it all leases are sent"),
    CURSOR,
)
FORM: Final = (
    Field("vcpus", "integer", "virtual CPUs requested", high=price.RESOURCE_MAX.vcpus),
    Field("memory_mb", "integer", "memory in megabytes", high=price.RESOURCE_MAX.memory_mb),
    Field("disk_gb", "integer", "disk space in gigabytes", high=price.RESOURCE_MAX.disk_gb),
    Field("duration", "integer", "lease duration in seconds (min 60, max 31536000)", high=2**32),
    Field("access_pub_key", "key", "the consumer's ed25519 public key as 64-char hex, for SSH"),
    optional("timeout", "number", "seconds to wait for acceptance", TIMEOUT_DEFAULT, low=1, high=TIMEOUT_MAX),
    optional("provider", "address", "lease from this provider only"),
    optional("policy", "text", "how to choose among offers", "cheapest", low=1, high=32),
    optional("max_cost", "integer", "XUSD to pay at most, 0 for any", 0),
    optional("image", "text", "the guest image; empty for the provider's default", "", high=64),
)
IDEMPOTENCY_KEY: Final = optional(
    "Idempotency-Key", "text", "the same key gives the same lease, never a second one", "", low=1, high=128
)


async def list_leases(api: Api, asked: Asked) -> Response:
    """All leases by (created_at, hash): the whole list streamed, or a page where a limit is given."""
    query = dict(asked.query)
    cursor, limit = query.pop("cursor"), query.pop("limit")
    after = None if cursor is None else _cursor(cursor)
    first = _read(api, query, after, LIST_DEFAULT if limit is None else limit)
    if limit is None:
        return StreamingResponse(_all(api, query, first), media_type="application/json")
    return page(first, limit, lease_json, lambda lease: lease.lease_hash.hex())


def _cursor(text: str) -> Hash:
    return hash_from_hex(text, "cursor")


def _read(api: Api, filters: dict[str, object], after: Hash | None, limit: int) -> list[LeaseRecord]:
    state = filters["state"]
    chosen = filters | {"state": None if state is None else LeaseState(str(state))}
    with api.port.snapshot() as view:
        if after is not None and view.lease(after) is None:
            raise CallerFault("bad_cursor", "cursor must be the X-Next-Cursor of the page before")
        return view.leases(after=after, limit=limit, **chosen)  # type: ignore[arg-type]


async def _all(api: Api, filters: dict[str, object], items: list[LeaseRecord]) -> AsyncIterator[bytes]:
    """One JSON array, read page by page, so that neither memory nor an open snapshot grows with it."""
    opening = "["
    while items:
        yield (opening + ",".join(json.dumps(lease_json(item)) for item in items)).encode()
        opening = ","
        items = _following(api, filters, items) if len(items) == LIST_DEFAULT else []
    yield b"[]" if opening == "[" else b"]"


def _following(api: Api, filters: dict[str, object], items: list[LeaseRecord]) -> list[LeaseRecord]:
    """The page behind these; behind the last that is still there, where a vote has taken some back meanwhile."""
    with api.port.snapshot() as view:
        last = next((item for item in reversed(items) if view.lease(item.lease_hash)), None)
    if last is None:
        return []
    told = {item.lease_hash for item in items}
    return [item for item in _read(api, filters, last.lease_hash, LIST_DEFAULT) if item.lease_hash not in told]


async def get_lease(api: Api, asked: Asked) -> dict[str, object]:
    """One lease."""
    return lease_json(known_lease(api, path_hash(asked.request, "lease")))


def known_lease(api: Api, lease_hash: Hash) -> LeaseRecord:
    """The lease in this node's ledger, or NotFound."""
    with api.port.snapshot() as view:
        lease = view.lease(lease_hash)
    if lease is None:
        why = rejection(api, lease_hash)
        detail = f"its block was rejected ({why})" if why else f"this node's ledger has no lease {lease_hash.hex()}"
        raise NotFound("lease_unknown", f"lease not found: {detail}")
    return lease


def _form(api: Api, asked: Asked) -> LeaseForm:
    body = asked.body
    resources = Resources(body["vcpus"], body["memory_mb"], body["disk_gb"])
    price.check_resources(resources)
    timing = api.port.genesis.timing
    if not timing.lease_duration_min <= body["duration"] <= timing.lease_duration_max:
        allowed = f"from {timing.lease_duration_min} to {timing.lease_duration_max} seconds"
        raise CallerFault("bad_duration", f"duration must be {allowed}")
    if not is_valid_point(body["access_pub_key"]):
        raise CallerFault("bad_key", "access_pub_key is no ed25519 public key; give the 32 bytes of yours as hex")
    return LeaseForm(
        resources=resources,
        idempotency_key=_idempotency_key(asked),
        **{name: value for name, value in body.items() if name not in Resources._fields},
    )


def _idempotency_key(asked: Asked) -> str:
    key = asked.request.headers.get(IDEMPOTENCY_KEY.name, "")
    if len(key) > IDEMPOTENCY_KEY.high or not (key.isascii() and key.isprintable()):
        raise CallerFault("bad_idempotency_key", "Idempotency-Key must be 128 printable ASCII characters at most")
    return key


async def request_lease(api: Api, asked: Asked) -> dict[str, object]:
    """Leases a machine; answers once its provider has accepted."""
    form = _form(api, asked)
    deadline_s = form.timeout + MARGIN_SECONDS
    try:
        lease_hash = await api.bridge.call(api.port.request_lease, form, deadline_s=deadline_s)
    except NotFound as fault:  # the lease's own block lost its vote, or was taken back with what it rested on
        text = "the network did not keep the lease's block, so nothing was paid: look at GET /conflicts, then ask again"
        raise CallerFault("lease_failed", f"{text} (with another Idempotency-Key, if you gave one)") from fault
    return {"lease_hash": lease_hash.hex()}


async def quote_lease(api: Api, asked: Asked) -> dict[str, object]:
    """Asks the market and commits nothing."""
    form = _form(api, asked)
    quote = await api.bridge.call(api.port.quote, form, deadline_s=form.timeout + MARGIN_SECONDS)
    offers = [{"provider": provider.hex(), "cost": cost} for provider, cost in quote.offers]
    return {"cost": quote.cost, "stake": quote.stake, "offers": offers}


async def cancel_lease(api: Api, asked: Asked) -> dict[str, object]:
    """Cancels a lease that nobody has accepted."""
    lease_hash = path_hash(asked.request, "lease")
    consumer = known_lease(api, lease_hash).consumer
    if consumer != api.port.address:
        raise NotAllowed("not_your_lease", f"the lease is {consumer.hex()}'s: ask that account's node to cancel it")
    await api.bridge.call(api.port.cancel_lease, lease_hash)
    return {"lease_hash": lease_hash.hex(), "state": str(LeaseState.CANCELLED)}


async def lease_events(api: Api, asked: Asked) -> Response:
    """The steps of one lease as server-sent events, until it has ended."""
    lease_hash = path_hash(asked.request, "lease")
    if not api.port.lease_events(lease_hash) and not rejection(api, lease_hash):
        known_lease(api, lease_hash)
    return follow(api, lease_hash, asked.request)


CALLS: Final = (
    Call("GET", "/leases", "All leases known to the node", list_leases, listing(LEASE), (400,), FILTERS, price=5),
    Call("GET", "/leases/{hash}", "One lease by its hash", get_lease, LEASE, (404,)),
    Call(
        "POST",
        "/lease/request",
        "Lease a machine; answers once its provider has accepted",
        request_lease,
        record(lease_hash=HEX32),
        (400, 401, 409, 503),
        body=FORM,
        headers=(IDEMPOTENCY_KEY,),
        acting=True,
        price=20,
    ),
    Call(
        "POST",
        "/lease/quote",
        "What a lease would cost now; commits nothing",
        quote_lease,
        record(cost=INTEGER, stake=INTEGER, offers=listing(record(provider=HEX32, cost=INTEGER))),
        (400, 401, 503),
        body=FORM,
        acting=True,
        price=20,
    ),
    Call(
        "POST",
        "/leases/{hash}/cancel",
        "Cancel a lease that nobody has accepted yet",
        cancel_lease,
        record(lease_hash=HEX32, state=TEXT),
        (401, 403, 404, 409, 503),
        body=(),
        acting=True,
        price=10,
    ),
    Call(
        "GET",
        "/leases/{hash}/events",
        "The steps of one lease, as server-sent events, until it has ended",
        lease_events,
        TEXT,
        (404, 503),
        price=5,
        content_type="text/event-stream",
    ),
)
