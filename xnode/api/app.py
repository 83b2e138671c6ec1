"""The Starlette application: routes made from the table of calls, behind the edge."""

import time
from collections.abc import Awaitable, Callable
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from xnode.api import (
    accounts,
    attestations,
    blocks,
    consensus,
    console,
    hosting,
    leases,
    node,
    providers,
    statechain,
    tunnel,
    vms,
)
from xnode.api.bridge import Bridge
from xnode.api.calls import Api, Asked, Call
from xnode.api.edge import Edge
from xnode.api.errors import HttpFault, error_response
from xnode.api.guard import Guard
from xnode.api.openapi import documented
from xnode.api.parse import parse_fields, parse_json_object, parse_query, read_body
from xnode.api.port import NodePort
from xnode.api.settings import ApiSettings

NOUNS: Final = (
    leases,
    providers,
    hosting,
    attestations,
    vms,
    console,
    tunnel,
    node,
    accounts,
    blocks,
    consensus,
    statechain,
)
CALLS: Final = documented([call for noun in NOUNS for call in noun.CALLS])


def create_app(
    port: NodePort, bridge: Bridge, settings: ApiSettings, monotonic: Callable[[], float] = time.monotonic
) -> Starlette:
    """The API over a node; raises OperatorFault where the settings would leave it open to others."""
    api = Api(port, bridge, settings)
    guard = Guard(settings, monotonic)
    app = Starlette(
        routes=_routes(api, guard),
        middleware=[Middleware(Edge, api=api, guard=guard)],
        exception_handlers={HTTPException: _on_http_exception},
    )
    app.router.redirect_slashes = False
    app.state.guard = guard
    app.state.stopping = api.stopping
    return app


def _routes(api: Api, guard: Guard) -> list[Route]:
    by_path: dict[str, dict[str, Call]] = {}
    for call in CALLS:
        by_path.setdefault(call.path, {})[call.method] = call
    return [Route(path, _endpoint(api, guard, calls), methods=list(calls)) for path, calls in by_path.items()]


def _endpoint(api: Api, guard: Guard, calls: dict[str, Call]) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        call = calls["GET" if request.method == "HEAD" else request.method]
        guard.admit(request.scope, call)
        query = parse_query(request, call.query)
        answer = await call.handle(api, Asked(request, query, await _body(api, request, call)))
        return answer if isinstance(answer, Response) else JSONResponse(answer)

    return endpoint


async def _body(api: Api, request: Request, call: Call) -> dict[str, object]:
    if call.body is None:
        return {}
    data = await read_body(request, api.settings.body_bytes_max)
    document = {} if not data and call.body == () else parse_json_object(data)
    return parse_fields(document, call.body, "body") if isinstance(call.body, tuple) else document


async def _on_http_exception(request: Request, error: Exception) -> Response:  # noqa: ARG001 Starlette's shape
    """What Starlette's router refuses."""
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        allowed = dict(error.headers or {})
        text = f"this path takes {allowed.get('Allow', 'other methods')}; see GET /openapi.json"
        return error_response(HttpFault(405, "method_not_allowed", text, allowed))
    return error_response(HttpFault(error.status_code, "path_unknown", "no such path; see GET /openapi.json"))
