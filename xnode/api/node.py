"""The node itself: what it is, whether it is well, its figures, its peers, the supply."""

import re
from typing import Final

from starlette.responses import JSONResponse, PlainTextResponse, Response

from xnode.api.calls import Api, Asked, Call
from xnode.api.parse import Field
from xnode.api.render import PEER, peer_json, rendered
from xnode.api.schema import BOOLEAN, INTEGER, OBJECT, TEXT, listing, record, word
from xnode.core.ledger import Bucket, supply_balances
from xnode.core.values import Asset

METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
NOT_A_NAME: Final = re.compile(r"[^a-z0-9_]")
SUPPLY: Final = record(
    **{asset.name: record(**{bucket.value: INTEGER for bucket in Bucket}) for asset in Asset}, balanced=BOOLEAN
)
CHECK: Final = record(ok=BOOLEAN, detail=TEXT)

ADDRESS: Final = Field("address", "text", "the peer's multiaddress, /ip4/.../tcp/.../p2p/...", low=1, high=512)


async def get_node(api: Api, asked: Asked) -> dict[str, object]:  # noqa: ARG001 every handler has one shape
    """What this node is, and who it is connected to."""
    peers = rendered(api.port.peers(), peer_json)
    return api.port.info() | {"peer_count": len(peers), "peers": peers}


async def get_health(api: Api, asked: Asked) -> dict[str, object]:  # noqa: ARG001
    """That the process answers."""
    return {"status": "alive"}


async def get_ready(api: Api, asked: Asked) -> Response:  # noqa: ARG001
    """Each check by name; 503 when one fails."""
    checks = api.port.checks()
    is_ready = all(check.ok for check in checks)
    named = {check.name: {"ok": check.ok, "detail": check.detail} for check in checks}
    return JSONResponse({"ready": is_ready, "checks": named}, 200 if is_ready else 503)


async def get_metrics(api: Api, asked: Asked) -> Response:  # noqa: ARG001
    """Counters and gauges in Prometheus' text form."""
    with api.port.snapshot() as view:
        counts = view.counts()
    figures = {"blocks": counts.blocks, "accounts": counts.accounts, "peers": len(api.port.peers())}
    figures |= {"api_event_streams": len(api.streams), "api_console_followers": len(api.consoles)}
    figures |= {"api_tunnels": len(api.tunnels)}
    figures |= {f"api_{name}": count for name, count in api.counts.items()}
    figures |= api.port.counters()
    lines = [f"xnode_{NOT_A_NAME.sub('_', name.lower())} {value}\n" for name, value in sorted(figures.items())]
    return PlainTextResponse("".join(lines), media_type=METRICS_TYPE)


async def list_peers(api: Api, asked: Asked) -> list[dict[str, object]]:  # noqa: ARG001
    """Connected peers."""
    return rendered(api.port.peers(), peer_json)


async def add_peer(api: Api, asked: Asked) -> dict[str, object]:
    """Dials a peer and keeps it until the node stops."""
    address = asked.body["address"]
    await api.bridge.call(api.port.add_peer, address)
    return {"address": address}


async def get_supply(api: Api, asked: Asked) -> dict[str, object]:  # noqa: ARG001
    """Units in each bucket of each asset, and whether the supply identity holds."""
    with api.port.snapshot() as view:
        totals = view.supply()
    named = {asset.name: {bucket.value: totals.get((asset, bucket), 0) for bucket in Bucket} for asset in Asset}
    return {**named, "balanced": supply_balances(totals)}


CALLS: Final = (
    Call("GET", "/node", "What this node is, its state and its peers", get_node, OBJECT),
    Call("GET", "/health", "Whether the process answers", get_health, record(status=word("alive"))),
    Call(
        "GET",
        "/ready",
        "Whether the node can do its work, check by check",
        get_ready,
        record(ready=BOOLEAN, checks={"type": "object", "additionalProperties": CHECK}),
        (503,),
    ),
    Call("GET", "/metrics", "Figures for Prometheus", get_metrics, TEXT, content_type="text/plain"),
    Call("GET", "/supply", "Where every unit is", get_supply, SUPPLY),
    Call("GET", "/peers", "Connected peers", list_peers, listing(PEER)),
    Call(
        "POST",
        "/peers",
        "Dial a peer and keep it until the node stops",
        add_peer,
        record(address=TEXT),
        (400, 401, 502, 503),
        body=(ADDRESS,),
        acting=True,
        price=10,
    ),
)
