"""The TCP tunnel: the client's connection leaves HTTP and is joined to the lease's SSH port.

The far end is opened first, so every refusal is an ordinary answer. Then the client's socket is taken out of asyncio
and crosses to trio once; who takes it is decided under a lock, because either side may be cancelled in between.
"""

import logging
import threading
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from xnode.api.bridge import Bridge
from xnode.api.calls import Api, Asked, Call
from xnode.api.errors import HttpFault
from xnode.api.guard import Guard
from xnode.api.hijack import EXTENSION, Detached, Hijack
from xnode.api.parse import optional, path_hash
from xnode.api.port import AccessProof, TunnelEnd
from xnode.api.schema import TEXT
from xnode.core.faults import CallerFault, Fault, NotAllowed
from xnode.core.values import U64_MAX, signature_from_hex

log = logging.getLogger(__name__)

OPEN_SECONDS: Final = 60.0
SIGNATURE: Final = optional("X-Access-Signature", "text", "ed25519 by the lease's access key, 128 hex characters")
TIMESTAMP: Final = optional("X-Access-Timestamp", "text", "Unix nanoseconds that the signature covers")


class Handover:
    """A client's socket on its way from asyncio to trio: exactly one side takes it."""

    def __init__(self, client: Detached) -> None:
        self.client = client
        self._lock = threading.Lock()
        self._is_taken = False

    def take(self) -> bool:
        """True for the first to ask."""
        with self._lock:
            is_first, self._is_taken = not self._is_taken, True
        return is_first

    async def join(self, end: TunnelEnd) -> None:
        """On the trio loop."""
        if not self.take():
            return
        try:
            await end.join(*self.client)
        except BaseException:
            self.client.sock.close()
            raise

    async def cross(self, bridge: Bridge, end: TunnelEnd) -> None:
        """On the HTTP thread; there is no way left to tell the client of a fault but to close."""
        try:
            await bridge.call(self.join, end)
        except Fault as fault:
            log.info("a tunnel ended before its first byte: %s", fault)
        finally:
            if self.take():
                self.client.sock.close()


class _Taken(Response):
    """Sends nothing: the connection has left HTTP."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Does nothing."""


def _proof(request: Request) -> AccessProof | None:
    signature, timestamp = request.headers.get(SIGNATURE.name), request.headers.get(TIMESTAMP.name)
    if signature is None and timestamp is None:
        return None
    try:
        is_number = timestamp is not None and timestamp.isdecimal() and len(timestamp) <= 20
        return AccessProof(signature_from_hex((signature or "").lower()), _timestamp(timestamp if is_number else None))
    except CallerFault as fault:
        raise _unproved(fault) from None


def _timestamp(text: str | None) -> int:
    if text is None or int(text) > U64_MAX:
        raise CallerFault("access_timestamp", "X-Access-Timestamp must be Unix nanoseconds")
    return int(text)


def _unproved(fault: CallerFault | NotAllowed) -> HttpFault:
    return HttpFault(401, fault.code, str(fault))


async def _abandon(end: TunnelEnd) -> None:
    await end.abandon()


async def open_tunnel(api: Api, asked: Asked) -> Response:
    """Raw bytes both ways after the answer's head."""
    request = asked.request
    lease_hash = path_hash(request, "lease")
    proof = _proof(request)
    if proof is None:
        guard: Guard = request.app.state.guard
        guard.check_token(request.headers)
    hijack = request.scope.get("extensions", {}).get(EXTENSION)
    if not isinstance(hijack, Hijack):
        raise CallerFault("tunnel_body", "a tunnel's request has no body, and its path as the request's target")
    open_end = api.port.open_tunnel
    try:
        end = await api.bridge.call(open_end, lease_hash, proof, deadline_s=OPEN_SECONDS, undo=_abandon)
    except NotAllowed as fault:
        raise _unproved(fault) from None
    try:
        client = await hijack.take()
    except BaseException:
        await api.bridge.call(end.abandon)
        raise
    await Handover(client).cross(api.bridge, end)
    return _Taken()


CALLS: Final = (
    Call(
        "POST",
        "/tunnel/{hash}/tcp",
        "Turn this connection into a raw tunnel to the machine's SSH port (101, or 200 without an Upgrade header)",
        open_tunnel,
        TEXT,
        (101, 400, 401, 404, 409, 410, 502, 503),
        headers=(SIGNATURE, TIMESTAMP),
        price=10,
        content_type="application/octet-stream",
    ),
)
