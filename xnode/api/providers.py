"""Providers as heard of on the market, with their history on the ledger."""

from typing import Any, Final

from starlette.responses import JSONResponse, Response

from xnode.api.calls import Api, Asked, Call
from xnode.api.parse import CURSOR, LIMIT
from xnode.api.render import PROVIDERS, page, provider_json
from xnode.core.values import address_from_hex

PAGE: Final = (LIMIT._replace(default=None, about="how many at most; without it all are sent"), CURSOR)


async def list_providers(api: Api, asked: Asked) -> Response:
    """By address."""
    providers = api.port.providers()
    if asked.query["cursor"] is not None:
        after = address_from_hex(asked.query["cursor"], "cursor")
        providers = tuple(item for item in providers if item.address > after)
    limit = asked.query["limit"]
    with api.port.snapshot() as view:

        def to_json(item: Any) -> dict[str, object]:
            return provider_json(item, view.provider_record(item.address))

        if limit is None:
            return JSONResponse([to_json(item) for item in providers])
        return page(providers[:limit], limit, to_json, lambda item: item.address.hex())


CALLS: Final = (
    Call("GET", "/providers", "Providers and their capacity", list_providers, PROVIDERS, (400,), PAGE, price=2),
)
