"""The HTTP edge: every request passes the guard here, and every error becomes an answer here."""

import asyncio
import logging
from collections.abc import Mapping

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from xnode.api.bridge import node_stopping
from xnode.api.calls import Api
from xnode.api.errors import INTERNAL, error_response, fault_in
from xnode.api.guard import Guard, cors_headers
from xnode.core.faults import Fault

log = logging.getLogger(__name__)

HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class _Answer:
    """Sends with the edge's headers, and knows whether it has begun."""

    def __init__(self, send: Send, api: Api) -> None:
        self._send = send
        self._api = api
        self.headers: dict[str, str] = dict(HEADERS)
        self.has_begun = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.has_begun = True
            self._api.counts[f"http_{message['status'] // 100}xx"] += 1
            headers = MutableHeaders(raw=message["headers"])
            for name, value in self.headers.items():
                headers[name] = value
        await self._send(message)


class Edge:
    """ASGI middleware around the routes."""

    def __init__(self, app: ASGIApp, api: Api, guard: Guard) -> None:
        self._app = app
        self._api = api
        self._guard = guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        answer = _Answer(send, self._api)
        try:
            await self._pass(scope, receive, answer)
        except ClientDisconnect:
            return
        except asyncio.CancelledError:
            if answer.has_begun or not self._api.stopping.is_set():
                raise
            await error_response(node_stopping())(scope, receive, answer.send)
        except Exception as error:  # the HTTP edge: whatever a handler lets through must not leave it untold
            if answer.has_begun:
                raise  # uvicorn logs it and cuts the connection, which is how a client learns of it now
            await error_response(_fault(error, scope))(scope, receive, answer.send)

    async def _pass(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        origin = self._guard.enter(scope)
        if origin is not None:
            is_preflight = scope["method"] == "OPTIONS"
            answer.headers |= cors_headers(origin, is_preflight)
            if is_preflight:
                await Response(status_code=204)(scope, receive, answer.send)
                return
        await self._app(scope, receive, answer.send)


def _fault(error: Exception, scope: Mapping[str, object]) -> Fault:
    """The fault to tell; what is none is ours, and logged without headers and body, which may hold secrets."""
    fault = fault_in(error)
    if fault is None:
        log.error("%s %s failed", scope["method"], scope["path"], exc_info=error)
    return fault or INTERNAL
